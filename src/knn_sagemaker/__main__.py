"""`python -m knn_sagemaker`."""

import sys

from knn_sagemaker.cli import main

if __name__ == "__main__":
    sys.exit(main())

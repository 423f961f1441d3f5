"""Leaves a classifier as MLServer loads it: `train_sklearn.py ROWS LABELS MODEL`."""

import sys

import joblib
import numpy as np
from sklearn.neighbors import KNeighborsClassifier

if __name__ == "__main__":
    rows, labels, model = sys.argv[1:]
    joblib.dump(KNeighborsClassifier(10).fit(np.load(rows), np.load(labels).astype(np.int64)), model)

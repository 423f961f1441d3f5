"""Trains, tunes, deploys and deletes on Amazon SageMaker, through boto3 alone; run by scripts/sagemaker."""

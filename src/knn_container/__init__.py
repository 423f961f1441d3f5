"""Trains and serves k-nearest neighbours in place of SageMaker's built-in k-NN."""

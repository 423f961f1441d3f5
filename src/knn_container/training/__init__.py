"""The training job. `run` tells its story; nothing here is needed to serve."""

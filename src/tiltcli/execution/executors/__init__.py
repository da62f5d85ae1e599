"""Running tasks in parallel; knows nothing of training."""

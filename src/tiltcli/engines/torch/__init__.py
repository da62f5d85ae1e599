"""The torch engine: any network, minibatches, checkpoints, CUDA."""

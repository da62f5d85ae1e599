"""A sweep on a Dask cluster: what its client does, and what runs on the workers."""

from tiltcli.remote.client import ClusterTrainer

__all__ = ["ClusterTrainer"]

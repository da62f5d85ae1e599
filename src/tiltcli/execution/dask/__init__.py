"""A sweep on a Dask cluster: what its client does, and what runs on the workers."""

from tiltcli.execution.dask.client import ClusterTrainer

__all__ = ["ClusterTrainer"]

"""Data sets by name, as NumPy arrays; nothing here is ever unpickled."""

from tiltcli.data.arrays import Dataset, Part
from tiltcli.data.datasets import load_dataset
from tiltcli.data.loading import dataset_of

__all__ = ["Dataset", "Part", "dataset_of", "load_dataset"]

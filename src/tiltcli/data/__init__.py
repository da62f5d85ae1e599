"""Data sets by name, as NumPy arrays; nothing here is ever unpickled."""

from tiltcli.data.arrays import Dataset, Part
from tiltcli.data.loading import dataset_of, downloads_of, fetch_for, load_dataset

__all__ = ["Dataset", "Part", "dataset_of", "downloads_of", "fetch_for", "load_dataset"]

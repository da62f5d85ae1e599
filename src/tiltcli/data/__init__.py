"""Data sets by name, as NumPy arrays; nothing here is ever unpickled."""

from tiltcli.data.datasets import Dataset, Part, load_dataset

__all__ = ["Dataset", "Part", "load_dataset"]

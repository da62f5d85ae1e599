"""The spiral of the paper's simple model (arXiv:2102.03793, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tiltcli.data.arrays import Dataset, Part


def spiral(
    seed: int,
    points_per_class: int = 100,
    classes: int = 3,
    revolutions: float = 4.0,
    noise: float = 0.2,
) -> Part:
    """Return a spiral of (classes · points_per_class, 2) float64, class after class.

    Radii go from 0 to 1; the angle spans revolutions · π, as in the authors' code, so that 4 are
    two full turns, and has normal noise, in radians.
    """
    # NumPy's legacy generator: so the authors' own points come out.
    generator = np.random.RandomState(seed)
    radius = np.linspace(0.0, 1.0, points_per_class)
    points = []
    for label in range(classes):
        start = 2 * np.pi * label / classes
        angle = np.linspace(start, start + revolutions * np.pi, points_per_class)
        with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused later
            angle = angle + noise * generator.randn(points_per_class)
            points.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    labels = np.repeat(np.arange(classes, dtype=np.int64), points_per_class)
    return Part(np.concatenate(points), labels)


def spiral_dataset(settings: Mapping[str, Any]) -> Dataset:
    """Draw training, validation and test parts; the latter two are fresh draws (seed + 1, + 2)."""
    names = ("points_per_class", "classes", "revolutions", "noise")
    shape = {name: settings[f"data.{name}"] for name in names}
    train, val, test = (spiral(settings["data.seed"] + draw, **shape) for draw in range(3))
    return Dataset(train, val, test, shape["classes"], tuple(map(str, range(shape["classes"]))))

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
    """Draw a spiral.

    Args:
        seed: of NumPy's legacy generator, so that the authors' own points come out.
        points_per_class: N, radii from 0 to 1.
        classes: number of arms.
        revolutions: half turns of an arm, θ spans revolutions · π, as in the authors' code: 4 are
            two full turns.
        noise: standard deviation of the angle, radians.

    Returns:
        inputs of shape (classes · N, 2), float64, and labels, class after class.

    """
    # The published experiment is defined by the legacy generator.
    generator = np.random.RandomState(seed)
    radius = np.linspace(0.0, 1.0, points_per_class)
    points = []
    for label in range(classes):
        start = 2 * np.pi * label / classes
        angle = np.linspace(start, start + revolutions * np.pi, points_per_class)
        angle = angle + noise * generator.randn(points_per_class)
        points.append(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1))
    labels = np.repeat(np.arange(classes, dtype=np.int64), points_per_class)
    return Part(np.concatenate(points), labels)


def spiral_dataset(settings: Mapping[str, Any]) -> Dataset:
    """Draw training, validation and test parts; the latter two are fresh draws (seed + 1, + 2)."""
    seed, classes = settings["data.seed"], settings["data.classes"]
    shape = (
        settings["data.points_per_class"],
        classes,
        settings["data.revolutions"],
        settings["data.noise"],
    )
    train, val, test = (spiral(seed + offset, *shape) for offset in range(3))
    return Dataset(train, val, test, classes, tuple(str(c) for c in range(classes)))

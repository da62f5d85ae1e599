"""Every setting of a grid file, described once: what any part of the tool asks is asked here.

A setting that does not apply to a job (a static job has no amplitude) is left out of it, so that
equal work has equal settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tiltcli.grid.conditions import Unless, When
from tiltcli.grid.dataset_settings import OF_DATA, PICTURES
from tiltcli.grid.setting_types import (
    ALL,
    Aspect,
    Setting,
    SettingTable,
    arguments,
    choice,
    text,
    whole,
)
from tiltcli.grid.training_settings import OF_TRAINING

_MLP = When("model.kind", ("mlp",))
_OWN = When("model.kind", ("python",))

_TABLE: tuple[Setting, ...] = (
    *OF_DATA,
    choice(
        "model.kind",
        *("mlp", "myrtle5", "python"),
        meaning="network: mlp has hidden layers of ReLUs, myrtle5 four convolutions, python is "
        "your own",
        default="mlp",
        decides=("data", "network", "cost", "probe"),  # pictures for it, or plain vectors
        fused=("mlp",),
    ),
    whole(
        "model.width",
        *(1, 10_000_000),
        meaning="units of a hidden layer, or channels; python: where the factory takes it",
        default=None,
        unit="1",
        needed=When("model.kind", ("mlp", "myrtle5")),
        decides=("network", "cost", "probe"),
        fused=ALL,
    ),
    whole(
        "model.depth",
        *(1, 1000),
        meaning="hidden layers of a mlp",
        default=1,
        unit="1",
        applies=_MLP,
        decides=("network", "cost", "probe"),
        fused=ALL,
        since_stored=True,
    ),
    text(
        "model.factory",
        '"file.py:function", relative to the grid file, or "package.module:function"',
        meaning="function that returns a torch.nn.Module giving logits; called with what it takes "
        "of width, sample_shape and classes, and with the arguments",
        default=None,
        applies=_OWN,
        needed=_OWN,
        decides=("network", "cost", "probe"),
    ),
    arguments(
        "model.args",
        meaning="further argument of the factory",
        applies=_OWN,
        decides=("network", "cost", "probe"),
    ),
    text(
        "model.init_file",
        "the path of an .npz file with the network's parameters",
        meaning="initial parameters, instead of random ones",
        default=None,
        applies=Unless("model.kind", ("python",)),
        decides=("network",),
        fused=ALL,
    ),
    *OF_TRAINING,
)

SETTINGS: dict[str, Setting] = SettingTable({setting.key: setting for setting in _TABLE})
"""All settings by key. A setting comes after those that decide whether it applies."""


def position(key: str) -> int:
    """Return the place of a setting in the table; arguments of a factory stand where all do."""
    return _PLACES.get(key, _PLACES.get(key.rpartition(".")[0], len(_PLACES)))


_PLACES = {key: place for place, key in enumerate(SETTINGS)}


def given_arguments(settings: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Arguments that a job's settings have in a table, such as `model.args`, by their names."""
    return {
        key.removeprefix(f"{table}."): value
        for key, value in settings.items()
        if key.startswith(f"{table}.")
    }


PATHS: dict[str, str] = {
    "data.path": "data.digest",
    "data.val_path": "data.val_digest",
    "data.test_path": "data.test_digest",
    "data.factory": "data.factory_digest",
    "model.factory": "model.factory_digest",
    "model.init_file": "model.init_digest",
}
"""Settings that name a file. The job's identity is the file's content, not where it lies."""

FACTORIES = {"data.factory": "data.args", "model.factory": "model.args"}
"""Settings that name a function of the user's, and the tables of its arguments."""

TABLES = ("data", "model", "loss", "train")


def finish(settings: dict[str, Any]) -> None:
    """Fill in, in place, the defaults that depend on other settings."""
    if settings.get("data.standardize") is None:
        settings["data.standardize"] = settings.get("data.kind") in ("digits", *PICTURES)


def _columns(chosen: Callable[[Setting], bool]) -> tuple[str, ...]:
    """Columns of some settings, in their order; of a file that of its digest."""
    return tuple(PATHS.get(key, key) for key, setting in SETTINGS.items() if chosen(setting))


def _deciding(aspect: Aspect) -> tuple[str, ...]:
    return _columns(lambda setting: aspect in setting.decides)


@cache
def replicates() -> tuple[str, ...]:
    """Settings that only repeat the experiment."""
    return _columns(lambda setting: setting.replicate)


def stepping() -> tuple[str, ...]:
    """Settings that say how an update follows from a gradient."""
    return _columns(lambda setting: setting.steps)


METHODS = ("loss.kind",)
"""Settings that tell methods apart, unless others are named."""

BY = ("model.kind", "model.width", "model.depth")
"""Settings that tell rows apart, unless others are named; and all of the data."""


def tells_rows(key: str) -> bool:
    """Whether a setting tells rows of a comparison apart, unless others are named."""
    return (key in BY or key.startswith("data.")) and key not in replicates()


def setting_key(key: str) -> str:
    """Return the job's own setting for a key as the grid file has it."""
    return "train.seed" if key == "train.seeds" else key


def file_keys() -> list[str]:
    """Keys as the grid file has them."""
    return ["train.seeds" if key == "train.seed" else key for key in SETTINGS]


def tilting() -> tuple[str, ...]:
    """Settings that dynamical jobs have and static jobs do not."""
    static = {"loss.kind": "static"}
    return _columns(lambda one: one.key.startswith("loss.") and not one.applies(static))


def data_settings() -> tuple[str, ...]:
    """Settings that decide the data set as the network takes it; digests stand for files."""
    return _deciding("data")


def network_settings() -> tuple[str, ...]:
    """Settings that decide, beside the data, whether there can be such a network."""
    return _deciding("network")


def cost_settings() -> tuple[str, ...]:
    """Settings that decide the seconds a step costs, those of the data included."""
    return _deciding("cost")


def probing_settings() -> tuple[str, ...]:
    """Settings that decide what a probe of the curvature costs, those of the data included."""
    return _deciding("probe")


def later_settings() -> tuple[Setting, ...]:
    """Settings that came after the first runs were stored."""
    return tuple(s for s in SETTINGS.values() if s.since_stored and not s.output)


def outputs() -> tuple[str, ...]:
    """Settings that say only what is written."""
    return _columns(lambda setting: setting.output)

"""The settings of a grid file by name: what any part of the tool asks of them is asked here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tiltcli.grid.setting_table import PICTURES, TABLE
from tiltcli.grid.setting_types import Aspect, Setting, SettingTable

SETTINGS: dict[str, Setting] = SettingTable({setting.key: setting for setting in TABLE})
_PLACES = {key: place for place, key in enumerate(SETTINGS)}


def position(key: str) -> int:
    """Return the place of a setting in the table; arguments of a factory stand where all do."""
    return _PLACES.get(key, _PLACES.get(key.rpartition(".")[0], len(_PLACES)))


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


def deciding(aspect: Aspect) -> tuple[str, ...]:
    """Settings that decide something else (see `Setting.decides`); digests stand for files."""
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


def later_settings() -> tuple[Setting, ...]:
    """Settings that came after the first runs were stored."""
    return tuple(s for s in SETTINGS.values() if s.since_stored and not s.output)


def outputs() -> tuple[str, ...]:
    """Settings that say only what is written."""
    return _columns(lambda setting: setting.output)

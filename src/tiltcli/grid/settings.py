"""Every setting of a grid file: its type, its default, what is allowed, and when it applies.

One table serves validation, the jobs' columns and the messages. A setting that does not apply to a
job (a static job has no amplitude) is left out of it, so that equal work has equal settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, WithJsonSchema

REQUIRED = object()
"""Default of a setting that has none."""

Values = Mapping[str, Any]


def _number(value: object) -> object:
    """Refuse what pydantic would quietly turn into a number: true, "3"."""
    if isinstance(value, bool | str) or not isinstance(value, int | float):
        raise ValueError("not a number")
    return value


def _whole(value: object) -> object:
    """Take 3.0 for 3: an axis given by linspace or logspace has floats."""
    value = _number(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError("not a whole number")
    return value


def _flag(value: object) -> object:
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value


def _words(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a text")
    return value


def _schedule(value: object) -> object:
    """Check (fraction, factor) pairs and bring them to floats."""
    adapter: TypeAdapter[list[tuple[float, float]]] = TypeAdapter(list[tuple[float, float]])
    pairs = adapter.validate_python(value)
    fractions = [pair[0] for pair in pairs]
    if not pairs or fractions != sorted(fractions) or len(set(fractions)) < len(fractions):
        raise ValueError("fractions must rise")
    if not all(0 <= x <= 1 and 0 <= y < math.inf for x, y in pairs):
        raise ValueError("out of range")
    return [list(pair) for pair in pairs]


def _split(value: object) -> object:
    adapter: TypeAdapter[tuple[float, float, float]] = TypeAdapter(tuple[float, float, float])
    parts = adapter.validate_python(value)
    if not (parts[0] > 0 and min(parts) >= 0 and abs(sum(parts) - 1) < 1e-9):
        raise ValueError("not shares of one")
    return list(parts)


_LARGEST = 2**53  # beyond it a float no longer holds every whole number

Count = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=_LARGEST)]
Natural = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=_LARGEST)]
Seed = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=2**32 - 3)]
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_words), Field(min_length=1)]

_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_SHARES = {"type": "array", "items": _SHARE, "minItems": 3, "maxItems": 3}
_PAIR = {
    "type": "array",
    "prefixItems": [_SHARE, {"type": "number", "minimum": 0}],
    "minItems": 2,
    "maxItems": 2,
}
_PAIRS = {"type": "array", "items": _PAIR, "minItems": 1}


@dataclass(frozen=True)
class When:
    """A condition on an earlier setting.

    Attributes:
        key: the setting.
        values: its values for which the condition holds.

    """

    key: str
    values: tuple[str, ...]

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return settings.get(self.key) in self.values

    def __str__(self) -> str:
        return f"{self.key} = " + " or ".join(f'"{value}"' for value in self.values)


@dataclass(frozen=True)
class Setting:
    """One setting of the grid file.

    Attributes:
        key: dotted name, also its column in the jobs table.
        type: annotated type that pydantic validates.
        allowed: what is allowed, in words, for messages.
        default: value where the file says nothing; REQUIRED if there is none; None if unset.
        needed: where the default is None: jobs with these (earlier) settings need a value.
        applies: whether a job with these (earlier) settings has this setting at all.
        depth: how deep a list its plain value is; one deeper is an axis.
        arrow: Arrow type of its column.

    """

    key: str
    type: Any
    allowed: str
    default: Any = REQUIRED
    applies: Callable[[Values], bool] = lambda _: True
    depth: int = 0
    arrow: str = "string"
    needed: Callable[[Values], bool] = lambda _: False

    def validate(self, value: object) -> Any:
        """Bring a value to its one canonical form (1 and 1.0 are the same amplitude).

        Raises:
            ValueError: if the value is not allowed.

        """
        try:
            return self._adapter.validate_python(value)
        except (ValidationError, OverflowError) as error:
            raise ValueError(self.allowed) from error

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.type)

    def default_for(self, settings: Values) -> Any:
        """Value where the file says nothing, for a job with these (earlier) settings."""
        return REQUIRED if self.default is None and self.needed(settings) else self.default

    @property
    def whole(self) -> bool:
        """Whether values are whole numbers, so that a computed axis is rounded to them."""
        return self.arrow == "int64"


def _is(key: str, *values: str) -> When:
    return When(key, values)


def _all(*tests: Callable[[Values], bool]) -> Callable[[Values], bool]:
    return lambda settings: all(test(settings) for test in tests)


def _choice(key: str, *names: str, default: Any = REQUIRED, **more: Any) -> Setting:
    quoted = " | ".join(f'"{name}"' for name in names)
    return Setting(key, Literal[names], quoted, default, **more)


_SPIRAL = _is("data.kind", "spiral")
_FILE = _is("data.kind", "file")
_DYNAMICAL = _is("loss.kind", "dynamical")
_SGD = _is("train.optimizer", "sgd")


def _uses_data_seed(settings: Values) -> bool:
    """A file that brings its own split leaves nothing to chance."""
    return not _FILE(settings) or settings.get("data.split") is not None


_TABLE: tuple[Setting, ...] = (
    _choice("data.kind", "spiral", "digits", "cifar10", "file"),
    Setting(
        "data.path",
        Text,
        "the path of an .npz, .parquet or .csv file (cifar10: of its archive or folder)",
        None,
        _is("data.kind", "file", "cifar10"),
        needed=_FILE,
    ),
    Setting("data.target", Text, "the name of the label column", None, _FILE),
    Setting(
        "data.split",
        Annotated[list[float], BeforeValidator(_split), WithJsonSchema(_SHARES)],
        "three shares for training, validation and test that add up to 1",
        None,
        _FILE,
        depth=1,
    ),
    Setting(
        "data.seed", Seed, "a whole number from 0 to 4294967293", 0, _uses_data_seed, arrow="int64"
    ),
    Setting(
        "data.points_per_class",
        Annotated[Count, Field(ge=2, le=10_000_000)],
        "a whole number ≥ 2",
        100,
        _SPIRAL,
        arrow="int64",
    ),
    Setting(
        "data.classes",
        Annotated[Count, Field(ge=2, le=10_000)],
        "a whole number ≥ 2",
        3,
        _SPIRAL,
        arrow="int64",
    ),
    Setting("data.revolutions", Real, "a number", 4.0, _SPIRAL, arrow="float64"),
    Setting(
        "data.noise", Annotated[Real, Field(ge=0)], "a number ≥ 0", 0.2, _SPIRAL, arrow="float64"
    ),
    Setting("data.standardize", Flag, "true | false", None, arrow="bool"),
    _choice("model.kind", "mlp", "myrtle5", default="mlp"),
    Setting(
        "model.width", Annotated[Count, Field(le=10_000_000)], "a whole number ≥ 1", arrow="int64"
    ),
    Setting(
        "model.init_file", Text, "the path of an .npz file with the network's parameters", None
    ),
    _choice("loss.kind", "static", "dynamical", default="dynamical"),
    _choice("loss.base", "cross_entropy", "mse", default="cross_entropy"),
    Setting(
        "loss.amplitude",
        Annotated[Real, Field(ge=1)],
        "a number ≥ 1",
        applies=_DYNAMICAL,
        arrow="float64",
    ),
    Setting("loss.period", Count, "a whole number of steps ≥ 1", applies=_DYNAMICAL, arrow="int64"),
    Setting("loss.rest", Natural, "a whole number of steps ≥ 0", 0, _DYNAMICAL, arrow="int64"),
    Setting("loss.settle", Natural, "a whole number of steps ≥ 0", 0, _DYNAMICAL, arrow="int64"),
    _choice("loss.shape", "triangle", "sine", "square", default="triangle", applies=_DYNAMICAL),
    Setting("train.epochs", Count, "a whole number ≥ 1", arrow="int64"),
    Setting("train.lr", Annotated[Real, Field(gt=0)], "a number > 0", 1.0, arrow="float64"),
    Setting(
        "train.lr_schedule",
        Annotated[list[list[float]], BeforeValidator(_schedule), WithJsonSchema(_PAIRS)],
        "pairs [fraction of training from 0 to 1, rising; factor ≥ 0]",
        None,
        depth=2,
    ),
    Setting("train.batch_size", Literal["full"] | Count, '"full" or a whole number ≥ 1', "full"),
    _choice("train.optimizer", "sgd", "adam", "adamw", default="sgd"),
    Setting(
        "train.momentum",
        Annotated[Real, Field(ge=0, lt=1)],
        "a number from 0 to below 1",
        0.0,
        _SGD,
        arrow="float64",
    ),
    Setting(
        "train.nesterov",
        Flag,
        "true | false (true needs train.momentum > 0)",
        False,
        _all(_SGD, lambda settings: (settings.get("train.momentum") or 0) > 0),
        arrow="bool",
    ),
    Setting(
        "train.weight_decay", Annotated[Real, Field(ge=0)], "a number ≥ 0", 0.0, arrow="float64"
    ),
    _choice("train.dtype", "float32", "float64", default="float32"),
    Setting("train.seed", Seed, "a whole number from 0 to 4294967293", 0, arrow="int64"),
    Setting("train.log_every", Count, "a whole number of epochs ≥ 1", 100, arrow="int64"),
)

SETTINGS: dict[str, Setting] = {setting.key: setting for setting in _TABLE}
"""All settings by key. A setting comes after those that decide whether it applies."""

PATHS: dict[str, str] = {
    "data.path": "data.digest",
    "model.init_file": "model.init_digest",
}
"""Settings that name a file. The job's identity is the file's content, not where it lies."""

LISTS: tuple[str, ...] = tuple(setting.key for setting in _TABLE if setting.depth)
"""Settings whose value is a list."""

TABLES = ("data", "model", "loss", "train")


def finish(settings: dict[str, Any]) -> None:
    """Fill in, in place, the defaults that depend on other settings."""
    if settings.get("data.standardize") is None:
        settings["data.standardize"] = settings.get("data.kind") in ("digits", "cifar10")

"""What a setting is: a description of one, when it applies, and the kinds of values there are.

The words for what is allowed are made of the very bounds that are checked.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Condition:
    """When a setting applies: what the settings before it must be, that says itself in words."""

    said: str
    keys: tuple[str, ...]  # settings that it looks at
    holds: Callable[[Values], bool]
    values: tuple[str, ...] = ()  # those that the one key of `when` may have

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return self.holds(settings)

    def __str__(self) -> str:
        return self.said


def given(key: str) -> Condition:
    """A setting is set."""
    return Condition(f"{key} is given", (key,), lambda job: job.get(key) is not None)


def above(key: str, bound: float = 0) -> Condition:
    """A setting is a number above a bound."""
    return Condition(f"{key} > {bound:g}", (key,), lambda job: (job.get(key) or 0) > bound)


def when(key: str, *values: str) -> Condition:
    """A setting has one of some values."""
    said = " or ".join(f'"{value}"' for value in values)
    return Condition(f"{key} = {said}", (key,), lambda job: job.get(key) in values, values)


def unless(key: str, *values: str) -> Condition:
    """A setting has none of some values."""
    said = " or ".join(f'"{value}"' for value in values)
    return Condition(f"{key} is not {said}", (key,), lambda job: job.get(key) not in values)


def both(*conditions: Condition) -> Condition:
    """All of some conditions hold; of none they always do."""
    said = " and ".join(map(str, conditions)) or "always"
    return Condition(said, _keys(conditions), lambda job: all(one(job) for one in conditions))


def either(*conditions: Condition) -> Condition:
    """One of some conditions holds; of none none does."""
    said = ", or ".join(map(str, conditions)) or "never"
    return Condition(said, _keys(conditions), lambda job: any(one(job) for one in conditions))


def _keys(conditions: Sequence[Condition]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for one in conditions for key in one.keys))


ALWAYS, NEVER = both(), either()

REQUIRED = object()
"""Default of a setting that has none."""

MOST_WHOLE = 2**53
"""Largest whole number; beyond it a float no longer holds every one."""

MOST_REAL = sys.float_info.max
"""Largest number: what a float can hold."""

MOST_SEED = 2**32 - 3  # NumPy's RandomState, and the two draws after it

Aspect = Literal["data", "network", "cost", "probe"]
ALL: Literal["all"] = "all"


@dataclass(frozen=True)
class Setting:
    """One setting of the grid file: all that any part of the tool knows of it."""

    key: str  # dotted name, also its column in the jobs table
    type: Any  # annotated type that pydantic validates
    allowed: str  # what is allowed, in words, for messages
    meaning: str  # what it means
    # value where the file says nothing; REQUIRED if there is none; None if unset
    default: Any = REQUIRED
    unit: str = ""  # "1" if dimensionless, "" if it is no quantity
    applies: Condition = ALWAYS  # which jobs, by their earlier settings, have this setting at all
    needed: Condition = NEVER  # where the default is None: which jobs need a value
    depth: int = 0  # how deep a list its plain value is; one deeper is an axis
    arrow: str = "string"  # Arrow type of its column
    # value that the column has null for; None if null is for what is not set alone
    null: str | None = None
    replicate: bool = False  # whether it only repeats the experiment
    steps: bool = False  # whether it says how an update follows from a gradient
    # what else depends on it: the data set as the network takes it; whether there can be such a
    # network on such data; the seconds a step costs; what a probe of the curvature costs and
    # whether it fits into memory
    decides: tuple[Aspect, ...] = ()
    # values that the fused kernel trains; ALL for every value. The kernel refuses a setting that
    # does not say so.
    fused: tuple[Any, ...] | Literal["all"] = ()
    # whether it came after the first runs were stored: its default is what those did, and is no
    # part of a job's identity
    since_stored: bool = False
    # whether it says only what is written beside the tables: then it is no part of a job's
    # identity, and has no column
    output: bool = False

    def validate(self, value: object) -> Any:
        """Return a value's one canonical form (1 and 1.0 are the same amplitude)."""
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

    def identifies(self, value: Any) -> bool:
        """Whether a value is part of a job's identity."""
        usual = self.since_stored and value == self.default
        return value is not None and not usual and not self.output

    def to_column(self, value: Any) -> Any:
        """Value as its column of the jobs table has it: a list is JSON text."""
        if value is None or value == self.null:
            return None
        return json.dumps(value) if self.depth or isinstance(value, list) else value

    @property
    def argument(self) -> bool:
        """Whether it is one of a user's own function."""
        return self.type is Argument


def alike(*settings: Setting, **shared: Any) -> tuple[Setting, ...]:
    """Settings with what they share, but for what they say themselves."""
    unsaid = {one.name: one.default for one in fields(Setting)}
    return tuple(
        replace(one, **{k: v for k, v in shared.items() if getattr(one, k) == unsaid[k]})
        for one in settings
    )


def choice(key: str, meaning: str, *names: str, **more: Any) -> Setting:
    """One of some names, by default the first."""
    allowed = " | ".join(f'"{name}"' for name in names)
    return Setting(key, Literal[names], allowed, meaning, **{"default": names[0], **more})


def arguments(key: str, meaning: str, **more: Any) -> Setting:
    """Return the table of the arguments of a user's own function: each a setting, `key.NAME`."""
    return Setting(key, Arguments, f"a table, [{key}]", meaning, default=None, **more)


def argument(table: Setting, name: str) -> Setting:
    """One of the arguments."""
    return replace(
        table,
        key=f"{table.key}.{name}",
        type=Argument,
        allowed='a number, true, false, a text that does not begin with "[", or an axis of these '
        "or of lists of them",
        meaning=f"{name}, {table.meaning}",
        arrow="float64",
    )


def flag(key: str, meaning: str, allowed: str = "true | false", **more: Any) -> Setting:
    """True or false."""
    return Setting(key, StrictBool, allowed, meaning, arrow="bool", **more)


def text(key: str, meaning: str, allowed: str, **more: Any) -> Setting:
    """Any text, unset by default, with the words for what it is."""
    kind = Annotated[str, Field(min_length=1), BeforeValidator(_words)]
    return Setting(key, kind, allowed, meaning, default=None, **more)


def whole(
    key: str,
    meaning: str,
    least: int = 1,
    most: int = MOST_WHOLE,
    *,
    of: str = "",
    word: str | None = None,
    **more: Any,
) -> Setting:
    """Return a setting of a whole number of something, or a word that is none."""
    kind: Any = Annotated[int, Field(ge=least, le=most), BeforeValidator(_whole)]
    allowed = f"a whole number{f' of {of}' if of else ''} ≥ {least}, at most {most}"
    if word:
        kind, allowed = Literal[word] | kind, f'"{word}" or {allowed}'
    own = {"unit": of.removesuffix("s") or "1", **more}
    return Setting(key, kind, allowed, meaning, arrow="int64", null=word, **own)


def seed(key: str, meaning: str, **more: Any) -> Setting:
    """The seed of a generator of random numbers; it only repeats the experiment."""
    kind = Annotated[int, Field(ge=0, le=MOST_SEED), BeforeValidator(_whole)]
    allowed = f"a whole number from 0 to {MOST_SEED}"
    return Setting(key, kind, allowed, meaning, 0, arrow="int64", replicate=True, **more)


def real(
    key: str,
    meaning: str,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    **more: Any,
) -> Setting:
    """Return a setting that is a number; without `below`, at most MOST_REAL."""
    floor = -MOST_REAL if least is None and above is None else least
    ceiling = MOST_REAL if below is None else None
    bounds: Any = Field(ge=floor, gt=above, le=ceiling, lt=below, allow_inf_nan=False)
    kind = Annotated[float, bounds, BeforeValidator(_number)]
    low = f"≥ {floor:g}" if above is None else f"> {above:g}"
    high = f"at most {MOST_REAL:g}" if below is None else f"below {below:g}"
    own = {"unit": "1", **more}
    return Setting(key, kind, f"a number {low}, {high}", meaning, arrow="float64", **own)


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


def _words(value: object) -> object:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("not a text")
    return value


def _rising(pairs: list[tuple[float, float]]) -> list[list[float]]:
    fractions = [fraction for fraction, _ in pairs]
    if fractions != sorted(set(fractions)):
        raise ValueError("fractions must rise")
    return [list(pair) for pair in pairs]


def _of_one(shares: list[float]) -> list[float]:
    if not (shares[0] > 0 and math.isclose(sum(shares), 1, abs_tol=1e-9)):
        raise ValueError("not shares of one")
    return shares


def _argument(value: object) -> object:
    if isinstance(value, list) and not any(isinstance(one, list) for one in value):
        return [_argument(one) for one in value]
    if isinstance(value, str):
        value = _words(value)
    if not isinstance(value, bool | int | float | str) or str(value).startswith("["):
        raise ValueError("no argument")
    if not isinstance(value, str) and not -MOST_REAL <= value <= MOST_REAL:
        raise ValueError("out of range")
    return value


Argument = Annotated[
    Any, BeforeValidator(_argument), WithJsonSchema({"type": ["boolean", "number", "string"]})
]
"""What TOML can say to a function of the user's."""

Arguments = Annotated[dict[str, Any], WithJsonSchema({"type": "object"})]
"""A table of them."""

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Factor = Annotated[float, Field(ge=0, le=MOST_REAL, allow_inf_nan=False)]

Shares = Annotated[list[_Share], Field(min_length=3, max_length=3), AfterValidator(_of_one)]
"""Shares of a training, a validation and a test part."""

Factors = Annotated[list[tuple[_Share, _Factor]], Field(min_length=1), AfterValidator(_rising)]
"""Pairs of a fraction of the training and a factor."""


class SettingTable(dict[str, Setting]):
    """Settings by key; the arguments of a factory, `model.args.NAME`, are found but not listed."""

    def __missing__(self, key: str) -> Setting:
        table, _, name = key.rpartition(".")
        if not (super().__contains__(table) and self[table].type is Arguments and name):
            raise KeyError(key)
        return argument(self[table], name)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the setting, or `default` where there is none."""
        try:
            return self[key]
        except KeyError:
            return default

    def __contains__(self, key: object) -> bool:
        table = str(key).rpartition(".")[0]
        return super().__contains__(key) or (
            super().__contains__(table) and self[table].type is Arguments
        )

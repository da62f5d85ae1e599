"""When a setting applies: conditions on the settings before it, that say themselves in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Given:
    """A setting is set."""

    key: str

    @property
    def keys(self) -> tuple[str, ...]:
        """Settings that it looks at."""
        return (self.key,)

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return settings.get(self.key) is not None

    def __str__(self) -> str:
        return f"{self.key} is given"


@dataclass(frozen=True)
class Above(Given):
    """A setting is a number above a bound."""

    bound: float = 0

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return (settings.get(self.key) or 0) > self.bound

    def __str__(self) -> str:
        return f"{self.key} > {self.bound:g}"


@dataclass(frozen=True)
class When(Given):
    """A setting has one of some values."""

    values: tuple[str, ...]

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return settings.get(self.key) in self.values

    def __str__(self) -> str:
        return f"{self.key} = " + " or ".join(f'"{value}"' for value in self.values)


@dataclass(frozen=True)
class Unless(When):
    """A setting has none of some values."""

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return settings.get(self.key) not in self.values

    def __str__(self) -> str:
        return super().__str__().replace(" = ", " is not ", 1)


@dataclass(frozen=True)
class Both:
    """All of some conditions hold; of none they always do."""

    conditions: tuple[Given | Both, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Settings that they look at."""
        return tuple(dict.fromkeys(key for one in self.conditions for key in one.keys))

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return all(one(settings) for one in self.conditions)

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions)) or "always"


@dataclass(frozen=True)
class Either(Both):
    """One of some conditions holds; of none none does."""

    def __call__(self, settings: Values) -> bool:
        """Whether it holds for a job with these settings."""
        return any(one(settings) for one in self.conditions)

    def __str__(self) -> str:
        return ", or ".join(map(str, self.conditions)) or "never"


Condition = Given | Both
ALWAYS, NEVER = Both(), Either()

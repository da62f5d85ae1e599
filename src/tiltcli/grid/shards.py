"""A share of a grid's jobs, as an array job of a batch system takes it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tiltcli.errors import UserError

Item = TypeVar("Item")
MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """The `index`-th of `count` shares, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard that `I/N` says, I from 1 to N."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip(), re.ASCII)
        if found:
            shard = cls(int(found[1]), int(found[2]))
            if 1 <= shard.index <= shard.count <= MOST_SHARDS:
                return shard
        raise UserError(
            f"--shard: got {text!r}; allowed: I/N with I from 1 to N, as 3/16 "
            f"(N at most {MOST_SHARDS})"
        )

    def __str__(self) -> str:
        """As the user writes it."""
        return f"{self.index}/{self.count}"

    @property
    def name(self) -> str:
        """Name of its writer."""
        return f"s{self.index}of{self.count}"

    def apart(self, writer: str) -> bool:
        """Whether a writer is another shard of the same division, which shares no job with it."""
        found = re.fullmatch(r"s(\d+)of(\d+)", writer)
        return found is not None and int(found[2]) == self.count and int(found[1]) != self.index

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `count`-th item from the `index`-th on."""
        return items[self.index - 1 :: self.count]

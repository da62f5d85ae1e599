"""A job and its identity."""

from __future__ import annotations

import hashlib
import json
from collections import ChainMap
from collections.abc import ItemsView, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tiltcli.grid.settings import FACTORIES, PATHS, SETTINGS, given_arguments


class Settings(ChainMap[str, Any]):
    """Settings of a job: the few that are its own, before those it shares with many others.

    So a hundred thousand jobs do not hold the same thirty settings each. What is looked up often
    is written out, for a chain of maps is slow.
    """

    def __getitem__(self, key: str) -> Any:
        own, shared = self.maps
        return own[key] if key in own else shared[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a setting, or `default` where there is none."""
        own, shared = self.maps
        return own[key] if key in own else shared.get(key, default)

    def items(self) -> ItemsView[str, Any]:
        """Names and values."""
        own, shared = self.maps
        return {**shared, **own}.items()


@dataclass(frozen=True, slots=True)
class Job:
    """One training to do: only the settings that apply to it, validated, under dotted names."""

    id: str  # hash of the settings, the same on every machine and under every name of the run
    settings: Mapping[str, Any]  # dotted name → value
    # dotted name → the path as this machine finds it (never part of the id)
    files: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a setting, or `default` where it does not apply."""
        return self.settings.get(key, default)


def texts(job: Job, names: Sequence[str]) -> tuple[str, ...]:
    """Values of some settings as text, to tell jobs apart; `model.args` are all its arguments."""
    values = (
        given_arguments(job.settings, name) if name.endswith(".args") else job.get(name)
        for name in names
    )
    return tuple([str(value) for value in values])


def varying_settings(jobs: Sequence[Job]) -> tuple[str, ...]:
    """Settings that not all of some jobs have, or not with the same value; in their order."""
    own = (
        key
        for job in jobs
        if any(job.get(factory) for factory in FACTORIES)
        for key in job.settings
        if key in SETTINGS
    )
    names = dict.fromkeys((*SETTINGS, *PATHS.values(), *own))
    first = {name: jobs[0].get(name) for name in names} if jobs else {}
    found: set[str] = set()
    for job in jobs:
        found.update(name for name in first if name not in found and job.get(name) != first[name])
    return tuple(name for name in names if name in found)


def several_values(jobs: Iterable[Job], first: Iterable[str] = ()) -> dict[str, tuple[Any, ...]]:
    """Return the values of every setting that jobs take several of, `first` before others."""
    axes, jobs = {}, tuple(jobs)
    for key in dict.fromkeys((*first, *SETTINGS)):
        values = {repr(value): value for job in jobs if (value := job.get(key)) is not None}
        if len(values) > 1 and key not in PATHS:
            axes[key] = tuple(values.values())
    return axes


def job_id(settings: Mapping[str, Any]) -> str:
    """Return the identity of a job: 16 hexadecimal digits of its settings' SHA-256.

    Settings that are not set, paths (their files' digests stand for them), and defaults of settings
    that came after the first runs were stored, do not count; the order of the keys does not matter.
    """
    return id_of_text(identity_text(settings))


def _identifies(key: str, value: Any) -> bool:
    if key in PATHS or value is None:
        return False
    setting = SETTINGS.get(key)
    return setting is None or setting.identifies(value)


def identity_text(settings: Mapping[str, Any]) -> str:
    """Text of the settings that a job's identity is the hash of, the same for equal jobs."""
    identity = {key: value for key, value in settings.items() if _identifies(key, value)}
    return json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def id_of_text(text: str) -> str:
    """Identity of the job with this text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""A job and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tiltcli.spec.settings import PATHS


@dataclass(frozen=True)
class Job:
    """One training to do: only the settings that apply to it, validated, under dotted names.

    Attributes:
        id: hash of the settings, the same on every machine and under every name of the run.
        settings: dotted name → value.
        files: dotted name → the path as this machine finds it (never part of the id).

    """

    id: str
    settings: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        """Value of a setting.

        Raises:
            KeyError: if the setting does not apply to this job.

        """
        return self.settings[key]

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a setting, or `default` where it does not apply."""
        return self.settings.get(key, default)


def job_id(settings: Mapping[str, Any]) -> str:
    """Return the identity of a job: 16 hexadecimal digits of its settings' SHA-256.

    Settings that are not set, and paths (their files' digests stand for them), do not count; the
    order of the keys does not matter.
    """
    counted = {k: v for k, v in settings.items() if v is not None and k not in PATHS}
    text = json.dumps(counted, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

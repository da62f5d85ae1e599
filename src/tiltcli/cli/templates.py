"""The grid files that `tiltcli new` writes."""

from __future__ import annotations

from importlib import resources


def templates() -> dict[str, str]:
    """Texts of the shipped grid files, by name."""
    folder = resources.files("tiltcli") / "grid" / "templates"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
        if entry.name.endswith(".toml")
    }

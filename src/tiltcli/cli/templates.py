"""The grid files that `tiltcli new` writes."""

from __future__ import annotations

from importlib import resources

FOLDER = resources.files("tiltcli") / "grid" / "templates"
"""The starters; in its folder `shipped`, the grid files of the repository's `sweeps`."""


def templates() -> dict[str, str]:
    """Texts of the grid files, by name: starters, then the shipped sweeps."""
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for folder in (FOLDER, FOLDER / "shipped")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name.removesuffix(".toml"))
        if entry.name.endswith(".toml")
    }

"""What the shell completes: names of runs, templates and kinds; at once, so nothing heavy loads."""

from __future__ import annotations

from pathlib import Path

import typer


def run_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the runs under --results that begin so, and that the line does not name yet.

    The store's reader would load pandas, and the shell waits: the folder is looked at directly.
    """
    results = Path(ctx.params.get("results") or "results")
    given = ctx.params.get("runs") or ()
    names = sorted(path.parent.name for path in results.glob("*/sweep.toml"))
    return [name for name in names if name.startswith(incomplete) and name not in given]


def template_names(incomplete: str) -> list[str]:
    """Templates of `tiltcli new` that begin so."""
    from tiltcli.cli.templates import templates

    return [name for name in templates() if name.startswith(incomplete)]


def kind_names(incomplete: str) -> list[tuple[str, str]]:
    """Kinds of `tiltcli plot` that begin so, with what they show."""
    from tiltcli.api.figure_kinds import KINDS

    return [(kind.name, kind.says) for kind in KINDS.values() if kind.name.startswith(incomplete)]

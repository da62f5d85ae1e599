"""`tiltcli rm` and `tiltcli mv`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tiltcli.cli.app import app, say
from tiltcli.cli.options import RESULTS, Results, Run, Runs, option
from tiltcli.errors import UserError, each


@app.command()
def rm(
    runs: Runs,
    yes: Annotated[bool, option("--yes -y", "Do not ask.")] = False,
    results: Results = RESULTS,
) -> None:
    """Remove runs, with all that was measured.

    Example: [bold]tiltcli rm spiral-phase[/bold]

    It asks first; --yes does without.
    """
    from tiltcli.store.read import find_run
    from tiltcli.store.run_facts import facts_of
    from tiltcli.store.run_folders import remove_run

    folders = each(lambda run: find_run(run, results), dict.fromkeys(runs))
    for folder in folders:
        fact = facts_of(folder)
        what = f"{folder}: {fact['done']} jobs, {fact['seconds']:.0f} core-seconds of training"
        if yes or _meant(f"{what}. Remove it?"):
            remove_run(folder)
            say(f"removed: {what}")


def _meant(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise UserError("not answered, so not removed; --yes does not ask") from None


@app.command()
def mv(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="New name.")],
    results: Results = RESULTS,
) -> None:
    """Give a run another name.

    Example: [bold]tiltcli mv spiral-phase spiral-phase-old[/bold]

    A run is called what its folder is called: renaming the folder does it as well.
    """
    from tiltcli.store.read import find_run
    from tiltcli.store.run_folders import rename_run

    sys.stdout.write(f"{rename_run(find_run(run, results), name)}\n")

"""`tiltcli refine` and `tiltcli confirm`: the grids that come after a run."""

from __future__ import annotations

from pathlib import Path

from tiltcli.cli import options as opt
from tiltcli.cli.options import app, flag, option
from tiltcli.cli.rendering import write_grid
from tiltcli.errors import UserError


@app.command()
def refine(
    run: opt.Run,
    keep: int = option("--keep", "Cells that stay, of each method and row.", min=1, default=5),
    seeds: int = option(
        "--seeds", "Replicates they then have, the run's included.", min=2, default=16
    ),
    metric: str | None = option("--tune", "Column that chooses; default: val_accuracy.", "METRIC"),
    methods: opt.Methods = None,
    by: opt.By = None,
    output: opt.GridOutput = None,
    results: opt.Results = opt.RESULTS,
) -> None:
    """Write the next round of a tuning: each method's best cells, on more seeds, into the same run.

    Example: [bold]tiltcli refine spiral-tuning -o round2.toml[/bold]

    Then tiltcli sweep round2.toml --extend trains what is new. Few seeds choose by luck: two or
    three such rounds come before tiltcli confirm --tune.
    """
    from tiltcli.evaluation.next_grids import refinement_grid

    text = refinement_grid(
        run,
        results=results,
        metric=metric,
        methods=opt.names(methods),
        by=opt.names(by),
        keep=keep,
        seeds=seeds,
        folder=output.parent if output else Path(),
    )
    write_grid(text, output, "--extend")


@app.command()
def confirm(
    run: opt.Run,
    output: opt.GridOutput = None,
    metric: str | None = option(
        "--metric", "Column whose mean over the seeds chooses; default: val_accuracy."
    ),
    tune: bool = flag("--tune", "Every method is tuned, static as well; fresh draws too."),
    methods: opt.Methods = None,
    by: opt.By = None,
    seeds: int = option("--seeds", "Number of fresh seeds.", min=1, default=20),
    results: opt.Results = opt.RESULTS,
) -> None:
    """Write the grid that confirms a run: its best cells against static, on fresh seeds.

    Example: [bold]tiltcli confirm spiral-phase -o confirm.toml[/bold]

    Cells are chosen on validation data; what the new grid trains has never been looked at.

    With --tune each method (static too) is represented by its own best cell, each replicate has a
    fresh seed and a fresh draw of the data, and beside each tilted cell stands the static loss at
    the same other settings.
    """
    from tiltcli.evaluation.next_grids import confirmation_grid

    if (methods or by) and not tune:
        raise UserError("--methods and --by are for --tune")
    text = confirmation_grid(
        run,
        results=results,
        metric=metric,
        tuned=tune,
        methods=opt.names(methods),
        by=opt.names(by),
        seeds=seeds,
        folder=output.parent if output else Path(),
    )
    write_grid(text, output)

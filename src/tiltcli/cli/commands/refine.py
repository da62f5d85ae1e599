"""`tiltcli refine`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tiltcli.cli.app import app
from tiltcli.cli.options import RESULTS, By, GridOutput, Methods, Results, Run, names, option


@app.command()
def refine(
    run: Run,
    keep: Annotated[int, option("--keep", "Cells that stay, of each method and row.", min=1)] = 5,
    seeds: Annotated[
        int, option("--seeds", "Replicates they then have, the run's included.", min=2)
    ] = 16,
    metric: Annotated[
        str | None, option("--tune", "Column that chooses; default: val_accuracy.", "METRIC")
    ] = None,
    methods: Methods = None,
    by: By = None,
    output: GridOutput = None,
    results: Results = RESULTS,
) -> None:
    """Write the next round of a tuning: each method's best cells, on more seeds, into the same run.

    Example: [bold]tiltcli refine spiral-tuning -o round2.toml[/bold]

    Then tiltcli sweep round2.toml --extend trains what is new. Few seeds choose by luck: two or
    three such rounds come before tiltcli confirm --tune.
    """
    from tiltcli.cli.rendering import write_grid
    from tiltcli.evaluation.refinement import refinement_grid

    text = refinement_grid(
        run,
        results=results,
        metric=metric,
        methods=names(methods),
        by=names(by),
        keep=keep,
        seeds=seeds,
        folder=output.parent if output else Path(),
    )
    write_grid(text, output, "--extend")

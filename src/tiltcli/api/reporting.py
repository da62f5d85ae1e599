"""`tiltcli.runs`, `tiltcli.confirm` and `tiltcli.report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def runs(results: str | Path = "results", *, sort: str = "name") -> pd.DataFrame:
    """List the runs.

    Args:
        results: folder that runs are kept under.
        sort: column to order by; names rise, all else falls.

    Returns:
        one row per run: name, folder, jobs (of its grid), done, missing, completed, diverged,
        failed, seconds (of training, over all cores), changed (UTC).

    Propagates `UserError` if a run cannot be read, or there is no such column.

    """
    import pandas as pd

    from tiltcli.store.run_facts import all_facts

    columns = ["name", "folder", "jobs", "done", "missing", "completed", "diverged", "failed"]
    return pd.DataFrame(all_facts(Path(results), sort), columns=[*columns, "seconds", "changed"])


def confirm(
    run: str | Path,
    *,
    output: str | Path | None = None,
    results: str | Path = "results",
    metric: str | None = None,
    tune: bool = False,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    seeds: int = 20,
) -> dict[str, Any]:
    """Return the grid that confirms a run: its best cells against static, on fresh seeds.

    `tiltcli.sweep(tiltcli.confirm("spiral-phase"))` trains it.

    Args:
        run: a run, by name or path.
        output: grid file to write as well.
        results: folder that runs are kept under.
        metric: column whose mean over the seeds chooses; None: validation accuracy.
        tune: tune every method, static too; fresh draws of the data as well.
        methods: with `tune`, settings that tell methods apart.
        by: with `tune`, settings that tell rows apart; None: the network and the data.
        seeds: number of fresh seeds.

    Returns:
        the grid.

    Propagates `UserError` if there is nothing to choose, or the file cannot be written.

    """
    import tomllib

    from tiltcli.evaluation.confirmation import confirmation_grid
    from tiltcli.store.outputs import write_output

    def text(folder: Path) -> str:
        return confirmation_grid(
            run,
            results=results,
            metric=metric,
            tuned=tune,
            methods=methods,
            by=by,
            seeds=seeds,
            folder=folder,
        )

    if output is not None:
        written = text(Path(output).parent)
        write_output(Path(output), lambda to: to.write_text(written, encoding="utf-8"))
    return tomllib.loads(text(Path()))


def report(
    *runs: str | Path, output: str | Path | None = None, results: str | Path = "results"
) -> Path:
    """Write a report of runs: verdicts on the claims, figures to explore, tables, provenance.

    Args:
        runs: names under `results`, or paths.
        output: file to write, .html or .md; None: report.html under `results`.
        results: folder that runs are kept under.

    Returns:
        the file.

    Raises:
        UserError: if no run is named, one is unknown or empty, or the file cannot be written.

    """
    from tiltcli.errors import UserError
    from tiltcli.reports import write_report

    if not runs:
        raise UserError("report: name at least one run")
    path = Path(output) if output is not None else Path(results) / "report.html"
    write_report(runs, path, Path(results))
    return path

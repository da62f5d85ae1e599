"""`tiltcli sweep`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tiltcli.cli import options as opt
from tiltcli.cli.options import INTERRUPTED, app, choice, flag, option, say
from tiltcli.errors import UserError

if TYPE_CHECKING:
    from tiltcli.execution.checks import RunOptions
    from tiltcli.execution.dask import ClusterTrainer
    from tiltcli.execution.progress import Ended, Progress
    from tiltcli.execution.runner import Summary
    from tiltcli.grid import Sweep


@app.command()
def sweep(
    grid: Path = typer.Argument(help="The grid file (TOML); - for stdin.", show_default=False),
    results: opt.Results = opt.RESULTS,
    overrides: list[str] | None = option(
        "--set", "Override a setting; may be repeated.", "KEY=VALUE"
    ),
    workers: opt.Workers = None,
    engine: opt.EngineName = choice(
        opt.EngineName, "--engine", "What trains the jobs.", default=opt.EngineName.AUTO
    ),
    device: opt.Device = choice(
        opt.Device, "--device", "Where torch trains.", default=opt.Device.AUTO
    ),
    shard: str | None = option("--shard", "Every N-th job from the I-th on; see above.", "I/N"),
    cluster: opt.Cluster = None,
    send_tables: bool = flag(
        "--send-tables", "With --cluster: workers send their tables back, in any case."
    ),
    dry_run: bool = flag("--dry-run", "Show the jobs and the time they take; run nothing."),
    retry_failed: bool = flag("--retry-failed", "Run failed jobs again too."),
    fail_fast: bool = flag("--fail-fast", "Stop at the first failed job."),
    fresh: bool = flag("--fresh", "Remove an earlier run of this name first."),
    extend: bool = flag("--extend", "Let an earlier run of this name grow by what is new here."),
    quiet: opt.Quiet = False,
) -> None:
    """Train every job of a grid that is not done yet.

    Example: [bold]tiltcli sweep grid.toml --set train.seeds=5[/bold]

    Results go to results/NAME/ as Parquet tables. Run it again to resume: what is done stays done.
    With --extend a run grows by seeds, cells or a whole further grid: --set train.seeds=8 --extend.

    Shards of one grid may run at the same time, on any machines that share the results folder:
    --shard 1/3, --shard 2/3, --shard 3/3. Without --shard the rest is done, by one client alone.

    With --cluster the jobs are trained by a Dask cluster's workers. Those that see the results
    folder write there; the others send their tables back.
    """
    from tiltcli.execution.checks import RunOptions
    from tiltcli.grid import load_sweep
    from tiltcli.grid.shards import Shard

    if send_tables and cluster is None:
        raise UserError("--send-tables: only with --cluster ADDRESS")
    options = RunOptions(
        engine=engine,
        workers=workers,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        fresh=fresh,
        extend=extend,
        shard=Shard.parse(shard) if shard is not None else None,
        device=device,
    )
    options.check(cluster is not None)
    spec = load_sweep(grid, overrides or [])
    if not quiet:
        for key in spec.unused:
            say(f"note: {key} has no effect: no job of this grid uses it")
    with opt.trained_by(cluster, send_tables) as trainer:
        if dry_run:
            from tiltcli.cli.dry_run import show

            show(spec, results, options, trainer)
            return
        summary, progress = _run(spec, results, options, trainer, quiet)
    _tell(summary, progress, quiet)
    failed = bool(summary.failures)
    stopped = summary.interrupted and not (fail_fast and failed)
    raise typer.Exit(INTERRUPTED if stopped else 1 if failed else 0)


def _run(
    spec: Sweep, results: Path, options: RunOptions, trainer: ClusterTrainer | None, quiet: bool
) -> tuple[Summary, Progress]:
    from tiltcli.cli.live import Stop, display
    from tiltcli.data import fetch_for
    from tiltcli.execution.progress import Ended, Progress
    from tiltcli.execution.runner import run_sweep
    from tiltcli.grid.jobs import varying_settings

    fetch_for(spec.jobs)  # before the display, which its own bar would disturb
    progress, stop = Progress(), Stop()
    stop.listen()
    if not quiet:
        progress.results = Ended(varying_settings(spec.jobs))
        if not options.fresh:
            _see_earlier(progress.results, spec, results)
    # In this process a debugger may have the terminal: nothing else writes there.
    with display(progress, spec.name, stop, quiet or options.workers == 0):
        summary = run_sweep(
            spec,
            results,
            options,
            trainer=trainer,
            command=sys.argv,
            progress=progress,
            stop=stop.event,
        )
    return summary, progress


def _see_earlier(ended: Ended, spec: Sweep, results: Path) -> None:
    """Take into the means what earlier runs of the grid have done."""
    from tiltcli.store.read import read_jobs

    folder = results / spec.name
    if not (folder / "jobs").is_dir():
        return
    try:
        jobs = read_jobs(folder, ended.columns)
    except UserError:  # damaged: the sweep sets that aside, and the means begin with its own jobs
        return
    ended.add_table(jobs[jobs["job"].isin({job.id for job in spec.jobs})])


def _tell(summary: Summary, progress: Progress, quiet: bool) -> None:
    from tiltcli.cli.standings import standings
    from tiltcli.execution.progress import SHORTEST

    opt.report(summary.notes)
    if not quiet:
        said = [
            f"{summary.ended[o]} {o}"
            for o in ("completed", "diverged", "failed")
            if summary.ended[o]
        ]
        nothing = "stopped before a job ended" if summary.interrupted else "nothing to do"
        before = f"; {summary.before} were done before" if summary.before else ""
        facts = [f"{progress.done} of {summary.total} jobs", f"{summary.seconds:.1f} s"]
        if summary.steps and summary.seconds >= SHORTEST:
            facts.append(f"{summary.steps / summary.seconds:,.0f} steps/s")
        what = ", ".join(said) or nothing
        say(f"{summary.folder}: {what}{before} ({', '.join(facts)})")
        found = progress.results.cells(now=True) if progress.results is not None else None
        for line in standings(found) if found is not None else []:
            say(f"  {line}")
    if summary.failures:
        say(
            f"{len(summary.failures)} jobs failed; their tracebacks are in the jobs table "
            f"(tiltcli runs {summary.folder.name}); --retry-failed runs them again:"
        )
        for job, error in list(summary.failures.items())[:5]:
            say(f"  {job}: {error[:200]}")
    if summary.interrupted:
        say(
            f"interrupted: {progress.done} of {summary.total} jobs are done and kept; "
            "the same command resumes"
        )

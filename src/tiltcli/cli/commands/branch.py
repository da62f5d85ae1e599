"""`tiltcli branch`."""

from __future__ import annotations

import sys

from tiltcli.cli import options as opt
from tiltcli.cli.options import app, flag, option, say

RATES = "LO..HI, two rising numbers > 0, as 0.5..4"


@app.command()
def branch(
    run: opt.Run,
    epoch: int = option("--epoch", "Epoch to start from.", "E", default=...),
    job: opt.OneJob = None,
    lr: str | None = option(
        "--lr",
        "Learning rates; default: half and twice the one at which it becomes unstable.",
        "LO..HI",
    ),
    points: int = option("--points", "Learning rates, evenly spaced.", default=400),
    frozen: bool = flag("--frozen", "Hold the class weights Γ as they are at that epoch."),
    steps: int = option("--steps", "Updates at each learning rate.", default=5000),
    keep: int = option("--keep", "Last steps whose losses are kept.", default=200),
    workers: opt.Workers = None,
    cluster: opt.Cluster = None,
    quiet: opt.Quiet = False,
    results: opt.Results = opt.RESULTS,
) -> None:
    """Go on from one epoch of a training with many learning rates: a bifurcation diagram.

    Example: [bold]tiltcli branch spiral-branch --epoch 2500 --frozen[/bold]

    Writes branches/*.parquet in the run's folder; `tiltcli plot bifurcation RUN` draws them. The
    training is repeated up to that epoch and checked against the losses that the run holds; the
    optimiser begins anew there. Learning rates that are there already are not made again.
    """
    from tiltcli.cli.live import Stop
    from tiltcli.execution.branching import branch_run

    stop = Stop()
    stop.listen()
    with opt.trained_by(cluster) as trainer:
        found = branch_run(
            run,
            epoch,
            results=results,
            job=job,
            rates=None if lr is None else opt.numbers("--lr", lr, float, "..", RATES, 2),
            points=points,
            frozen=frozen,
            steps=steps,
            keep=keep,
            workers=workers,
            trainer=trainer,
            command=sys.argv,
            stop=stop.event,
        )
    opt.report(found.notes)
    if not quiet:
        low, high = found.rates
        before = f"; {found.before} were there before" if found.before else ""
        lost = f"; {found.diverged} diverged" if found.diverged else ""
        flip = "" if found.flip != found.flip else f"; unstable from η = {found.flip:.4g}"
        say(
            f"{found.folder}: job {found.branch.job} from epoch {epoch}, {found.added} learning "
            f"rates from {low:.4g} to {high:.4g} added{before}{lost}{flip}"
        )
    opt.end(found.interrupted)

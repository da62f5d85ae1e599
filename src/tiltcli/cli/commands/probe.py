"""`tiltcli probe`."""

from __future__ import annotations

import sys

from tiltcli.cli import options as opt
from tiltcli.cli.options import app, option, say
from tiltcli.errors import QUANTITY_COLUMNS

EPOCHS = "whole numbers ≥ 0, as 0,500,1000"


@app.command()
def probe(
    run: opt.Run,
    every: int | None = option("--every", "Epochs between probes, from epoch 0."),
    epochs: str | None = option("--epochs", "These epochs instead.", "A,B,C"),
    quantities: str | None = option(
        "--quantities",
        f"What to measure, of {', '.join(QUANTITY_COLUMNS)}; default: hessian,ntk.",
        "hessian,…",
    ),
    ntk_points: int | None = option(
        "--ntk-points", "Tangent kernel on the first so many training points."
    ),
    where: opt.Where = None,
    job: opt.OneJob = None,
    workers: opt.Workers = None,
    cluster: opt.Cluster = None,
    quiet: opt.Quiet = False,
    results: opt.Results = opt.RESULTS,
) -> None:
    """Add curvature to a run that is finished: train its jobs again and measure on the way.

    Example: [bold]tiltcli probe spiral-fig4 --every 25[/bold]

    Without options the probe table of the run's grid counts. A job whose training does not end as
    the run holds it, to the last bit, gets no probes. What is there already is not made again.
    """
    from tiltcli.cli.live import Stop, display
    from tiltcli.execution.progress import Progress
    from tiltcli.execution.reprobing import probe_run
    from tiltcli.grid import load_run
    from tiltcli.grid.probe_settings import asked_probe
    from tiltcli.store.read import find_run

    folder = find_run(run, results)
    settings = asked_probe(
        every,
        None if epochs is None else list(opt.numbers("--epochs", epochs, int, ",", EPOCHS)),
        opt.names(quantities),
        ntk_points,
        load_run(folder).probe,
    )
    progress, stop = Progress(), Stop()
    stop.listen()
    with opt.trained_by(cluster) as trainer, display(progress, folder.resolve().name, stop, quiet):
        found = probe_run(
            folder,
            settings,
            where=where or (),
            job=job,
            workers=workers,
            trainer=trainer,
            command=sys.argv,
            progress=progress,
            stop=stop.event,
        )
    opt.report(found.notes)
    if not quiet:
        before = f"; {found.before} jobs had them before" if found.before else ""
        say(f"{found.folder}: {found.probes} probes of {found.jobs} jobs added{before}")
    for name, reason in list(found.refused.items())[:10]:
        say(f"  {name}: {reason}")
    if len(found.refused) > 10:
        say(f"  … {len(found.refused)} in all")
    opt.end(found.interrupted, bool(found.refused))

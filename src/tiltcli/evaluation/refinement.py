"""The next, narrower round of a tuning: a successive halving with replicates as its resource.

After Jamieson and Talwalkar 2016, arXiv:1502.07943.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltcli.errors import Fault, UserError
from tiltcli.evaluation.cells import ranked
from tiltcli.evaluation.confirmation import Source, budget, title
from tiltcli.evaluation.grid_writer import DRAW_STRIDE, Replicates, grid_text
from tiltcli.evaluation.tuning import of_last_round
from tiltcli.grid import Sweep

KEEP, ROUND_SEEDS = 5, 16


def refinement_grid(
    run: str | Path,
    *,
    results: str | Path = "results",
    metric: str | None = None,
    methods: Sequence[str] | None = None,
    by: Sequence[str] | None = None,
    keep: int = KEEP,
    seeds: int = ROUND_SEEDS,
    folder: str | Path = ".",
) -> str:
    """Text of the grid with the best cells of each method, on more seeds than the run has."""
    source = Source.of(run, results, metric, methods, by)
    tuning, rows = source.tuning, source.tuning.cells.rows
    most = max(len(one.cells) for one in tuning.candidates)
    faults = []
    if not 1 <= keep <= most:
        said = f"got {keep}; a method has at most {most} cells in a row; allowed: 1 to {most}"
        faults.append(Fault(said, source="--keep"))
    replicates = _continued(source.sweep, seeds, faults)
    if faults:
        raise UserError(*faults)
    comments = [
        f"The next round of {source.sweep.name}: of each method the best {keep} cells by "
        f"{tuning.metric}, on {seeds} replicates.",
        f"tiltcli sweep this-file --extend lets the run {source.sweep.name} grow by them.",
    ]
    chosen: list[int] = []
    for one in tuning.candidates:
        order = ranked(of_last_round(rows.loc[list(one.cells)]), tuning.metric).index
        chosen += [int(cell) for cell in order[:keep]]
        comments.append(f"  {title(one)}: {min(keep, len(order))} of {budget(one)}")
    return grid_text(
        source.sweep.name,
        [source.job(cell) for cell in chosen],
        replicates,
        folder=Path(folder),
        comments=comments,
        sweep={"methods": list(tuning.methods)},
    )


def _continued(sweep: Sweep, seeds: int, faults: list[Fault]) -> Replicates:
    """The replicates of a run, and as many more as are wanted."""
    pairs = dict.fromkeys((job["train.seed"], job.get("data.seed")) for job in sweep.jobs)
    own, draws = [seed for seed, _ in pairs], [draw for _, draw in pairs]
    several = len(set(draws)) > 1
    if several and (len(set(own)) < len(own) or None in draws):
        said = "the run's data draws are crossed with its seeds; allowed: one draw, or "
        said += '[sweep] zip = [["data.seed", "train.seeds"]]'
        faults.append(Fault(said, source="data.seed"))
        return Replicates(own)
    own = sorted(set(own)) if not several else own
    if seeds <= len(own):
        said = f"got {seeds}; the run has {len(own)} replicates: allowed: {len(own) + 1} or more"
        faults.append(Fault(said, source="--seeds"))
        return Replicates(own)
    more = seeds - len(own)
    later = [*own, *range(max(own) + 1, max(own) + 1 + more)]
    if not several:
        return Replicates(later)
    stride = max(DRAW_STRIDE.get(str(job["data.kind"]), 1) for job in sweep.jobs)
    first = max(draws) + stride
    return Replicates(later, [*draws, *range(first, first + stride * more, stride)])

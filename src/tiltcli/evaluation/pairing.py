"""Which jobs of two sides are compared with each other, and by which settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome, UserError, listing
from tiltcli.evaluation.cells import REPLICATES, Cells, best, gather, numbered, ranked, scores
from tiltcli.evaluation.selection import by_kind
from tiltcli.evaluation.tuning import core_seconds, of_last_round
from tiltcli.grid.settings import PATHS, tilting


@dataclass(frozen=True)
class Side:
    """One side of a comparison."""

    name: str  # of the run or selection
    letter: str  # a or b: the column of tables that is of this side
    jobs: pd.DataFrame  # its jobs, ended in whatever way, those of the other side left out
    cells: Cells

    @cached_property
    def first(self) -> npt.NDArray[np.int64]:
        """Position in `jobs` of the first job of each cell."""
        return np.unique(self.cells.of_job.to_numpy(), return_index=True)[1]

    def ids(self, cells: pd.Series[int]) -> list[str]:
        """Id of the first job of each of some cells."""
        return self.jobs["job"].iloc[self.first[cells]].tolist()

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One row per cell, by its number: every setting but paths (their digests say it)."""
        names = [name for name in self.jobs if "." in str(name) and name not in PATHS]
        return self.jobs.iloc[self.first][names].reset_index(drop=True)

    @cached_property
    def known(self) -> list[str]:
        """Settings, but replicates, that any of its jobs has."""
        some = self.settings.notna().any()
        return [str(name) for name in some.index[some] if name not in REPLICATES]

    @cached_property
    def draws(self) -> pd.Series[int]:
        """Number of data draws of each cell."""
        seeds = self.jobs["data.seed"] if "data.seed" in self.jobs else self.jobs["train.seed"] * 0
        return seeds.groupby(self.cells.of_job.to_numpy()).nunique()

    def replicates(self) -> list[str]:
        """Replicate settings that any of its jobs has."""
        return [name for name in REPLICATES if name in self.jobs and self.jobs[name].notna().any()]

    def best(self, keys: Sequence[str], metric: str) -> pd.DataFrame:
        """Return the best cell of each combination of some settings: its number beside them."""
        order = ranked(self.cells.rows, metric).index
        found = self.settings.loc[order, list(keys)].assign(cell=order)
        return found.drop_duplicates(list(keys)) if keys else found.head(1)

    def tuned(self, keys: Sequence[str], metric: str) -> pd.DataFrame:
        """Like `best`, of the last round of a halving; `tried` and `seconds` are of all cells."""
        spent = core_seconds(self.jobs, self.cells)
        found = [
            (best(of_last_round(own), metric), len(own), float(spent.loc[own.index].sum()))
            for _, own in self.cells.rows.groupby(numbered(self.settings, keys))
        ]
        table = pd.DataFrame(found, columns=["cell", "tried", "seconds"]).dropna()
        table = table.astype({"cell": int}).set_index("cell", drop=False)
        return self.settings[list(keys)].join(table, how="right")

    def rank(self, metric: str) -> npt.NDArray[np.int64]:
        """Place of each cell among all, by `ranked`; those without a value come last."""
        place = np.full(len(self.cells.rows), len(self.cells.rows))
        order = ranked(self.cells.rows, metric).index.to_numpy(np.int64)
        place[order] = np.arange(len(order))
        return place


@dataclass(frozen=True)
class Pairing:
    """Pairs of jobs, and what they are paired on."""

    a: Side  # first side
    b: Side  # second side
    # settings that both sides have and that tell rows apart, `model.width` first
    groups: tuple[str, ...]
    contrast: tuple[str, ...]  # settings that are what is compared, each with one value a side
    # columns of `rows` that name the cells: settings of one side, or (with `a:` and `b:` before
    # them) of both, that vary within a group; tuned ones always have it
    cells: tuple[str, ...]
    # numbers of the cells of each side that were to be paired
    candidates: dict[str, npt.NDArray[np.int64]]
    # one row per group and pair of cells, the best first: `groups`, `cells`, and the numbers of the
    # two cells as `a` and `b`; where both sides were tuned also `tried_a`, `tried_b` (cells tried)
    # and `seconds_a`, `seconds_b` (core-seconds that took)
    rows: pd.DataFrame
    # one row per pair of jobs: `row` (a number of `rows`), `unit` (the replicate it belongs to),
    # `by_draw` (whether that is its data draw), `at_a`, `at_b` (places in the sides' jobs),
    # `job_a`, `job_b`, and the score of each metric as `<metric>_a`, `_b`
    pairs: pd.DataFrame


def sides(
    a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str], metrics: Iterable[str]
) -> tuple[Side, Side, int]:
    """Return both sides without the jobs that they share, and how many these were."""
    metrics = tuple(metrics)
    a, b = (jobs.drop_duplicates("job", ignore_index=True) for jobs in (a, b))
    common = set(a["job"]) & set(b["job"])
    if common:
        kept_a, kept_b = a[~a["job"].isin(common)], b[~b["job"].isin(common)]
        hint = "to compare within a run, select: RUN@loss.kind=static RUN@loss.kind=dynamical"
        if kept_a.empty and kept_b.empty:
            raise UserError(f"{names[0]} and {names[1]} are the same jobs; {hint}")
        for kept, one, other in ((kept_a, *names), (kept_b, *names[::-1])):
            if kept.empty:
                raise UserError(
                    f"all {len(common)} jobs of {one} are jobs of {other} as well, and would be "
                    f"compared with themselves; {hint}"
                )
        a, b = kept_a, kept_b
    for jobs, name in zip((a, b), names, strict=True):
        if not jobs["outcome"].eq(Outcome.COMPLETED).any():
            counts = jobs["outcome"].value_counts().to_dict()
            what = ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "no jobs yet"
            raise UserError(f"{name}: no completed job to compare ({what})")
    first = Side(names[0], "a", a, gather(a, metrics))
    return first, Side(names[1], "b", b, gather(b, metrics)), len(common)


def paired(
    a: Side,
    b: Side,
    metrics: Sequence[str],
    judge: str,
    *,
    choose: bool = False,
    apart: tuple[str, ...] | None = None,
) -> Pairing:
    """Pair two sides' jobs; `choose`: the best cells alone, with `apart` of each method."""
    shared, contrast = _shared(a, b)
    free = set(tilting() if apart is None else shared).difference(apart or ()) if choose else set()
    freed = [key for key in shared if key in free and _differs(a, b, key)]
    kept = [key for key in shared if key not in freed and _differs(a, b, key)]
    own = {side.letter: _own(side, shared, contrast, freed) for side in (a, b)}
    chosen = []
    for side in (a, b):
        if not choose:
            found = side.settings[kept].assign(cell=side.settings.index)
        elif apart is None:
            found = side.best(kept, judge)
        else:
            methods = [key for key in own[side.letter] if key in apart and key not in kept]
            found = side.tuned([*kept, *methods], judge).drop(columns=methods)
        columns = {name: f"{name}_{side.letter}" for name in ("tried", "seconds")}
        chosen.append(found.rename(columns={"cell": side.letter, **columns}))
    left, right = chosen
    rows = left.merge(right, on=kept) if kept else left.merge(right, how="cross")
    by = [key for key in a.replicates() if key in b.replicates()]
    pairs = _pairs_of_jobs(rows, a, b, metrics, by)
    if pairs.empty:
        raise UserError(_why_none(a, b, [*kept, *by]))
    rows = rows.loc[np.unique(pairs["row"])]
    varying = [k for k in kept if k != "model.width" and rows[k].nunique(dropna=False) > 1]
    groups = ["model.width"] * ("model.width" in shared) + varying
    if "model.width" in shared:
        rows["model.width"] = a.settings.loc[rows["a"], "model.width"].to_numpy()
    # Group by group, in each the best cells first.
    ranks = [b.rank(judge)[rows["b"]], a.rank(judge)[rows["a"]]]
    first, second = reversed(ranks) if own["a"] and not own["b"] else ranks
    rows = rows.iloc[np.lexsort((second, first, numbered(rows, groups)))]
    names = []
    for side in (a, b):
        for key in own[side.letter]:
            both = key in own["a"] and key in own["b"]
            of_tuning = apart is not None and key not in apart
            names.append(f"{side.letter}:{key}" if both or of_tuning else key)
            rows[names[-1]] = side.settings.loc[rows[side.letter], key].to_numpy()
    number = pd.Series(np.arange(len(rows)), index=rows.index)
    pairs["row"] = pairs["row"].map(number)
    pairs = _with_units(pairs, a, b).sort_values(["row", "unit"], kind="stable", ignore_index=True)
    for side in (a, b):
        places = pairs[f"at_{side.letter}"]
        pairs[f"job_{side.letter}"] = side.jobs["job"].iloc[places].to_numpy()
    budgets = ["tried_a", "tried_b", "seconds_a", "seconds_b"] if apart is not None else []
    rows = rows[[*groups, *names, "a", "b", *budgets]].reset_index(drop=True)
    candidates = {"a": left["a"].to_numpy(int), "b": right["b"].to_numpy(int)}
    return Pairing(a, b, tuple(groups), tuple(contrast), tuple(names), candidates, rows, pairs)


def _shared(a: Side, b: Side) -> tuple[list[str], list[str]]:
    """Settings to pair on, and settings that are what is compared."""
    shared: list[str] = []
    contrast: list[str] = []
    for key in [key for key in a.known if key in b.known]:
        in_a, in_b = a.settings[key], b.settings[key]
        one_each = in_a.nunique(dropna=False) == 1 == in_b.nunique(dropna=False)
        (contrast if one_each and _differs(a, b, key) else shared).append(key)
    if not shared:
        raise UserError(f"{a.name} and {b.name} share no settings: there is nothing to pair on")
    return shared, contrast


def _differs(a: Side, b: Side, key: str) -> bool:
    """Whether a setting has more than one value on both sides together."""
    return bool(pd.concat([a.settings[key], b.settings[key]]).nunique(dropna=False) > 1)


def _own(side: Side, shared: list[str], contrast: list[str], freed: list[str]) -> list[str]:
    """Settings that tell the cells of one side apart within a row's group."""
    apart = [key for key in side.known if key in freed or key not in (*shared, *contrast)]
    return [k for k in apart if k in freed or side.settings[k].nunique(dropna=False) > 1]


def _pairs_of_jobs(
    rows: pd.DataFrame, a: Side, b: Side, metrics: Sequence[str], by: list[str]
) -> pd.DataFrame:
    """Pair the jobs of each row's cells by their replicate settings; failed jobs are in none."""

    def side(one: Side) -> pd.DataFrame:
        jobs, letter = one.jobs, one.letter
        frame = pd.DataFrame({letter: one.cells.of_job.to_numpy()}, index=jobs.index)
        frame[f"at_{letter}"] = np.arange(len(jobs))
        for key in REPLICATES:
            frame[key if key in by else f"{key}_{letter}"] = jobs.get(key)
        for metric in metrics:
            frame[f"{metric}_{letter}"] = scores(jobs, metric)
        return frame[jobs["outcome"].ne(Outcome.FAILED)]

    numbered = rows[["a", "b"]].assign(row=rows.index)
    return numbered.merge(side(a), on="a").merge(side(b), on=["b", *by])


def _with_units(pairs: pd.DataFrame, a: Side, b: Side) -> pd.DataFrame:
    """Return the pairs with the replicate of each: the data draw of several, else the seed.

    Where one side alone has draws they are that side's.
    """
    several = (pairs["a"].map(a.draws) > 1, pairs["b"].map(b.draws) > 1)
    pairs["unit"], pairs["by_draw"] = pairs["train.seed"], False
    for name, by_draw in (
        ("data.seed_a", several[0]),
        ("data.seed_b", several[1]),
        ("data.seed", several[0] | several[1]),
    ):
        if name in pairs:
            pairs["unit"] = pairs["unit"].where(~by_draw, pairs[name])
            pairs["by_draw"] |= by_draw
    return pairs


def _why_none(a: Side, b: Side, keys: list[str]) -> str:
    apart = []
    for key in keys:
        in_a, in_b = (set(side.jobs[key].dropna().tolist()) for side in (a, b))
        if not in_a & in_b:
            shown = (listing(sorted(values, key=by_kind), 6) for values in (in_a, in_b))
            apart.append(f"{key} ({' against '.join(shown)})")
    why = "they have no value in common of " + "; ".join(apart) if apart else "no two jobs agree"
    return f"no job of {a.name} has a partner in {b.name}: {why}"

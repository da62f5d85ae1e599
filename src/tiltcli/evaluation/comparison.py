"""Two runs, or two selections of runs, compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome, UserError, listing, with_suggestion
from tiltcli.evaluation.cells import FITTED, UNKNOWN, choosing_metric, gather, results_of
from tiltcli.evaluation.facets import tail
from tiltcli.evaluation.pairing import Pairing, Side, paired, sides
from tiltcli.evaluation.tuning import faults_of_names, metric_faults, rows_apart
from tiltcli.grid.settings import METHODS, SETTINGS
from tiltcli.statistics import (
    DRAWS,
    EXACT_UP_TO,
    decided,
    half_width,
    holm,
    least_p,
    permutation_tests,
    replicates_for_power,
    replicates_needed,
)

METRICS = ("train_accuracy", "val_accuracy", "test_accuracy")

_SHOWN = ["n", "mean_a", "mean_b", "difference", "low", "high", "p_corrected", "verdict"]
HIGHER, LOWER, UNDECIDED = "higher", "lower", "undecided"
"""What is decided of b against a."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """What a comparison found.

    Attributes:
        name_a: first run or selection.
        name_b: second; differences are b − a.
        metrics: columns compared.
        threshold: mean training accuracy of the static jobs from which a width counts as
            overparameterised.
        groups: settings that tell rows apart, `model.width` first unless that is compared.
        cells: settings that only one side has, or that vary within a group (`a:` or `b:` before
            the name where both sides have them).
        rows: one row per group, cell and metric, with the groups and cells as columns and:
            regime, parameters, train_samples, metric, n (replicates in pairs), mean_a, mean_b,
            difference, low, high (95% interval of the mean difference), p (paired permutation
            test), p_corrected (Holm, over the metric's rows), p_least (the least p that n allows,
            before the correction), seeds_needed (fewest replicates with which the corrected p can
            fall below 0.05), seeds_for_power (those that would show this difference with a chance
            of 80%), verdict (of b: higher, lower or undecided; see `decision`), lost_a and lost_b
            (jobs of the row's cells that diverged or failed). Where both sides were tuned also
            tried_a, tried_b (cells), seconds_a, seconds_b (core-seconds of training them), and the
            tilted cell's difference from its static partner: partner_difference, partner_low,
            partner_high (95% interval), partner_n (replicates; 0 where the runs have no partner).
        pairs: one row per pair of jobs: `row` (number of the group and cell, from 0 in the order
            of `rows`), `unit` (the replicate it belongs to), `by_draw` (whether that is the draw
            of the data), `job_a`, `job_b`, and what each counts with as `<metric>_a`, `_b`.
        notes: what a reader must know to trust the rows.
        apart: where the cells were tuned, settings that tell rows and methods apart; else None.

    """

    name_a: str
    name_b: str
    metrics: tuple[str, ...]
    threshold: float
    groups: tuple[str, ...]
    cells: tuple[str, ...]
    rows: pd.DataFrame
    pairs: pd.DataFrame
    notes: tuple[str, ...]
    apart: tuple[str, ...] | None = None

    @property
    def keys(self) -> list[str]:
        """Columns that name a row: of groups and cells those that were not tuned."""
        keys = [*self.groups, *self.cells]
        if self.apart is None:
            return keys
        return [key for key in keys if key.removeprefix("a:").removeprefix("b:") in self.apart]

    def __repr__(self) -> str:
        shown = self.rows["metric"].eq(self.metrics[0])
        decided = self.rows[shown]["verdict"].value_counts()
        said = ", ".join(f"{number} {verdict}" for verdict, number in decided.items())
        return f"<{self.name_b} − {self.name_a}: {shown.sum()} rows; {self.metrics[0]}: {said}>"

    def _repr_html_(self) -> str:
        shown = self.rows[["metric", *self.keys, "regime", *_SHOWN]]
        notes = "".join(f"<br>{escape(note)}" for note in self.notes)
        said = escape(f"b − a: {self.name_b} − {self.name_a}")
        table = shown.to_html(index=False, float_format="{:.4g}".format, max_rows=40)
        return f"{said}{table}{notes}"


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    name_a: str,
    name_b: str,
    metrics: Sequence[str] = METRICS,
    threshold: float = FITTED,
    best: str | None = None,
    tune: str | None = None,
    methods: Sequence[str] = METHODS,
    by: Sequence[str] | None = None,
    baseline: pd.DataFrame,
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare two jobs tables; `baseline` has the static jobs that decide the regimes."""
    if best and tune:
        raise UserError("--best and --tune are two ways to choose cells: take one")
    for metric in (*metrics, *([best] if best else [])):
        check_metric(metric, a)
    apart: tuple[str, ...] | None = None
    if tune:
        faults = [fault for side in (a, b) for fault in metric_faults(side, tune)]
        both = pd.concat([a, b], ignore_index=True)
        faults += faults_of_names(both, methods, by)
        if faults:
            raise UserError(*dict.fromkeys(faults))
        apart = (*methods, *rows_apart(both, by))
        best = tune
    usual = choosing_metric(pd.concat([a[["val_accuracy"]], b[["val_accuracy"]]]))
    judge = best or (usual if usual in metrics else metrics[0])
    first, second, common = sides(a, b, (name_a, name_b), dict.fromkeys((*metrics, judge)))
    found = paired(first, second, metrics, judge, choose=best is not None, apart=apart)
    regimes, of_regimes = _regimes(found, baseline, threshold)
    rows = _rows(found, metrics, regimes)
    if tune:
        _add_partners(rows, found, metrics, baseline)
        notes = [*notes, _ATTRIBUTION]
        if alone := int(rows["partner_n"].iloc[:: len(metrics)].eq(0).sum()):
            notes.append(
                f"of {alone} tilted cells the runs have no static partner: tiltcli confirm --tune "
                "writes a grid that has it"
            )
    said = [*notes, *_notes(found, rows, best, common), *of_regimes]
    return Comparison(
        name_a,
        name_b,
        tuple(metrics),
        threshold,
        found.groups,
        found.cells,
        rows,
        found.pairs.drop(columns=["a", "b", "at_a", "at_b"]),
        tuple(dict.fromkeys(said)),
        apart,
    )


_ATTRIBUTION = (
    "beside the difference of the tuned cells stands that of the tilted cell from its static "
    "partner, the static loss at the same other settings: a gain without one there is of the other "
    "settings, not of tilting"
)


def _add_partners(
    rows: pd.DataFrame, found: Pairing, metrics: Sequence[str], baseline: pd.DataFrame
) -> None:
    """Add the difference of the tilted cell, b's where both are, from its static partner.

    The tilted jobs are those of the side; the static ones may be any of the runs.
    """
    tables = [baseline[baseline["loss.kind"].eq("static")], found.a.jobs, found.b.jobs]
    known = gather(pd.concat(tables).drop_duplicates("job", ignore_index=True), metrics)
    tilted = ~found.b.cells.rows["static"].loc[found.rows["b"]].to_numpy(bool)
    jobs = np.where(tilted, found.b.ids(found.rows["b"]), found.a.ids(found.rows["a"]))
    cells = known.rows.loc[known.of_job.loc[jobs.tolist()]]
    names = {"difference": "change", "low": "change_low", "high": "change_high", "n": "pairs"}
    for name, column in names.items():
        values = np.stack([cells[f"{metric}:{column}"].to_numpy(float) for metric in metrics])
        rows[f"partner_{name}"] = values.T.ravel()
    rows["partner_n"] = rows["partner_n"].astype(int)


def check_metric(metric: str, jobs: pd.DataFrame, option: str = "--metric") -> None:
    """Refuse what is no result column."""
    if metric not in (known := results_of(jobs)):
        raise UserError(with_suggestion(f"{option}: no column {metric}", metric, known))


def _rows(found: Pairing, metrics: Sequence[str], regimes: Sequence[str]) -> pd.DataFrame:
    """Compare each row's pairs by each metric."""
    count = len(found.rows)
    table = found.rows.assign(regime=regimes)
    cells_a = found.a.cells.rows.loc[found.rows["a"]]
    for name in ("parameters", "train_samples"):
        table[name] = cells_a[name].to_numpy(int)
    table = table.drop(columns=["a", "b"])
    each = [table.assign(metric=m, **_numbers(found.pairs, m, count)) for m in metrics]
    rows = pd.concat(each).iloc[np.arange(count * len(metrics)).reshape(-1, count).T.ravel()]
    for side in (found.a, found.b):
        lost = side.cells.rows["lost"].loc[found.rows[side.letter]].to_numpy(int)
        rows[f"lost_{side.letter}"] = np.repeat(lost, len(metrics))
    for key in (*found.groups, *found.cells):
        setting = SETTINGS.get(key.removeprefix("a:").removeprefix("b:"))
        if setting is not None and setting.arrow == "int64":
            rows[key] = rows[key].astype("Int64")
    return rows.reset_index(drop=True)


def _numbers(pairs: pd.DataFrame, metric: str, count: int) -> dict[str, npt.NDArray[np.generic]]:
    """Columns of one metric, an entry for each of `count` rows."""
    a, b = f"{metric}_a", f"{metric}_b"
    counted = pairs[pairs[a].notna() & pairs[b].notna()]
    values = counted[["row", "unit"]].assign(a=counted[a], b=counted[b])
    values["difference"] = values["b"] - values["a"]
    if values.duplicated(["row", "unit"]).any():  # several seeds of one draw
        values = values.groupby(["row", "unit"], as_index=False).mean()
    grouped = values.groupby("row")
    means = grouped[["a", "b", "difference"]].mean().reindex(range(count))
    n = grouped.size().reindex(range(count), fill_value=0).to_numpy(int)
    spread = grouped["difference"].std(ddof=1).reindex(range(count)).to_numpy(float)
    mean, half = means["difference"].to_numpy(float), half_width(spread, n)
    p = permutation_tests(np.split(values["difference"].to_numpy(float), np.cumsum(n)[:-1]))
    corrected = holm(p)
    tests = int((~np.isnan(p)).sum())
    side = decided(mean - half, mean + half, corrected, n)
    return {
        "n": n,
        "mean_a": means["a"].to_numpy(float),
        "mean_b": means["b"].to_numpy(float),
        "difference": mean,
        "low": mean - half,
        "high": mean + half,
        "p": p,
        "p_corrected": corrected,
        "p_least": least_p(n),
        "seeds_needed": np.full(count, replicates_needed(tests)),
        "seeds_for_power": replicates_for_power(mean, spread, tests),
        "verdict": np.array([UNDECIDED, HIGHER, LOWER])[side],
    }


def _regimes(
    found: Pairing, baseline: pd.DataFrame, threshold: float
) -> tuple[list[str], list[str]]:
    """Regime of each row: of its static cell, else of both sides' static partners; and notes."""
    # What static jobs there are decides; of the others one of each cell is enough.
    tables = [table[table["loss.kind"].eq("static")] for table in (baseline, found.a.jobs)]
    tables.append(found.b.jobs[found.b.jobs["loss.kind"].eq("static")])
    for side in (found.a, found.b):
        tables.append(side.jobs.iloc[side.first[found.rows[side.letter].unique()]])
    known = gather(pd.concat(tables, ignore_index=True), threshold=threshold)
    regime = known.rows["regime"].loc[known.of_job].set_axis(known.of_job.index)
    (a, static_a), (b, static_b) = (
        (
            regime.loc[side.ids(found.rows[side.letter])].to_numpy(str),
            side.cells.rows["static"].loc[found.rows[side.letter]].to_numpy(bool),
        )
        for side in (found.a, found.b)
    )
    of_a = (static_a & ~static_b) | (b == UNKNOWN) | (a == b)
    of_b = (static_b & ~static_a) | (a == UNKNOWN)
    notes = []
    for apart, why in (
        (~of_a & ~of_b, "the static jobs of one side fit{}, those of the other do not"),
        (
            (a == UNKNOWN) & (b == UNKNOWN),
            "no static baseline{}: the regime is unknown; "
            'a grid with loss.kind = ["static", "dynamical"] has one',
        ),
    ):
        if apart.any():
            notes.append(why.format(_where(found.rows[apart], found.groups)))
    return np.where(of_a, a, np.where(of_b, b, UNKNOWN)).tolist(), notes


def _where(rows: pd.DataFrame, groups: Sequence[str]) -> str:
    """Say at which groups some rows are; empty if there are no groups."""
    if not groups:
        return ""
    places = rows[list(groups)].drop_duplicates().itertuples(index=False)
    return f" at {_said(groups)} {listing([_key(tuple(place)) for place in places], 8)}"


def _notes(found: Pairing, rows: pd.DataFrame, best: str | None, common: int) -> list[str]:
    """What a reader must know of the pairs, but for their regimes."""
    a, b, groups = found.a, found.b, list(found.groups)
    notes = []
    if found.contrast:
        one = (f"{k}: {_key(a.settings[k][0])} → {_key(b.settings[k][0])}" for k in found.contrast)
        notes.append(f"compared: {', '.join(one)}")
    if common:
        notes.append(f"{common} jobs of {a.name} and {b.name} are the same jobs: they are left out")
    notes += [*_unpaired(found, a), *_unpaired(found, b)]
    if best:
        notes.append(
            f"one cell of each side for each {_said(groups) or 'comparison'}, chosen by its mean "
            f"{best}: the rows of {best} itself are flattered by the choice"
        )
    elif found.cells and len(found.rows) > len(found.rows[groups].drop_duplicates()):
        notes.append(
            "the best of several cells is flattered by being the best; "
            "--best val_accuracy keeps what validation chose, tiltcli confirm tests it anew"
        )
    for metric, own in rows.groupby("metric", sort=False):
        if own["n"].eq(0).all():
            notes.append(f"{metric} is missing: the data has no such part")
    if found.pairs["by_draw"].any():
        notes.append(
            "the replicate is the draw of the data: n counts draws, means over their seeds"
        )
    if rows["n"].max() > EXACT_UP_TO:
        notes.append(
            f"p of more than {EXACT_UP_TO} pairs is that of {DRAWS} drawn sign patterns, not of all"
        )
    return [*notes, *_lost(a, groups), *_lost(b, groups)]


def _unpaired(found: Pairing, side: Side) -> list[str]:
    """Say which completed jobs of the cells that could be compared are in no pair."""
    able = np.isin(side.cells.of_job.to_numpy(), found.candidates[side.letter])
    able &= side.jobs["outcome"].eq(Outcome.COMPLETED).to_numpy()
    able[found.pairs[f"at_{side.letter}"]] = False
    alone = side.jobs[able]
    if alone.empty:
        return []
    widths = listing(sorted(alone["model.width"].dropna().unique().tolist()), 8)
    return [f"{len(alone)} completed jobs of {side.name} have no partner (at widths {widths})"]


def _lost(side: Side, groups: Sequence[str]) -> list[str]:
    """Say which jobs ended badly, and what they count with."""
    notes = []
    had = "they count with the accuracy that they had, or with chance if that is lower"
    for outcome, what in ((Outcome.DIVERGED, had), (Outcome.FAILED, "they are in no pair")):
        lost = side.jobs[side.jobs["outcome"] == outcome]
        if len(lost):
            where = ""
            if groups:
                sizes = lost.groupby(list(groups), dropna=False).size()
                each = [f"{_key(index)}: {n}" for index, n in sizes.items()]
                where = f" (by {_said(groups)}: {listing(each, 8)})"
            notes.append(
                f"{side.name}: {len(lost)} of {len(side.jobs)} jobs {outcome}; {what}{where}"
            )
    return notes


def _key(index: object) -> str:
    parts = index if isinstance(index, tuple) else (index,)
    return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)


def _said(keys: Sequence[str]) -> str:
    return ", ".join(map(tail, keys))

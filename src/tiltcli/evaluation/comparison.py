"""Two runs, or two selections of runs, compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tiltcli.errors import Outcome, UserError, listing, with_suggestion
from tiltcli.evaluation.cells import FITTED, OVER, REPLICATES, UNDER, UNKNOWN
from tiltcli.grid.settings import PATHS, SETTINGS
from tiltcli.statistics import holm, mean_interval, permutation_tests

METRICS = ("train_accuracy", "val_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        name_a: first run or selection.
        name_b: second; differences are b − a.
        metrics: columns compared.
        threshold: mean training accuracy of the static jobs from which a width counts as
            overparameterised.
        groups: settings that tell rows apart, `model.width` first.
        cells: settings that only one side has, or that vary within a pair (`a:` or `b:` before
            the name where both sides have them).
        rows: one row per group, cell and metric, with the groups and cells as columns and:
            regime, parameters, train_samples, metric, n (pairs), mean_a, mean_b, difference, low,
            high (95% interval of the mean difference), p (exact paired permutation test) and
            p_corrected (Holm, over the metric's rows).
        notes: what a reader must know to trust the rows.

    """

    name_a: str
    name_b: str
    metrics: tuple[str, ...]
    threshold: float
    groups: tuple[str, ...]
    cells: tuple[str, ...]
    rows: pd.DataFrame
    notes: tuple[str, ...]


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    name_a: str,
    name_b: str,
    metrics: Sequence[str] = METRICS,
    threshold: float = FITTED,
    best: str | None = None,
    baseline: pd.DataFrame,
) -> Comparison:
    """Compare two jobs tables.

    Jobs are paired where they agree on every setting that both sides have. A setting on which
    each side has one value of its own (`loss.kind`) is what is being compared, not paired on.

    Args:
        a: jobs of the first side.
        b: jobs of the second.
        name_a: its name, for messages.
        name_b: likewise.
        metrics: result columns to compare.
        threshold: see `Comparison`.
        best: a metric; keep per group the cell with the highest mean of it on side b (or on side
            a, if only that has cells).
        baseline: jobs among which the static ones are that decide the regimes.

    Raises:
        UserError: for an unknown metric, or if there is nothing to pair.

    """
    for metric in (*metrics, *([best] if best else [])):
        _check_metric(metric, a)
    notes: list[str] = []
    whole_a, whole_b = a, b
    a, b = _completed(a, name_a, notes), _completed(b, name_b, notes)
    if set(a["job"]) == set(b["job"]):
        raise UserError(
            f"{name_a} and {name_b} are the same jobs; to compare within a run, select: "
            "RUN@loss.kind=static RUN@loss.kind=dynamical"
        )
    pair, contrast = _pairing(a, b, name_a, name_b)
    if contrast:
        what = ", ".join(f"{key}: {_one(a, key)} → {_one(b, key)}" for key in contrast)
        notes.append(f"compared: {what}")
    cells_a, cells_b = _own(a, pair, contrast), _own(b, pair, contrast)
    kept = ["job", *metrics, *([best] if best and best not in metrics else [])]
    facts = ["parameters", "train_samples"]
    merged = a[[*pair, *cells_a, *kept, *facts]].merge(
        b[[*pair, *cells_b, *kept]], on=pair, suffixes=("_a", "_b")
    )
    if merged.empty:
        raise UserError(_why_no_pairs(a, b, pair, name_a, name_b))
    _note_unpaired(merged, a, b, name_a, name_b, notes)
    both = [key for key in cells_a if key in cells_b]
    renamed = {f"{key}_a": f"a:{key}" for key in both} | {f"{key}_b": f"b:{key}" for key in both}
    merged = merged.rename(columns=renamed)
    cells = [f"a:{k}" if k in both else k for k in cells_a]
    cells += [f"b:{k}" if k in both else k for k in cells_b]
    side = "b" if cells_b or not cells_a else "a"
    groups = _groups(merged, pair)
    judge = best or next((m for m in ("val_accuracy", *metrics) if f"{m}_b" in merged), metrics[0])
    merged = _in_order(merged, groups, cells, f"{judge}_{side}", only_best=bool(best))
    if best:
        notes.append(
            f"one cell for each {_said(groups)}, chosen by its mean {best}: the rows of {best} "
            "itself are flattered by the choice"
        )
    rows = _rows(merged, groups, cells, metrics)
    regimes = _regimes(merged, groups, pair, baseline, threshold, notes)
    rows.insert(len(groups) + len(cells), "regime", _looked_up(rows, groups, regimes))
    for metric in metrics:
        if rows.loc[rows["metric"] == metric, "n"].eq(0).all():
            notes.append(f"{metric} is missing: the data has no such part")
    if best is None and cells and rows.groupby(groups).size().max() > len(metrics):
        notes.append(
            "the best of several cells is flattered by being the best; "
            "--best val_accuracy keeps what validation chose, tiltcli confirm tests it anew"
        )
    for frame, name in ((whole_a, name_a), (whole_b, name_b)):
        _note_lost(frame, name, groups, notes)
    return Comparison(
        name_a,
        name_b,
        tuple(metrics),
        threshold,
        tuple(groups),
        tuple(cells),
        rows,
        tuple(dict.fromkeys(notes)),
    )


def _check_metric(metric: str, jobs: pd.DataFrame) -> None:
    known = [name for name in jobs.columns if name.endswith(("_loss", "_accuracy"))]
    if metric not in known:
        raise UserError(with_suggestion(f"--metric: no column {metric}", metric, known))


def _completed(jobs: pd.DataFrame, name: str, notes: list[str]) -> pd.DataFrame:
    done = jobs[jobs["outcome"] == Outcome.COMPLETED]
    if done.empty:
        counts = jobs["outcome"].value_counts().to_dict()
        what = ", ".join(f"{n} {outcome}" for outcome, n in counts.items()) or "no jobs yet"
        raise UserError(f"{name}: no completed job to compare ({what})")
    return done


def _note_lost(jobs: pd.DataFrame, name: str, groups: list[str], notes: list[str]) -> None:
    """Jobs that ended badly are missing from the means: say where."""
    for outcome in (Outcome.DIVERGED, Outcome.FAILED):
        lost = jobs[jobs["outcome"] == outcome]
        if len(lost):
            where = lost.groupby(groups, dropna=False).size()
            each = ", ".join(f"{_key(index)}: {n}" for index, n in where.items())
            notes.append(
                f"{name}: {len(lost)} of {len(jobs)} jobs {outcome}; they are in no pair "
                f"(by {_said(groups)}: {each})"
            )


def _key(index: object) -> str:
    parts = index if isinstance(index, tuple) else (index,)
    return " ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in parts)


def _settings(jobs: pd.DataFrame) -> list[str]:
    """Setting columns that say anything; paths do not, their digests do."""
    return [
        name
        for name in jobs.columns
        if "." in name and name not in PATHS and jobs[name].notna().any()
    ]


def _pairing(
    a: pd.DataFrame, b: pd.DataFrame, name_a: str, name_b: str
) -> tuple[list[str], list[str]]:
    """Settings to pair on, and settings that are what is compared."""
    shared = [key for key in _settings(a) if key in _settings(b)]
    pair, contrast = [], []
    for key in shared:
        in_a, in_b = (set(frame[key].dropna()) for frame in (a, b))
        one_each = len(in_a) == 1 and len(in_b) == 1 and in_a != in_b
        if one_each and a[key].notna().all() and b[key].notna().all() and key not in REPLICATES:
            contrast.append(key)
        else:
            pair.append(key)
    if not any(key not in REPLICATES for key in pair):
        raise UserError(f"{name_a} and {name_b} share no settings: there is nothing to pair on")
    return pair, contrast


def _one(jobs: pd.DataFrame, key: str) -> str:
    return _key(jobs[key].iloc[0])


def _own(jobs: pd.DataFrame, pair: list[str], contrast: list[str]) -> list[str]:
    """Settings of one side alone that vary: they make its cells."""
    return [
        key
        for key in _settings(jobs)
        if key not in pair and key not in contrast and jobs[key].nunique(dropna=False) > 1
    ]


def _why_no_pairs(
    a: pd.DataFrame, b: pd.DataFrame, pair: list[str], name_a: str, name_b: str
) -> str:
    apart = []
    for key in pair:
        in_a, in_b = (set(frame[key].dropna().tolist()) for frame in (a, b))
        if not in_a & in_b:
            shown = (listing(sorted(values), 6) for values in (in_a, in_b))
            apart.append(f"{key} ({' against '.join(shown)})")
    why = "they have no value in common of " + "; ".join(apart) if apart else "no two jobs agree"
    return f"no job of {name_a} has a partner in {name_b}: {why}"


def _note_unpaired(
    merged: pd.DataFrame,
    a: pd.DataFrame,
    b: pd.DataFrame,
    name_a: str,
    name_b: str,
    notes: list[str],
) -> None:
    for frame, column, name in ((a, "job_a", name_a), (b, "job_b", name_b)):
        paired = set(merged[column].tolist())
        alone = frame[[job not in paired for job in frame["job"].tolist()]]
        if len(alone):
            widths = listing(sorted(alone["model.width"].dropna().unique().tolist()), 8)
            notes.append(
                f"{len(alone)} completed jobs of {name} have no partner (at widths {widths})"
            )


def _groups(merged: pd.DataFrame, pair: list[str]) -> list[str]:
    varying = [
        key
        for key in pair
        if key not in REPLICATES and key != "model.width" and merged[key].nunique(dropna=False) > 1
    ]
    return ["model.width", *varying]


def _said(keys: Sequence[str]) -> str:
    return ", ".join(key.rpartition(".")[2] for key in keys)


def _in_order(
    merged: pd.DataFrame, groups: list[str], cells: list[str], judge: str, *, only_best: bool
) -> pd.DataFrame:
    """Number the cells of each group by rank (column `rank`, 0 is best); keep the best if asked."""
    keys = [*groups, *cells]
    score = merged.groupby(keys, dropna=False, sort=True)[judge].mean()
    if judge.startswith(("train_loss", "val_loss", "test_loss", "dynamical_loss")):
        score = -score
    # A stable sort: of equal cells the first in the order of the settings comes first.
    table = score.rename("score").reset_index()
    table = table.sort_values("score", ascending=False, kind="stable", na_position="last")
    table["rank"] = table.groupby(groups, dropna=False).cumcount()
    merged = merged.merge(table[[*keys, "rank"]], on=keys)
    return merged[merged["rank"] == 0] if only_best else merged


def _rows(
    merged: pd.DataFrame, groups: list[str], cells: list[str], metrics: Sequence[str]
) -> pd.DataFrame:
    keys = [*groups, "rank", *cells]
    rows: list[dict[str, object]] = []
    differences: list[npt.NDArray[np.float64]] = []
    # Arrays of the whole table, cut by group: frames of a few rows each would take ten times as
    # long where there are a thousand cells.
    sides = {
        name: merged[name].to_numpy(float, na_value=np.nan)
        for metric in metrics
        for name in (f"{metric}_a", f"{metric}_b")
    }
    facts = {name: merged[name].to_numpy() for name in ("parameters", "train_samples")}
    number = merged.groupby(keys, dropna=False, sort=True).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    columns = {key: merged[key].tolist() for key in (*groups, *cells)}
    for places in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        named = {key: column[places[0]] for key, column in columns.items()}
        for metric in metrics:
            a, b = sides[f"{metric}_a"][places], sides[f"{metric}_b"][places]
            both = ~(np.isnan(a) | np.isnan(b))
            difference = (b - a)[both]
            differences.append(difference)
            estimate = mean_interval(difference)
            rows.append(
                {
                    **named,
                    "parameters": int(facts["parameters"][places[0]]),
                    "train_samples": int(facts["train_samples"][places[0]]),
                    "metric": metric,
                    "n": estimate.n,
                    "mean_a": a[both].mean() if both.any() else np.nan,
                    "mean_b": b[both].mean() if both.any() else np.nan,
                    "difference": estimate.mean,
                    "low": estimate.low,
                    "high": estimate.high,
                }
            )
    frame = pd.DataFrame(rows)
    frame["p"] = permutation_tests(differences)
    frame["p_corrected"] = float("nan")
    for metric in metrics:
        chosen = frame["metric"] == metric
        frame.loc[chosen, "p_corrected"] = holm(frame.loc[chosen, "p"].to_numpy(float))
    for key in (*groups, *cells):
        setting = SETTINGS.get(key.removeprefix("a:").removeprefix("b:"))
        if setting is not None and setting.arrow == "int64":
            frame[key] = frame[key].astype("Int64")
    return frame


def _regimes(
    merged: pd.DataFrame,
    groups: list[str],
    pair: list[str],
    baseline: pd.DataFrame,
    threshold: float,
    notes: list[str],
) -> dict[tuple[object, ...], str]:
    """Regime of each group, from the static jobs that share the group's settings."""
    static = baseline[
        (baseline["loss.kind"] == "static") & (baseline["outcome"] == Outcome.COMPLETED)
    ]
    keys = [
        key
        for key in pair
        if key not in REPLICATES and (key == "loss.base" or not key.startswith("loss."))
    ]
    found: dict[tuple[object, ...], str] = {}
    without = []
    for values, jobs in merged.groupby(groups, dropna=False):
        group = values if isinstance(values, tuple) else (values,)
        same = static.merge(jobs[keys].drop_duplicates(), on=keys)
        if same.empty:
            found[group] = UNKNOWN
            without.append(_key(group))
        else:
            found[group] = OVER if same["train_accuracy"].mean() >= threshold else UNDER
    if without:
        notes.append(
            f"no static baseline at {_said(groups)} {', '.join(without)}: the regime is unknown; "
            'a grid with loss.kind = ["static", "dynamical"] has one'
        )
    return found


def _looked_up(
    rows: pd.DataFrame, groups: list[str], regimes: dict[tuple[object, ...], str]
) -> list[str]:
    values = zip(*(rows[key] for key in groups), strict=True)
    return [regimes.get(tuple(group), UNKNOWN) for group in values]

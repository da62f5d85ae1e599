"""What every view of a run must show, held against the oracle; one function a view.

Each takes a run and the folder to write to, and fails with the command and what it said.
"""

import json
import math
import tomllib

import numpy as np

import cell_oracle as oracle
import views
from views import ask

VAL = "val_accuracy"
LOSSES = {"lost", "lost,", "diverged", "diverged,", "failed", "failed,"}
METRICS = oracle.METRICS


def near(a, b, tolerance):
    """Whether two numbers are the same; missing ones are."""
    a, b = (math.nan if one is None else float(one) for one in (a, b))
    return (math.isnan(a) and math.isnan(b)) or abs(a - b) <= tolerance


def ends_well(answer, *codes):
    """No traceback, and either all well or a message after error:."""
    assert answer.code in (codes or (0,)), str(answer)
    assert "Traceback" not in answer.err, str(answer)
    if answer.code:
        assert answer.code == 2, str(answer)
        assert any(line.startswith("error: ") for line in answer.err.splitlines()), str(answer)
        assert not answer.out, str(answer)
    return answer


def counts_only_replicates(run, text, answer):
    for n in views.counts_in(text):
        assert n <= run.most, f"n = {n}, but no cell has more than {run.most} replicates\n{answer}"


# compare


def describes(row, cell):
    """Whether the settings that a row names are the cell's, as far as it has them."""
    return all(
        same(value, cell.settings[name])
        for name, value in row.items()
        if name in cell.settings and cell.applies(name)
    )


def same(shown, value):
    if isinstance(shown, int | float) and isinstance(value, int | float):
        return math.isclose(shown, value, rel_tol=2e-5)
    return shown == value


def check_rows(run_name, rows, expected, everything, answer, tolerance=1e-9, complete=True):
    """Each row is one pair of cells with that pair's numbers; each pair with jobs has its row.

    Args:
        run_name: for messages.
        rows: as read from a comparison.
        expected: the pairs that may stand there.
        everything: all cells, for the regime.
        answer: of the command.
        tolerance: of shown accuracies.
        complete: whether each pair of `expected` must be there.
    """
    shown = []
    for row in rows:
        found = [one for one in expected if describes(row, one.a) and describes(row, one.b)]
        text = f"{run_name}: {row}\n{answer}"
        assert len(found) == 1, f"a row that {len(found)} pairs of cells answer to\n{text}"
        numbers = found[0].numbers(row["metric"])
        for key, value in numbers.items():
            if key in row:
                close = tolerance if key != "p" else 1e-9
                assert near(row[key], value, close), f"{key} should be {value}\n{text}"
        partners = [oracle.partner(one, everything) for one in (found[0].a, found[0].b)]
        regimes = {oracle.regime(one, everything) for one in (found[0].a, found[0].b)}
        if partners[0] is not partners[1]:  # the static loss itself differs from side to side
            regimes.add("unknown")
        assert row["regime"] in regimes, f"regime should be {regimes}\n{text}"
        shown.append((found[0], row["metric"]))
    assert len(shown) == len({(pair.a.key, pair.b.key, metric) for pair, metric in shown}), answer
    if complete:
        there = {(pair.a.key, pair.b.key, metric) for pair, metric in shown}
        for pair in expected:
            for metric in METRICS:
                if pair.numbers(metric)["n"]:
                    missing = f"no row for {metric} of {pair.a} with {pair.b}\n{answer}"
                    assert (pair.a.key, pair.b.key, metric) in there, missing
    return [pair for pair, _ in shown]


def check_holm(rows, answer):
    """The corrected p-values are Holm's over the rows of each metric."""
    for metric in {row["metric"] for row in rows}:
        own = [row for row in rows if row["metric"] == metric]
        right = oracle.holm([math.nan if r["p"] is None else r["p"] for r in own])
        for row, value in zip(own, right, strict=True):
            assert near(row["p_corrected"], value, 1e-9), f"{row} should be {value}\n{answer}"


def sides(run):
    return f"{run.name}@loss.kind=static", f"{run.name}@loss.kind=dynamical"


def compare(run, *more, form="json"):
    where = ("--results", run.results, "--format", form)
    return ask("compare", *sides(run), *more, *where)


def both(run):
    """Whether there is a pair to compare: else a command may say so."""
    return any(pair.numbers(metric)["n"] for pair in run.pairs for metric in METRICS)


def check_compare(run, folder, form="json", tolerance=1e-9):
    """All pairs of static and dynamical cells, each once."""
    answer = compare(run, form=form)
    if not both(run):
        ends_well(answer, 2)
        return
    ends_well(answer)
    rows = views.rows_of(answer, form, oracle.settings_of(run.jobs))
    check_rows(run.name, rows, run.pairs, run.cells, answer, tolerance)
    if form != "markdown":
        check_holm(rows, answer)
    if any(cell.lost("diverged") for cell in run.cells):
        assert "diverged" in answer.out + answer.err, answer


def check_compare_csv(run, folder):
    check_compare(run, folder, "csv")


def check_compare_markdown(run, folder):
    check_compare(run, folder, "markdown", 6e-5)


def check_compare_table(run, folder):
    """The table for reading: no count beyond the replicates."""
    answer = ends_well(compare(run, form="table"), 0 if both(run) else 2)
    counts_only_replicates(run, answer.out, answer)


def check_compare_best(run, folder):
    """One cell for each static partner, the best by the rule."""
    if not both(run):
        return
    answer = ends_well(compare(run, "--best", VAL))
    rows = views.rows_of(answer, "json", ())
    check_best(run, rows, answer)
    check_holm(rows, answer)


def check_best(run, rows, answer, tolerance=1e-9):
    """Rows of the chosen cells alone, one for each group that has a partner."""
    allowed = {cell.key for tied in run.chosen() for cell in tied}
    expected = run.pairs
    shown = check_rows(run.name, rows, expected, run.cells, answer, tolerance, complete=False)
    for pair in shown:
        assert pair.b.key in allowed, f"chosen, but not the best of its group: {pair.b}\n{answer}"
    groups = {pair.b.without_loss for pair in shown}
    assert len({pair.b.key for pair in shown}) == len(groups), f"two cells of a group\n{answer}"
    due = [
        tied
        for tied in run.chosen()
        if tied
        and {cell.key for cell in tied} <= {p.b.key for p in expected if p.numbers(VAL)["n"]}
    ]
    for tied in due:
        assert tied[0].without_loss in groups, f"no row for the group of {tied[0]}\n{answer}"


# runs, and what a sweep says at its end


def check_summary_text(run, text, answer, metrics):
    """Means with intervals and counts: each is one cell's, each group's best cell is there."""
    shown = views.means_in(text)

    def fits(one, cell):
        return any(
            one.n == found.n
            and near(one.mean, found.mean, 6e-4)
            and (one.half is None or near(one.half, found.half, 6e-4))
            for found in (cell.intervals[metric] for metric in metrics)
        )

    for one in shown:
        assert any(fits(one, cell) for cell in run.cells), f"no cell has {one}\n{answer}"
    counts_only_replicates(run, text, answer)
    if "--where" in text or not both(run):
        return
    for cell in run.static:
        if len(cell.values(VAL)):
            assert any(fits(one, cell) for one in shown), f"not shown: {cell}\n{answer}"
    for tied in run.chosen():
        if tied:
            there = any(fits(one, cell) for one in shown for cell in tied)
            assert there, f"best, but not shown: {tied[0]}\n{answer}"


def check_runs(run, folder):
    """Progress, and the accuracies at the end."""
    answer = ends_well(ask("runs", run.name, "--results", run.results))
    check_summary_text(run, answer.out, answer, ("train_accuracy", VAL))


def check_runs_json(run, folder):
    """Counts by outcome; axes are the settings that vary."""
    answer = ends_well(ask("runs", run.name, "--results", run.results, "--format", "json"))
    held = json.loads(answer.out)
    outcomes = run.jobs["outcome"].value_counts()
    for outcome in ("completed", "diverged", "failed"):
        assert held[outcome] == outcomes.get(outcome, 0), answer
    assert held["done"] == len(run.jobs), answer
    assert held["jobs"] == held["done"] + held["missing"], answer
    for name, values in held["axes"].items():
        shown = {views.canonical(name, value) for value in values}
        there = {v for c in run.cells for v in c.jobs[name] if c.applies(name) and v is not None}
        assert {v for v in shown if v is not None} >= there, f"{name}: {there}\n{answer}"
    for name in oracle.settings_of(run.jobs):
        if len({cell.settings[name] for cell in run.cells} - {None}) > 1:
            assert name in held["axes"], f"{name} varies\n{answer}"


def check_sweep_again(run, folder):
    """A finished sweep run again trains nothing and says how it stands."""
    words = ("--shard", "1/2") if run.name == "half" else ()
    answer = ask("sweep", run.grid, "--results", run.results, *words)
    assert answer.code == int(any(cell.lost("failed") for cell in run.cells)), answer
    check_summary_text(run, answer.out + answer.err, answer, (VAL,))


# confirm


def check_confirm(run, folder):
    """The grid trains the best cell of each group and its static partner, on fresh seeds."""
    target = folder / "confirm.toml"
    place = ("--results", run.results)
    answer = ask("confirm", run.name, "-o", target, "--seeds", "2", *place)
    chosen = [tied for tied in run.chosen() if tied]
    if not chosen:
        ends_well(answer, 2)
        return
    ends_well(answer)
    held = tomllib.loads(target.read_text(encoding="utf-8"))
    ends_well(ask("sweep", target, "--results", folder, "--quiet"))
    again = oracle.jobs(folder / held["name"])
    made = oracle.cells(again)
    old_seeds = set(run.jobs["train.seed"])
    for cell in made:
        assert cell.replicates == 2, f"{cell.replicates} replicates of {cell}\n{answer}"
        assert not old_seeds & set(cell.jobs["train.seed"]), f"seeds used before: {cell}\n{answer}"
    tilted = {cell.key for cell in made if not cell.static}
    said = f"{answer.out}{answer.err}{target.read_text()}"
    for tied in chosen:
        found = tilted & {cell.key for cell in tied}
        if not found and all(cell.lost() for cell in tied) and LOSSES & set(said.split()):
            continue  # left out, because all its cells lost jobs; which is said
        assert len(found) == 1, f"not confirmed: {tied[0]}\n{target.read_text()}"
        tilted -= found
    assert not tilted, f"confirmed, but not the best of a group: {tilted}\n{target.read_text()}"
    partners = {cell.without_loss for cell in made if cell.static}
    due = {cell.without_loss for cell in made if not cell.static}
    assert partners == due, f"{partners ^ due}\n{target.read_text()}"


# plot


def plot(run, folder, kind, *more):
    words = ("plot", kind, run.name, "-o", folder / f"{kind}.png", "--results", run.results)
    return ask(*words, *more)


def drawn(run, answer):
    """The figure of a plot that ended well; None where it asks for --where."""
    ends_well(answer, 0, 2)
    if answer.code:
        assert "--where" in answer.err, f"a refusal that does not say how to go on\n{answer}"
        return None
    (figure,) = answer.figures
    for text in views.texts_of(figure):
        counts_only_replicates(run, text, text)
    return figure


def known(run, metric=VAL):
    """Means and ends of intervals of all cells."""
    found = [cell.intervals[metric] for cell in run.cells]
    return np.array([(one.mean, one.low, one.high) for one in found]).ravel()


def among(value, numbers, tolerance=2e-6):
    return bool(np.nanmin(np.abs(np.asarray(numbers) - value), initial=1) <= tolerance)


def check_plot_phase(run, folder):
    """Each number on the maps is one cell's, each cell that completed a job is on a map."""
    answer = plot(run, folder, "phase", "--metric", VAL)
    if not [cell for cell in run.tilted if len(cell.values(VAL))]:
        ends_well(answer, 0, 2)
        return
    figure = drawn(run, answer)
    if figure is None:
        return
    kept = [c for c in run.tilted if c.lost() < c.replicates]
    due = sorted(c.mean(VAL) for c in kept if len(c.values(VAL)))
    values = sorted(views.mapped(figure))
    texts = views.texts_of(figure)
    assert len(values) == len(due), f"{len(values)} fields for {len(due)} cells\n{texts}"
    for value, right in zip(values, due, strict=True):
        assert near(value, right, 2e-6), f"{value} is no cell's mean\n{due}\n{texts}"
    ends = known(run)
    for label, _, heights in views.lines_of(figure, least=1):
        for height in heights[np.isfinite(heights)]:
            assert among(height, ends), f"{label}: {height} is neither mean nor end\n{texts}"
    statics = [cell.mean(VAL) for cell in run.static]
    for text in texts:
        if text.startswith("static\n"):
            assert among(float(text.split()[-1]), statics, 6e-4), f"{text!r}: {statics}"


def check_plot_curves(run, folder):
    """Each curve is one cell's mean; those that are drawn beside static are the best."""
    answer = plot(run, folder, "curves", "--metric", VAL)
    figure = drawn(run, answer)
    if figure is None:
        return
    texts = views.texts_of(figure)
    allowed = run.chosen_somewhere()
    for label, epochs, heights in views.lines_of(figure):
        kinds = run.static if label.startswith("static") else run.tilted
        found = [cell for cell in kinds if follows(run, cell, epochs, heights)]
        assert found, f"{label}: {heights} is no cell's curve\n{texts}"
        if not label.startswith("static") and both(run):
            assert allowed & {cell.key for cell in found}, f"{label}: not the best\n{texts}"


def follows(run, cell, epochs, heights):
    right = oracle.curve(cell, run.metrics, VAL)
    return len(right) == len(epochs) and bool(
        (right.index.to_numpy() == epochs).all()
        and np.allclose(right.to_numpy(), heights, atol=2e-6)
    )


def check_plot_compare(run, folder):
    """Each dot is the difference of a chosen cell from static."""
    answer = plot(run, folder, "compare")
    if not both(run):
        ends_well(answer, 2)
        return
    ends_well(answer)
    (figure,) = answer.figures
    texts = views.texts_of(figure)
    counts_only_replicates(run, "\n".join(texts), texts)
    allowed = {cell.key for tied in run.chosen() for cell in tied}
    due = [pair for pair in run.pairs if pair.b.key in allowed]
    right = [pair.numbers(metric)["difference"] for pair in due for metric in METRICS]
    for axes in figure.axes:
        dots = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1]
        for dot in dots:
            assert among(float(dot), right), f"{dot} is no chosen pair's difference\n{texts}"
        groups = {p.b.without_loss for p in due if p.numbers(VAL)["n"]}
        assert not dots or len(dots) == len(groups), f"{len(dots)} dots, {len(groups)} groups"


def check_plot_gamma(run, folder):
    """One schedule of a dynamical job."""
    ends_well(plot(run, folder, "gamma"), 0 if run.tilted else 2)


def check_plot_trace(run, folder):
    """One training, logged at every 20th step only."""
    ends_well(plot(run, folder, "trace"), 0, 2)


# report


def check_report_markdown(run, folder):
    """The tables of differences: best cells by the rule, with their numbers."""
    target = folder / "report.md"
    ends_well(ask("report", run.name, "-o", target, "--results", run.results))
    text = target.read_text(encoding="utf-8")
    counts_only_replicates(run, text, text)
    rows = [row for found in views.comparisons(text, oracle.settings_of(run.jobs)) for row in found]
    if both(run):
        check_best(run, rows, text, 6e-5)


def check_report_page(run, folder):
    """Every cell of the page is a cell of the run with its numbers, and none is missing."""
    target = folder / "report.html"
    answer = ends_well(ask("report", run.name, "-o", target, "--results", run.results))
    text = target.read_text(encoding="utf-8")
    for metric in METRICS:
        rows = views.page_cells(text, metric)
        assert len(rows) == len(run.cells), f"{len(rows)} of {len(run.cells)} cells\n{answer}"
        left = list(run.cells)
        for row in rows:
            found = [cell for cell in left if is_page_row(row, cell, metric)]
            assert found, f"{metric}: no cell has {row}\n{answer}"
            left.remove(found[0])
    held = views.page_data(text)
    rows = views.page_cells(text, VAL)
    for one in held["widths"]:
        if one.get("best") is not None:
            row = rows[one["best"]]
            found = {cell.key for cell in run.cells if is_page_row(row, cell, VAL)}
            assert found & run.chosen_somewhere(), f"not the best of any group: {row}\n{answer}"


def is_page_row(row, cell, metric):
    found = cell.intervals[metric]
    tilt = [cell.settings["loss.amplitude"], cell.settings["loss.period"]]
    clipped = [np.clip(value, 0, 1) for value in (found.mean, found.low, found.high)]
    return (
        row["width"] == cell.settings["model.width"]
        and [none(row["amplitude"]), none(row["period"])] == tilt
        and (row["n"], row["diverged"], row["failed"])
        == (found.n, cell.lost("diverged"), cell.lost("failed"))
        and all(
            near(row[key], value, 2e-5)
            for key, value in zip(("mean", "low", "high"), clipped, strict=True)
        )
    )


def none(value):
    return views.canonical("", value)


VIEWS = {
    name.removeprefix("check_").replace("_", "-"): function
    for name, function in list(globals().items())
    if name.startswith("check_") and function.__code__.co_varnames[:2] == ("run", "folder")
}

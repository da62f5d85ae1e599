"""Figures look as they did when somebody last looked at them; the same figure is the same bytes."""

import dataclasses
import itertools
from unittest.mock import patch

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from golden import FIGURES, FOLDER, grey, jobs_table, metrics_table, picture, training
from tiltcli.api.plotting import KINDS
from tiltcli.evaluation.comparison import compare
from tiltcli.evaluation.tuning import budgets, tune
from tiltcli.plots.budget import budget
from tiltcli.plots.curves import curves
from tiltcli.plots.forest import forest
from tiltcli.plots.gamma import gamma_figure
from tiltcli.plots.phase import phase
from tiltcli.plots.style import STYLES, SUFFIXES, Look, save
from tiltcli.plots.trace import trace
from tiltcli.schedule import Schedule

TOLERANCE = 0.02
"""Root mean square of the difference between blurred pictures, black to white being 1.

Other versions of matplotlib or its fonts move letters by parts of a pixel, which the blur hides.
"""


def blurred(pixels, size=4):
    height, width = (n // size * size for n in pixels.shape)
    cut = pixels[:height, :width]
    return cut.reshape(height // size, size, width // size, size).mean(axis=(1, 3))


def difference(one, two):
    assert abs(one.shape[0] - two.shape[0]) <= 4, (one.shape, two.shape)
    assert abs(one.shape[1] - two.shape[1]) <= 4, (one.shape, two.shape)
    height, width = (min(n) for n in zip(one.shape, two.shape, strict=True))
    change = blurred(one[:height, :width]) - blurred(two[:height, :width])
    return float(np.sqrt((change**2).mean()))


def kept(name):
    return grey(matplotlib.image.imread(FOLDER / f"{name}.png"))


def test_every_kind_is_guarded():
    assert set(FIGURES) == set(KINDS) == {path.stem for path in FOLDER.glob("*.png")}


@pytest.mark.parametrize("name", FIGURES)
def test_looks_as_it_did(name):
    assert difference(picture(FIGURES[name](Look())), kept(name)) < TOLERANCE


def test_a_change_is_noticed():
    other = gamma_figure(Schedule(3, 20.0, 200, 40, 804), "golden", Look())
    assert difference(picture(other), kept("gamma")) > TOLERANCE


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_bytes(tmp_path, name):
    figures = [FIGURES[name](Look("screen", 3.4)) for _ in range(2)]
    for suffix in SUFFIXES:
        paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
        for figure, path in zip(figures, paths, strict=True):
            save(figure, path)
        assert paths[0].read_bytes() == paths[1].read_bytes(), suffix


@pytest.mark.parametrize("style", STYLES)
def test_page_and_ink_are_of_the_style(style):
    figure = gamma_figure(Schedule(3, 5.0, 10), "x", Look(style))
    theme = STYLES[style]
    assert matplotlib.colors.to_hex(figure.get_facecolor()).upper() == theme.page
    assert figure.axes[0].xaxis.label.get_color() == theme.ink


def written(figure):
    """Texts of a figure as drawn, each with its box in pixels; and the figure's own box."""
    drawn, original = [], Text.draw

    def draw(text, renderer, *args, **options):
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        return original(text, renderer, *args, **options)

    canvas = FigureCanvasAgg(figure)
    with patch.object(Text, "draw", draw):
        canvas.draw()
    boxes = [
        (t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in dict.fromkeys(drawn)
    ]
    return boxes, figure.bbox


def one_row(jobs, periods=2):
    """A grid of one amplitude."""
    tilted = jobs["loss.amplitude"].isna() | jobs["loss.amplitude"].eq(3)
    few = jobs["loss.period"].isna() | jobs["loss.period"].rank(method="dense").le(periods)
    return jobs[tilted & few]


def saturated(jobs):
    """Every job fits everything, but for the last digits."""
    accuracies = {f"{part}_accuracy": 1.0 for part in ("train", "val", "test")}
    whole = jobs.assign(**accuracies)
    whole.loc[whole["train.seed"].eq(0), "val_accuracy"] = 0.9995
    return whole


def flat():
    """A training whose curvature hardly varies, with pulses too short to be seen."""
    one = training(0)
    probes = one.probes.assign(hessian_max=np.linspace(0.55, 2.05, len(one.probes)))
    return dataclasses.replace(one, probes=probes, schedule=Schedule(3, 2.0, 5, 0, None))


HARD = {
    f"{kind} {name}": (lambda look, draw=draw, table=table: draw(table(jobs_table()), look))
    for kind, draw in {
        "phase": lambda jobs, look: phase(jobs, "val_accuracy", "a run", look),
        "curves": lambda jobs, look: curves(
            jobs, metrics_table(jobs), "train_accuracy", "a run", look
        ),
        "compare": lambda jobs, look: forest(
            compare(
                *(jobs[jobs["loss.kind"] == kind] for kind in ("static", "dynamical")),
                name_a="static",
                name_b="dynamical",
                baseline=jobs,
            ),
            look,
        ),
        "budget": lambda jobs, look: budget(
            budgets(tune(jobs, metrics=["test_accuracy"]), jobs),
            "test_accuracy",
            "val_accuracy",
            "a run",
            look,
        ),
    }.items()
    for name, table in {
        "of one row": one_row,
        "of one cell": lambda jobs: one_row(jobs, 1),
        "of one width": lambda jobs: one_row(jobs[jobs["model.width"] == 10]),
        "saturated": saturated,
    }.items()
} | {"trace of flat curvature": lambda look: trace(flat(), None, look)}
"""Figures in which room is short, or nothing varies."""


@pytest.mark.parametrize("style", ["paper", "screen"])
@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("name", [*FIGURES, *HARD])
def test_no_text_lies_on_another_or_is_cut(name, width, style):
    figure = (FIGURES | HARD)[name](Look(style, width))
    boxes, page = written(figure)
    assert len(boxes) > 5
    if "saturated" in name:
        for panel in figure.axes:
            assert not panel.yaxis.get_major_formatter().get_offset()
            assert not panel.xaxis.get_major_formatter().get_offset()
    if name in ("budget saturated", "curves saturated"):
        assert max(panel.get_ylim()[1] for panel in figure.axes) <= 1.011
    for text, box in boxes:
        assert box.x0 > -2 and box.y0 > -2 and box.x1 < page.x1 + 2 and box.y1 < page.y1 + 2, text
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, down) <= 2, (one, two)

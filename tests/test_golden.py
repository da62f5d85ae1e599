"""Figures look as they did when somebody last looked at them; the same figure is the same bytes."""

import itertools
from unittest.mock import patch

import matplotlib.image
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from golden import FIGURES, FOLDER, grey, picture
from tiltcli.api.figure_kinds import KINDS
from tiltcli.plots.gamma import gamma_figure
from tiltcli.plots.style import STYLES, Look, save
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


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
@pytest.mark.parametrize("name", FIGURES)
def test_the_same_bytes(tmp_path, name, suffix):
    paths = [tmp_path / f"{number}{suffix}" for number in range(2)]
    for path in paths:
        save(FIGURES[name](Look("screen", 3.4)), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


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
    canvas.draw()
    with patch.object(Text, "draw", draw):
        canvas.draw()
    boxes = [
        (t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in dict.fromkeys(drawn)
    ]
    return boxes, figure.bbox


@pytest.mark.parametrize("style", ["paper", "screen"])
@pytest.mark.parametrize("width", [3.4, 7.0])
@pytest.mark.parametrize("name", FIGURES)
def test_no_text_lies_on_another_or_is_cut(name, width, style):
    boxes, page = written(FIGURES[name](Look(style, width)))
    assert len(boxes) > 5
    for text, box in boxes:
        assert box.x0 > -2 and box.y0 > -2 and box.x1 < page.x1 + 2 and box.y1 < page.y1 + 2, text
    for (one, a), (two, b) in itertools.combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, down) <= 2, (one, two)

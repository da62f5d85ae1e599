"""What commands show, as numbers: run in this process, read back from text, tables and figures."""

import base64
import contextlib
import io
import json
import os
import re
from dataclasses import dataclass, field
from unittest import mock

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cell_oracle import canonical
from tiltcli.cli import main


@dataclass
class Answer:
    """How a command ended, and what it said."""

    words: tuple
    code: int
    out: str
    err: str
    figures: list = field(default_factory=list)

    def __str__(self):
        said = f"tiltcli {' '.join(self.words)}\nexit code {self.code}"
        return f"{said}\nstdout: {self.out[:3000]}\nstderr: {self.err[:3000]}"


def ask(*words):
    """Run a command in this process; figures that it draws are kept, and blank ones written."""
    words = tuple(map(str, words))
    out, err = io.StringIO(), io.StringIO()
    answer = Answer(words, 0, "", "")
    plain = {"NO_COLOR": "1", "COLUMNS": "220", "TERM": "dumb"}

    save = Figure.savefig

    def keep(figure, *words, **options):
        answer.figures.append(figure)
        save(Figure(), *words, **options | {"dpi": 10})

    with (
        mock.patch("sys.argv", ["tiltcli", *words]),
        mock.patch.dict(os.environ, plain),
        mock.patch.object(Figure, "savefig", keep),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            answer.code = ended.code or 0
    answer.out, answer.err = out.getvalue(), err.getvalue()
    return answer


# Comparisons


def rows_of(answer, form, names):
    """A comparison's rows: settings by their dotted names, and the numbers.

    Args:
        answer: of compare.
        form: "json", "csv" or "markdown".
        names: the settings there are.
    """
    if form == "json":
        return [tidy(row) for row in json.loads(answer.out)["rows"]]
    if form == "csv":
        frame = pd.read_csv(io.StringIO(answer.out)).astype(object)
        return [tidy(row) for row in frame.to_dict("records")]
    return [row for found in comparisons(answer.out, names) for row in found]


def tidy(row):
    return {key: canonical(key, value) for key, value in row.items()}


COLUMNS = {
    "pairs": "n",
    "n": "n",
    "mean a": "mean_a",
    "mean b": "mean_b",
    "b − a": "difference",
    "95% interval": "interval",
    "A": "loss.amplitude",
    "T": "loss.period",
}


def comparisons(text, names):
    """The tables of differences in a Markdown text, each a list of rows."""
    short = {name.rsplit(".", 1)[1]: name for name in names}
    found = []
    metric = None
    for header, body, before in markdown_tables(text):
        named = re.findall(r"\*\*(\w+_(?:accuracy|loss))\*\*", before)
        metric = named[-1] if named else metric
        if "b − a" not in header:
            continue
        keys = [COLUMNS.get(h, short.get(h.replace(" ", "_").split(" (")[0], h)) for h in header]
        found.append([number_row(dict(zip(keys, row, strict=True)), metric) for row in body])
    return found


def number_row(row, metric):
    low, _, high = row.pop("interval", "").partition("…")
    numbers = {key: number(row.pop(key)) for key in ("n", "mean_a", "mean_b", "difference")}
    settings = {key: canonical(key, value_of(text)) for key, text in row.items() if "." in key}
    regime = row.get("regime")
    words = {"under": "underparameterised", "over": "overparameterised"}
    ends = {"low": number(low), "high": number(high)}
    return settings | {"metric": metric, "regime": words.get(regime, regime)} | numbers | ends


def number(text):
    text = text.strip().replace("−", "-").replace(",", "")
    try:
        return float(text)
    except ValueError:
        return None


def value_of(text):
    """A setting as a table shows it."""
    text = text.strip()
    if text in ("", "–", "—", "-", "none", "None"):
        return None
    if text in ("true", "false", "True", "False"):
        return text.lower() == "true"
    found = number(text)
    return text if found is None else found


def markdown_tables(text):
    """(header, rows, text before) of every table."""
    before, lines = [], text.splitlines()
    at = 0
    while at < len(lines):
        if lines[at].startswith("|") and at + 1 < len(lines) and "---" in lines[at + 1]:
            header, at, body = split_row(lines[at]), at + 2, []
            while at < len(lines) and lines[at].startswith("|"):
                body.append(split_row(lines[at]))
                at += 1
            yield header, body, "\n".join(before)
            before = []
        else:
            before.append(lines[at])
            at += 1


def split_row(line):
    return [part.strip() for part in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


# Text


@dataclass(frozen=True)
class Shown:
    """A mean as a terminal's table shows it; half is the interval's half width."""

    mean: float
    half: float | None
    n: int


MEAN = re.compile(r"(?<![\d.])([01]\.\d{3})(?: *± *(\.\d+|\d\.\d+|–))? *\((\d+)(?:, \d+ lost)?\)")


def means_in(text):
    """Every "0.636 ±.097 (20)" of a text, also "(20, 3 lost)"."""
    return [
        Shown(float(mean), None if half in ("", "–") else float(half), int(n))
        for mean, half, n in MEAN.findall(text)
    ]


def counts_in(text):
    """Every number of replicates that a text names: "n = 3", "3 seeds", "(3 … 5 seeds)"."""
    found = re.findall(r"\bn = (\d+)", text) + re.findall(r"(\d+) (?:seeds|replicates)\b", text)
    return [int(one) for one in found]


# The page


def page_data(text):
    """All that a report page holds of its runs."""
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1])


def page_cells(text, metric):
    """A row per cell of a page of one run: width, amplitude, period, n, lost, mean, interval."""
    held = page_data(text)["cells"]
    stats = held["stats"][metric]
    columns = {key: held[key] for key in ("width", "amplitude", "period", "diverged", "failed")}
    columns["n"] = stats["n"]
    for key in ("mean", "low", "high"):
        columns[key] = unpack(stats[key])
    if "change" in stats:
        columns["change"] = unpack(stats["change"])
    return pd.DataFrame(columns).astype(object).to_dict("records")


def unpack(packed):
    """Numbers of the page: shares of one in 16 bits (all bits set: none), or floats."""
    if "f" in packed:
        return np.frombuffer(base64.b64decode(packed["f"]), "<f4").astype(float)
    shares = np.frombuffer(base64.b64decode(packed["s"]), "<u2").astype(float)
    return np.where(shares == 65535, np.nan, shares / 65534)


# Figures


def texts_of(figure):
    """All that is written in a figure, but the ticks' labels."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title(loc=where) for where in ("left", "center", "right")]
        found += [axes.get_xlabel(), axes.get_ylabel()]
        found += [text.get_text() for text in axes.texts]
    return [text for text in found if text]


def is_bar(axes):
    """Whether an axes is a colour bar."""
    return axes.get_label() == "<colorbar>" or hasattr(axes, "_colorbar")


def mapped(figure):
    """The finite values of all maps of a figure."""
    found = []
    for axes in figure.axes:
        if not is_bar(axes):
            for image in [*axes.images, *axes.collections]:
                array = image.get_array()
                if array is not None and type(image).__name__ in ("AxesImage", "QuadMesh"):
                    found += np.ma.filled(np.ma.asarray(array, float), np.nan).ravel().tolist()
    return [value for value in found if np.isfinite(value)]


def lines_of(figure, least=2):
    """(label, x, y) of the lines of all axes that are neither maps nor colour bars."""
    return [
        (line.get_label(), np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float))
        for axes in figure.axes
        if not is_bar(axes) and not axes.images
        for line in axes.lines
        if len(line.get_xdata()) >= least
    ]

"""One small figure of every kind, from made-up numbers; `cd tests && python -m golden` writes them.

Look at what it wrote before it is committed: from then on it is what the figures have to look like.
"""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from tiltcli.analysis.traces import Trace
from tiltcli.analysis.valleys import Slice, Valleys, line
from tiltcli.evaluation.comparison import compare
from tiltcli.evaluation.tuning import budgets, tune
from tiltcli.grid import Job
from tiltcli.plots.bifurcation import bifurcation
from tiltcli.plots.budget import budget
from tiltcli.plots.curvature import alignment, curvature, plane
from tiltcli.plots.curves import curves, recalls
from tiltcli.plots.forest import forest
from tiltcli.plots.gamma import gamma_figure
from tiltcli.plots.phase import phase
from tiltcli.plots.spectra import spectra
from tiltcli.plots.style import Look
from tiltcli.plots.trace import trace
from tiltcli.plots.valley import valley
from tiltcli.schedule import Schedule
from tiltcli.store.branch_rows import Branch

FOLDER = Path(__file__).parent / "data" / "golden"
DPI = 86
"""Resolution of the kept pictures: about 600 pixels for two columns of a paper."""

SCHEDULE = Schedule(3, 20.0, 200, 1, 804)
STEPS = np.arange(1005)


def jobs_table():
    """Two widths, four cells and static, ten seeds; one job diverged."""
    rows = []
    for width in (10, 100):
        for seed in range(10):
            shift = 0.004 * (seed - 4.5)
            level = 0.45 if width == 10 else 0.90
            settings = [("static", np.nan, np.nan, level)]
            for a, amplitude in enumerate((3.0, 30.0)):
                for t, period in enumerate((10.0, 300.0)):
                    gain = 0.06 * (1 - a) + 0.03 * t * (1 - 2 * a)
                    settings.append(("dynamical", amplitude, period, level + gain))
            for kind, amplitude, period, value in settings:
                lost = (width, seed, amplitude, period) == (10, 3, 30.0, 300.0)
                steep = (kind == "dynamical") / 8 + (amplitude == 30.0) + (period == 10.0) / 16
                value = value + shift * (1 + steep)
                rows.append(
                    {
                        "job": f"{kind}-{width}-{amplitude}-{period}-{seed}",
                        "outcome": "diverged" if lost else "completed",
                        "data.kind": "spiral",
                        "data.classes": 3,
                        "model.width": width,
                        "loss.kind": kind,
                        "loss.amplitude": amplitude,
                        "loss.period": period,
                        "train.lr": 1.0,
                        "train.seed": seed,
                        "parameters": 6 * width + 3,
                        "train_samples": 300,
                        "seconds": 1.0,
                        "train_accuracy": value + 0.02,
                        "val_accuracy": value,
                        "test_accuracy": value - 0.01,
                    }
                )
    return pd.DataFrame(rows)


def metrics_table(jobs):
    """Learning curves that end at the jobs' accuracies."""
    epochs = np.arange(0, 3001, 100)
    tables = []
    for row in jobs.itertuples():
        way = 1 - np.exp(-epochs / 600)
        accuracy = 1 / 3 + (row.train_accuracy - 1 / 3) * way
        tables.append(pd.DataFrame({"job": row.job, "epoch": epochs, "train_accuracy": accuracy}))
    return pd.concat(tables)


def recall_table(jobs):
    """Three classes that take turns around the jobs' learning curves."""
    tables = []
    for name in range(3):
        turn = 0.2 * np.cos(2 * np.pi * (np.arange(0, 3001, 100) / 1500 - name / 3))
        one = metrics_table(jobs).rename(columns={"train_accuracy": "recall"})
        share = np.tile(turn, len(jobs)) * one["job"].map(jobs.set_index("job")["loss.kind"]).eq(
            "dynamical"
        )
        one = one.assign(recall=one["recall"] * (1 + share), part="train", **{"class": str(name)})
        tables.append(one)
    return pd.concat(tables)


def training(seed, kind="dynamical"):
    """Every step of a training with a burst of a 2-cycle, and a probe every fifth."""
    schedule = SCHEDULE if kind == "dynamical" else None
    static = 0.3 * np.exp(-STEPS / 250) + 0.02
    weight = schedule.gamma(STEPS)[:, 0] if schedule else np.ones(len(STEPS))
    F = static * (1 + 0.2 * (weight - 1))
    burst = (STEPS > 320) & (STEPS < 380)
    if schedule:
        F = F + burst * 0.004 * (-1.0) ** STEPS * np.sin(np.pi * (STEPS - 320) / 60) ** 2
    metrics = pd.DataFrame(
        {
            "epoch": STEPS,
            "step": STEPS,
            "train_loss": static,
            "dynamical_loss": F,
            "train_accuracy": 1 - 0.6 * np.exp(-STEPS / 300),
            "val_accuracy": 0.95 - 0.55 * np.exp(-STEPS / 300),
        }
    )
    probed = STEPS[::5]
    hessian = 1.2 * (1 + 0.1 * seed) * (0.3 + weight[::5] / 2) + 0.1 * (-1.0) ** (probed // 5)
    probes = pd.DataFrame(
        {
            "epoch": probed,
            "step": probed,
            "hessian_max": hessian,
            "hessian_max_static": 1.0 + 0.1 * seed + probed / 1500,
            "ntk_max": 30 * (1 + 0.1 * seed) * np.exp(probed / 2000),
        }
    )
    settings = {
        "model.width": 10,
        "loss.kind": kind,
        "train.lr": 1.0,
        "train.optimizer": "sgd",
        "train.momentum": 0.0,
        "train.weight_decay": 0.0,
        "train.batch_size": "full",
        "train.log_every": 1,
        "train.seed": seed,
    }
    if schedule:
        settings |= {"loss.amplitude": 20.0, "loss.period": 200}
    what = "A = 20, T = 200" if schedule else "static"
    title = f"golden: width 10, {what}, η = 1, seed {seed}"
    return Trace(
        job=Job(f"{kind}{seed}", settings),
        metrics=metrics,
        probes=probes,
        schedule=schedule,
        classes=3,
        samples=60,
        title=title,
    )


def with_alignments(one):
    """The training with the class under tilt along the top eigenvector."""
    weights = SCHEDULE.gamma(one.probes["step"].to_numpy()) if one.schedule else np.ones((201, 3))
    shares = weights / weights.sum(axis=1, keepdims=True) * np.linspace(0.3, 0.9, 201)[:, None]
    wiggle = 0.02 * one.job["train.seed"] * np.sin(np.arange(201) / 9)[:, None]
    return replace(one, probes=one.probes.assign(alignment=list(shares + wiggle * [1, 0.5, 0.2])))


def with_densities(one):
    """The training with three spectra that spread."""
    draw, rows = np.random.default_rng(0), []
    for epoch in (0, 500, 1000):
        nodes = np.concatenate(
            [draw.normal(0, 1e-3, (5, 30)), draw.normal(0.1, epoch / 1e4 + 1e-3, (5, 9))], axis=1
        )
        nodes = np.hstack([nodes, np.full((5, 1), 1.0 + epoch / 600)])
        weights = draw.uniform(0.5, 1.5, nodes.shape)
        weights /= weights.sum()
        row = {"density_nodes": nodes.ravel(), "density_weights": weights.ravel()}
        rows.append(
            {"epoch": epoch, "step": epoch, "lr": 1.0, "density_vectors": 5, "density_error": 0.03}
            | row
        )
    return replace(one, probes=pd.DataFrame(rows))


def valleys():
    """Parabolas that tilt with the class weights."""

    def cut(step, at):
        alphas = line()
        shares = np.stack(
            [(0.03 + 0.05 * c) * (alphas - 0.2 * (c - 1)) ** 2 + 0.004 for c in range(3)], axis=1
        )
        return Slice(step, SCHEDULE.gamma(step), 2.0, alphas, shares * np.exp(-at / 900))

    pulses = [p * 201 + k for p in range(4) for k in range(0, 200, 20)]
    second = [201 + k for k in range(0, 201, 10)]
    steps = sorted({*pulses, *second})
    return Valleys(
        pulse=2,
        begin=201,
        trained=[cut(step, step) for step in steps],
        middle=301,
        frozen=[cut(step, 301) for step in second],
    )


def comparison():
    """Static against the dynamical cells."""
    jobs = jobs_table()
    sides = [jobs[jobs["loss.kind"] == kind] for kind in ("static", "dynamical")]
    return compare(*sides, name_a="static", name_b="dynamical", baseline=jobs)


def expectations():
    """Both losses tuned, by the number of cells tried."""
    jobs = jobs_table()
    return budgets(tune(jobs, metrics=["test_accuracy"]), jobs)


FIGURES = {
    "phase": lambda look: phase(jobs_table(), "val_accuracy", "golden", look),
    "map": lambda look: phase(
        jobs_table(), "val_accuracy", "golden", look, "model.width", "loss.amplitude"
    ),
    "curves": lambda look: curves(
        jobs_table(), metrics_table(jobs_table()), "train_accuracy", "golden", look
    ),
    "recall": lambda look: recalls(
        jobs_table(), recall_table(jobs_table()), "train_recall", "golden", look
    ),
    "gamma": lambda look: gamma_figure(SCHEDULE, "golden", look),
    "trace": lambda look: trace(training(0), None, look),
    "curvature": lambda look: curvature(
        [training(seed, kind) for kind in ("static", "dynamical") for seed in range(3)],
        "golden",
        look,
    ),
    "plane": lambda look: plane(
        [training(seed, kind) for kind in ("static", "dynamical") for seed in range(3)],
        "golden",
        look,
    ),
    "alignment": lambda look: alignment(
        [with_alignments(training(s, kind)) for kind in ("static", "dynamical") for s in range(3)],
        "golden",
        look,
    ),
    "density": lambda look: spectra(with_densities(training(0)), look),
    "bifurcation": lambda look: bifurcation(branches(), None, "golden", look),
    "valley": lambda look: valley(training(0), valleys(), look),
    "budget": lambda look: budget(expectations(), "test_accuracy", "val_accuracy", "golden", look),
    "compare": lambda look: forest(comparison(), look),
}
"""Kind → what draws it in a look."""


def branches():
    """The logistic map at r = 2.8 to 3.9, told as losses: it doubles its period, then is chaos."""
    rows = []
    for rate in np.linspace(2.8, 3.9, 120):
        x, rows_of = 0.3, []
        for step in range(400):
            x = rate * x * (1 - x)
            rows_of.append((rate, step, x))
        slope = np.mean([np.log(abs(rate * (1 - 2 * v))) for *_, v in rows_of[200:]])
        rows += [(r, s, v, 10 / r, slope) for r, s, v in (rows_of[0], *rows_of[-60:])]
    table = pd.DataFrame(rows, columns=["lr", "step", "loss", "sharpness", "lyapunov"])
    return {Branch("golden", 7, True, 400, 60): table}


def picture(figure):
    """Pixels of a figure at DPI: (height, width), grey from 0 to 1."""
    import matplotlib.image

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    file.seek(0)
    return grey(matplotlib.image.imread(file))


def grey(pixels):
    """Mean over the colours of (height, width, 3 or 4)."""
    return np.asarray(pixels, dtype=float)[..., :3].mean(axis=-1)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        figure = draw(Look())
        figure.savefig(FOLDER / f"{name}.png", dpi=DPI, metadata={"Software": None})


if __name__ == "__main__":
    main()

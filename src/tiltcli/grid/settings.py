"""Every setting of a grid file, described once: what any part of the tool asks is asked here.

A setting that does not apply to a job (a static job has no amplitude) is left out of it, so that
equal work has equal settings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tiltcli.grid.conditions import Above, Both, Unless, When
from tiltcli.grid.dataset_settings import OF_DATA, PICTURES
from tiltcli.grid.setting_types import (
    ALL,
    MOST_REAL,
    Aspect,
    Factors,
    Setting,
    choice,
    flag,
    real,
    seed,
    text,
    whole,
)

_DYNAMICAL = When("loss.kind", ("dynamical",))
_MLP = When("model.kind", ("mlp",))
_SGD = When("train.optimizer", ("sgd",))

_TABLE: tuple[Setting, ...] = (
    *OF_DATA,
    choice(
        "model.kind",
        *("mlp", "myrtle5"),
        meaning="network: mlp has hidden layers of ReLUs, myrtle5 four convolutions",
        default="mlp",
        decides=("data", "network", "cost", "probe"),  # pictures for it, or plain vectors
        fused=("mlp",),
    ),
    whole(
        "model.width",
        *(1, 10_000_000),
        meaning="units of a hidden layer, or channels",
        unit="1",
        decides=("network", "cost", "probe"),
        fused=ALL,
    ),
    whole(
        "model.depth",
        *(1, 1000),
        meaning="hidden layers of a mlp",
        default=1,
        unit="1",
        applies=_MLP,
        decides=("network", "cost", "probe"),
        fused=ALL,
        since_stored=True,
    ),
    text(
        "model.init_file",
        "the path of an .npz file with the network's parameters",
        meaning="initial parameters, instead of random ones",
        default=None,
        decides=("network",),
        fused=ALL,
    ),
    choice(
        "loss.kind",
        *("static", "dynamical"),
        meaning="static, or dynamical: class weights Γ(t) oscillate",
        default="dynamical",
        fused=ALL,
    ),
    choice(
        "loss.base",
        *("cross_entropy", "mse"),
        meaning="loss of a sample, that is weighted by Γ of its class",
        default="cross_entropy",
        decides=("cost", "probe"),
        fused=("cross_entropy", "mse"),
    ),
    real(
        "loss.amplitude",
        least=1,
        meaning="A: weight of the emphasised class at its peak, before scaling",
        unit="1",
        applies=_DYNAMICAL,
        fused=ALL,
    ),
    whole(
        "loss.period",
        of="steps",
        meaning="T: optimiser steps of one pulse",
        unit="step",
        applies=_DYNAMICAL,
        fused=ALL,
    ),
    whole(
        "loss.rest",
        0,
        of="steps",
        meaning="steps with equal weights between two pulses",
        default=0,
        unit="step",
        applies=_DYNAMICAL,
        fused=ALL,
    ),
    whole(
        "loss.settle",
        0,
        of="steps",
        meaning="last steps without oscillation, from the next end of a pulse on",
        default=0,
        unit="step",
        applies=_DYNAMICAL,
        fused=ALL,
    ),
    choice(
        "loss.shape",
        *("triangle", "sine", "square"),
        meaning="shape of a pulse",
        default="triangle",
        applies=_DYNAMICAL,
        fused=ALL,
    ),
    choice(
        "loss.groups",
        *("class", "random", "all"),
        meaning="what takes turns: the classes; random groups of samples of the classes' sizes; or "
        "all samples together, which is a learning rate that oscillates",
        default="class",
        applies=_DYNAMICAL,
        fused=("class", "random", "all"),
        since_stored=True,
    ),
    choice(
        "loss.timing",
        *("pulse", "noise"),
        meaning="when: in pulses; or at every step the weights of a step of the cycle drawn at "
        "random",
        default="pulse",
        applies=_DYNAMICAL,
        fused=("pulse", "noise"),
        since_stored=True,
    ),
    choice(
        "loss.order",
        *("cyclic", "random"),
        meaning="order of the classes' pulses: 0, 1, … again and again; or drawn anew each round",
        default="cyclic",
        # All together have no order, nor has noise.
        applies=Both(
            (_DYNAMICAL, Unless("loss.groups", ("all",)), Unless("loss.timing", ("noise",)))
        ),
        fused=("cyclic", "random"),
        since_stored=True,
    ),
    whole(
        "loss.half_life",
        0,
        of="steps",
        meaning="steps after which A − 1 has halved, from step 0 on; 0: A is constant",
        default=0,
        unit="step",
        applies=_DYNAMICAL,
        fused=ALL,
        since_stored=True,
    ),
    whole(
        "train.epochs",
        meaning="length of the training; full batch: one epoch is one step",
        unit="epoch",
        fused=ALL,
    ),
    real(
        "train.lr",
        above=0,
        meaning="learning rate η",
        default=1.0,
        unit="1",
        steps=True,
        fused=ALL,
    ),
    Setting(
        "train.lr_schedule",
        Factors,
        f"pairs [fraction of training from 0 to 1, rising; factor ≥ 0, at most {MOST_REAL:g}]",
        "factors on the learning rate, linear between; default: none",
        None,
        "1",
        depth=2,
        steps=True,
        fused=ALL,
    ),
    whole(
        "train.batch_size",
        word="full",
        meaning="samples of an optimiser step",
        default="full",
        unit="1",
        decides=("cost",),
        fused=ALL,
    ),
    choice(
        "train.optimizer",
        *("sgd", "adam", "adamw"),
        meaning="how weights are updated",
        default="sgd",
        steps=True,
        decides=("cost",),
        fused=("sgd", "adam", "adamw"),
    ),
    real(
        "train.momentum",
        least=0,
        below=1,
        meaning="momentum β",
        default=0.0,
        unit="1",
        applies=_SGD,
        steps=True,
        fused=ALL,
    ),
    flag(
        "train.nesterov",
        "true | false (true needs train.momentum > 0)",
        meaning="Nesterov's momentum",
        default=False,
        applies=Both((_SGD, Above("train.momentum"))),
        steps=True,
        fused=ALL,
    ),
    real(
        "train.weight_decay",
        least=0,
        meaning="weight decay",
        default=0.0,
        unit="1",
        steps=True,
        fused=ALL,
    ),
    choice(
        "train.dtype",
        *("float32", "float64"),
        meaning="floating-point numbers of the training",
        default="float32",
        decides=("data", "cost"),
        fused=ALL,
    ),
    seed("train.seed", meaning="seed of initialisation and batch order", fused=ALL),
    whole(
        "train.log_every",
        of="epochs",
        meaning="epochs between rows of the metrics table",
        default=100,
        unit="epoch",
        decides=("cost",),
        fused=ALL,
    ),
)

SETTINGS: dict[str, Setting] = {setting.key: setting for setting in _TABLE}
"""All settings by key. A setting comes after those that decide whether it applies."""

PATHS: dict[str, str] = {
    "data.path": "data.digest",
    "data.val_path": "data.val_digest",
    "data.test_path": "data.test_digest",
    "model.init_file": "model.init_digest",
}
"""Settings that name a file. The job's identity is the file's content, not where it lies."""

TABLES = ("data", "model", "loss", "train")


def finish(settings: dict[str, Any]) -> None:
    """Fill in, in place, the defaults that depend on other settings."""
    if settings.get("data.standardize") is None:
        settings["data.standardize"] = settings.get("data.kind") in ("digits", *PICTURES)


def _columns(chosen: Callable[[Setting], bool]) -> tuple[str, ...]:
    """Columns of some settings, in their order; of a file that of its digest."""
    return tuple(PATHS.get(key, key) for key, setting in SETTINGS.items() if chosen(setting))


def _deciding(aspect: Aspect) -> tuple[str, ...]:
    return _columns(lambda setting: aspect in setting.decides)


def replicates() -> tuple[str, ...]:
    """Settings that only repeat the experiment."""
    return _columns(lambda setting: setting.replicate)


def stepping() -> tuple[str, ...]:
    """Settings that say how an update follows from a gradient."""
    return _columns(lambda setting: setting.steps)


def tilting() -> tuple[str, ...]:
    """Settings that dynamical jobs have and static jobs do not."""
    static = {"loss.kind": "static"}
    return _columns(lambda one: one.key.startswith("loss.") and not one.applies(static))


def data_settings() -> tuple[str, ...]:
    """Settings that decide the data set as the network takes it; digests stand for files."""
    return _deciding("data")


def network_settings() -> tuple[str, ...]:
    """Settings that decide, beside the data, whether there can be such a network."""
    return _deciding("network")


def cost_settings() -> tuple[str, ...]:
    """Settings that decide the seconds a step costs, those of the data included."""
    return _deciding("cost")


def probing_settings() -> tuple[str, ...]:
    """Settings that decide what a probe of the curvature costs, those of the data included."""
    return _deciding("probe")


def later_settings() -> tuple[Setting, ...]:
    """Settings that came after the first runs were stored."""
    return tuple(setting for setting in SETTINGS.values() if setting.since_stored)

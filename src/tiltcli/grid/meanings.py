"""What every setting means, and its unit: for the jobs table's metadata and the JSON Schema."""

from __future__ import annotations

MEANINGS: dict[str, tuple[str, str]] = {
    "data.kind": ("", "where the data comes from"),
    "data.path": ("", "data file, relative to the grid file; cifar10: default is the cache"),
    "data.target": ("", "label column of a .csv or .parquet file"),
    "data.split": ("1", "shares of a file's rows for training, validation and test"),
    "data.seed": ("", "seed of the data's points, or of its split; file: only with data.split"),
    "data.points_per_class": ("1", "training points of each arm of the spiral"),
    "data.classes": ("1", "arms of the spiral"),
    "data.revolutions": ("1", "half turns of an arm of the spiral"),
    "data.noise": ("rad", "standard deviation of the points' angles"),
    "data.standardize": (
        "",
        "scale by the training part's mean and standard deviation; "
        "default: true for digits and cifar10, else false",
    ),
    "model.kind": ("", "network: mlp has one hidden layer, myrtle5 four convolutions"),
    "model.width": ("1", "hidden units, or channels"),
    "model.init_file": ("", "initial parameters, instead of random ones"),
    "loss.kind": ("", "static, or dynamical: class weights Γ(t) oscillate"),
    "loss.base": ("", "loss of a sample, that is weighted by Γ of its class"),
    "loss.amplitude": ("1", "A: weight of the emphasised class at its peak, before scaling"),
    "loss.period": ("step", "T: optimiser steps of one pulse"),
    "loss.rest": ("step", "steps with equal weights between two pulses"),
    "loss.settle": ("step", "last steps without oscillation, from the next end of a pulse on"),
    "loss.shape": ("", "shape of a pulse"),
    "train.epochs": ("epoch", "length of the training; full batch: one epoch is one step"),
    "train.lr": ("1", "learning rate η"),
    "train.lr_schedule": ("1", "factors on the learning rate, linear between; default: none"),
    "train.batch_size": ("1", "samples of an optimiser step"),
    "train.optimizer": ("", "how weights are updated"),
    "train.momentum": ("1", "momentum β"),
    "train.nesterov": ("", "Nesterov's momentum"),
    "train.weight_decay": ("1", "weight decay"),
    "train.dtype": ("", "floating-point numbers of the training"),
    "train.seed": ("", "seed of initialisation and batch order"),
    "train.log_every": ("epoch", "epochs between rows of the metrics table"),
}
"""Setting → unit ("1" if dimensionless, "" if it is no quantity) and meaning."""

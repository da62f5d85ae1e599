"""Every setting of a grid file, described once.

A setting that does not apply to a job (a static job has no amplitude) is left out of it, so that
equal work has equal settings.
"""

from __future__ import annotations

from tiltcli.grid.setting_types import (
    ALL,
    MOST_REAL,
    REQUIRED,
    Factors,
    Setting,
    Shares,
    above,
    alike,
    arguments,
    both,
    choice,
    either,
    flag,
    given,
    real,
    seed,
    text,
    unless,
    when,
    whole,
)

PICTURES = ("cifar10", "fashion_mnist", "idx")
_FACTORY = '"file.py:function", relative to the grid file, or "package.module:function"'
_FILE, _SPIRAL, _OWN_DATA = (when("data.kind", kind) for kind in ("file", "spiral", "python"))
_MLP, _OWN_MODEL = when("model.kind", "mlp"), when("model.kind", "python")
_DYNAMICAL, _SGD = when("loss.kind", "dynamical"), when("train.optimizer", "sgd")

_DATA = alike(
    choice(
        "data.kind",
        "where the data comes from",
        *("spiral", "digits", "cifar10", "fashion_mnist", "idx", "file", "python"),
        default=REQUIRED,
    ),
    text(
        "data.path",
        "data file, relative to the grid file; cifar10: default is the cache; "
        "fashion_mnist: Debian's package, else the cache",
        "the path of an .npz, .parquet or .csv file (cifar10: of its archive or folder; idx and "
        "fashion_mnist: of a folder of the four files)",
        applies=when("data.kind", "file", *PICTURES),
        needed=when("data.kind", "file", "idx"),
    ),
    *(
        text(
            f"data.{part}_path",
            f"file whose rows {use}, relative to the grid file",
            "the path of another file of the same kind",
            applies=_FILE,
        )
        for part, use in (("val", "validate"), ("test", "judge"))
    ),
    text(
        "data.factory",
        "function that returns a dict of arrays, X, y and optionally X_val, y_val, X_test, "
        "y_test; called with seed and the arguments",
        _FACTORY,
        applies=_OWN_DATA,
        needed=_OWN_DATA,
    ),
    arguments("data.args", "further argument of the data's factory", applies=_OWN_DATA),
    *alike(
        text(
            "data.target", "label column of a .csv or .parquet file", "the name of the label column"
        ),
        choice(
            "data.categorical",
            "columns of texts in a table: refused, or a column of 0 and 1 of each text of the "
            "training part",
            *("refuse", "onehot"),
            since_stored=True,
        ),
        choice(
            "data.missing",
            "gaps in a table: refused, or filled with the median of the training part (texts: "
            "a category)",
            *("refuse", "median"),
            decides=("data",),
            since_stored=True,
        ),
        Setting(
            "data.split",
            Shares,
            "three shares for training, validation and test that add up to 1",
            "shares of a file's rows for training, validation and test",
            default=None,
            unit="1",
            depth=1,
        ),
        applies=_FILE,
    ),
    seed(
        "data.seed",
        "seed of the data's points, or of its split; file: only with data.split",
        # A file that brings its own split leaves nothing to chance.
        applies=either(unless("data.kind", "file"), given("data.split")),
        decides=("data",),
    ),
    whole(
        "data.limit",
        "samples to train on, drawn by data.seed with every class in proportion; "
        "default: all but the tenth that validates",
        *(2, 10_000_000),
        default=None,
        applies=when("data.kind", *PICTURES),
    ),
    *alike(
        whole(
            "data.points_per_class",
            "training points of each arm of the spiral",
            *(2, 10_000_000),
            default=100,
        ),
        whole("data.classes", "arms of the spiral", 2, 10_000, default=3),
        real(
            "data.revolutions",
            "half turns of an arm of the spiral, as the authors count: 4 are two full turns",
            default=4.0,
            decides=("data",),
        ),
        real(
            "data.noise",
            "standard deviation of the points' angles",
            least=0,
            default=0.2,
            unit="rad",
            decides=("data",),
        ),
        applies=_SPIRAL,
    ),
    flag(
        "data.standardize",
        "scale by the training part's mean and standard deviation; "
        "default: true for digits, cifar10, fashion_mnist and idx, else false",
        default=None,
        decides=("data",),
    ),
    decides=("data", "cost", "probe"),
    fused=ALL,
)

_MODEL = alike(
    choice(
        "model.kind",
        "network: mlp has hidden layers of ReLUs, myrtle5 four convolutions, python is your own",
        *("mlp", "myrtle5", "python"),
        decides=("data", "network", "cost", "probe"),  # pictures for it, or plain vectors
        fused=("mlp",),
    ),
    whole(
        "model.width",
        "units of a hidden layer, or channels; python: where the factory takes it",
        *(1, 10_000_000),
        default=None,
        needed=when("model.kind", "mlp", "myrtle5"),
        fused=ALL,
    ),
    whole(
        "model.depth",
        "hidden layers of a mlp",
        *(1, 1000),
        default=1,
        applies=_MLP,
        fused=ALL,
        since_stored=True,
    ),
    text(
        "model.factory",
        "function that returns a torch.nn.Module giving logits; called with what it takes "
        "of width, sample_shape and classes, and with the arguments",
        _FACTORY,
        applies=_OWN_MODEL,
        needed=_OWN_MODEL,
    ),
    arguments("model.args", "further argument of the factory", applies=_OWN_MODEL),
    text(
        "model.init_file",
        "initial parameters, instead of random ones",
        "the path of an .npz file with the network's parameters",
        applies=unless("model.kind", "python"),
        decides=("network",),
        fused=ALL,
    ),
    decides=("network", "cost", "probe"),
)

_LOSS = alike(
    choice(
        "loss.kind",
        "static, or dynamical: class weights Γ(t) oscillate",
        *("static", "dynamical"),
        default="dynamical",
    ),
    choice(
        "loss.base",
        "loss of a sample, that is weighted by Γ of its class",
        *("cross_entropy", "mse"),
        decides=("cost", "probe"),
    ),
    choice(
        "loss.class_weight",
        "constant weight of each class, by which Γ is multiplied: 1; or balanced, so that "
        "each class counts alike: P / (classes · samples of the class)",
        *("none", "balanced"),
        since_stored=True,
    ),
    *alike(
        real(
            "loss.amplitude",
            "A: weight of the emphasised class at its peak, before scaling",
            least=1,
        ),
        whole("loss.period", "T: optimiser steps of one pulse", of="steps"),
        whole("loss.rest", "steps with equal weights between two pulses", 0, of="steps", default=0),
        whole(
            "loss.settle",
            "number of last steps without oscillation, from the next end of a pulse on; counts "
            "from the end, where Python's settle_at names the step itself",
            0,
            of="steps",
            default=0,
        ),
        choice("loss.shape", "shape of a pulse", "triangle", "sine", "square"),
        choice(
            "loss.groups",
            "what takes turns: the classes; random groups of samples of the classes' sizes; or "
            "all samples together, which is a learning rate that oscillates",
            *("class", "random", "all"),
            since_stored=True,
        ),
        choice(
            "loss.timing",
            "when: in pulses; or at every step the weights of a step of the cycle drawn at random",
            *("pulse", "noise"),
            since_stored=True,
        ),
        choice(
            "loss.order",
            "order of the classes' pulses: 0, 1, … again and again; or drawn anew each round",
            *("cyclic", "random"),
            # All together have no order, nor has noise.
            applies=both(_DYNAMICAL, unless("loss.groups", "all"), unless("loss.timing", "noise")),
            since_stored=True,
        ),
        whole(
            "loss.half_life",
            "steps after which A − 1 has halved, from step 0 on; 0: A is constant",
            0,
            of="steps",
            default=0,
            since_stored=True,
        ),
        applies=_DYNAMICAL,
    ),
    fused=ALL,
)

_TRAIN = alike(
    whole(
        "train.epochs", "length of the training; full batch: one epoch is one step", unit="epoch"
    ),
    real("train.lr", "learning rate η", above=0, default=1.0, steps=True),
    Setting(
        "train.lr_schedule",
        Factors,
        f"pairs [fraction of training from 0 to 1, rising; factor ≥ 0, at most {MOST_REAL:g}]",
        "factors on the learning rate, linear between; default: none",
        default=None,
        unit="1",
        depth=2,
        steps=True,
    ),
    whole(
        "train.batch_size",
        "samples of an optimiser step",
        word="full",
        default="full",
        decides=("cost",),
    ),
    choice(
        "train.optimizer",
        "how weights are updated",
        *("sgd", "adam", "adamw"),
        steps=True,
        decides=("cost",),
    ),
    real("train.momentum", "momentum β", least=0, below=1, default=0.0, applies=_SGD, steps=True),
    flag(
        "train.nesterov",
        "Nesterov's momentum",
        "true | false (true needs train.momentum > 0)",
        default=False,
        applies=both(_SGD, above("train.momentum")),
        steps=True,
    ),
    real("train.weight_decay", "weight decay", least=0, default=0.0, steps=True),
    choice(
        "train.dtype",
        "floating-point numbers of the training",
        *("float32", "float64"),
        decides=("data", "cost"),
    ),
    seed("train.seed", "seed of initialisation and batch order"),
    whole(
        "train.log_every",
        "epochs between rows of the metrics table",
        of="epochs",
        default=100,
        decides=("cost",),
    ),
    flag(
        "train.recall",
        "whether the recall of each class at each logged epoch is stored in recall/",
        default=False,
        since_stored=True,
        output=True,
    ),
    choice(
        "train.keep",
        "weights that are kept in weights/: none; of the end; or of the logged epoch with "
        "the best validation accuracy",
        *("none", "final", "best"),
        since_stored=True,
        output=True,
    ),
    fused=ALL,
)

TABLE: tuple[Setting, ...] = (*_DATA, *_MODEL, *_LOSS, *_TRAIN)
"""A setting comes after those that decide whether it applies."""

"""The settings of [data]."""

from __future__ import annotations

from tiltcli.grid.conditions import Either, Given, Unless, When
from tiltcli.grid.setting_types import (
    ALL,
    Setting,
    Shares,
    arguments,
    choice,
    flag,
    real,
    seed,
    text,
    whole,
)

PICTURES = ("cifar10", "fashion_mnist", "idx")
_SPIRAL = When("data.kind", ("spiral",))
_FILE = When("data.kind", ("file",))
_OWN = When("data.kind", ("python",))

OF_DATA: tuple[Setting, ...] = (
    choice(
        "data.kind",
        *("spiral", "digits", "cifar10", "fashion_mnist", "idx", "file", "python"),
        meaning="where the data comes from",
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    text(
        "data.path",
        "the path of an .npz, .parquet or .csv file (cifar10: of its archive or folder; idx and "
        "fashion_mnist: of a folder of the four files)",
        meaning="data file, relative to the grid file; cifar10: default is the cache; "
        "fashion_mnist: Debian's package, else the cache",
        default=None,
        applies=When("data.kind", ("file", *PICTURES)),
        needed=When("data.kind", ("file", "idx")),
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    *(
        text(
            f"data.{part}_path",
            "the path of another file of the same kind",
            meaning=f"file whose rows {use}, relative to the grid file",
            default=None,
            applies=_FILE,
            decides=("data", "cost", "probe"),
            fused=ALL,
        )
        for part, use in (("val", "validate"), ("test", "judge"))
    ),
    text(
        "data.factory",
        '"file.py:function", relative to the grid file, or "package.module:function"',
        meaning="function that returns a dict of arrays, X, y and optionally X_val, y_val, X_test, "
        "y_test; called with seed and the arguments",
        default=None,
        applies=_OWN,
        needed=_OWN,
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    arguments(
        "data.args",
        meaning="further argument of the data's factory",
        applies=_OWN,
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    text(
        "data.target",
        "the name of the label column",
        meaning="label column of a .csv or .parquet file",
        default=None,
        applies=_FILE,
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    choice(
        "data.categorical",
        *("refuse", "onehot"),
        meaning="columns of texts in a table: refused, or a column of 0 and 1 of each text of the "
        "training part",
        default="refuse",
        applies=_FILE,
        decides=("data", "cost", "probe"),
        fused=ALL,
        since_stored=True,
    ),
    choice(
        "data.missing",
        *("refuse", "median"),
        meaning="gaps in a table: refused, or filled with the median of the training part (texts: "
        "a category)",
        default="refuse",
        applies=_FILE,
        decides=("data",),
        fused=ALL,
        since_stored=True,
    ),
    Setting(
        "data.split",
        Shares,
        "three shares for training, validation and test that add up to 1",
        "shares of a file's rows for training, validation and test",
        None,
        "1",
        _FILE,
        depth=1,
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    seed(
        "data.seed",
        meaning="seed of the data's points, or of its split; file: only with data.split",
        # A file that brings its own split leaves nothing to chance.
        applies=Either((Unless("data.kind", ("file",)), Given("data.split"))),
        decides=("data",),
        fused=ALL,
    ),
    whole(
        "data.limit",
        *(2, 10_000_000),
        meaning="samples to train on, drawn by data.seed with every class in proportion; "
        "default: all but the tenth that validates",
        default=None,
        unit="1",
        applies=When("data.kind", PICTURES),
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    whole(
        "data.points_per_class",
        *(2, 10_000_000),
        meaning="training points of each arm of the spiral",
        default=100,
        unit="1",
        applies=_SPIRAL,
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    whole(
        "data.classes",
        *(2, 10_000),
        meaning="arms of the spiral",
        default=3,
        unit="1",
        applies=_SPIRAL,
        decides=("data", "cost", "probe"),
        fused=ALL,
    ),
    real(
        "data.revolutions",
        meaning="half turns of an arm of the spiral, as the authors count: 4 are two full turns",
        default=4.0,
        unit="1",
        applies=_SPIRAL,
        decides=("data",),
        fused=ALL,
    ),
    real(
        "data.noise",
        least=0,
        meaning="standard deviation of the points' angles",
        default=0.2,
        unit="rad",
        applies=_SPIRAL,
        decides=("data",),
        fused=ALL,
    ),
    flag(
        "data.standardize",
        meaning="scale by the training part's mean and standard deviation; "
        "default: true for digits, cifar10, fashion_mnist and idx, else false",
        default=None,
        decides=("data",),
        fused=ALL,
    ),
)

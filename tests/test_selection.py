"""Conditions on jobs: what they keep, and what they say when they cannot."""

import pandas as pd
import pytest

from tiltcli.errors import UserError
from tiltcli.evaluation.selection import parse_selection, select

FRAME = pd.DataFrame(
    {
        "model.width": [10, 30, 100, 300],
        "loss.kind": ["static", "dynamical", "dynamical", "static"],
        "loss.amplitude": [None, 3.0, 70.0, None],
        "data.standardize": [True, False, True, False],
        "train.batch_size": [None, None, 64.0, None],
    }
)


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("model.width == 30", [30]),
        ("model.width=30", [30]),
        ("model.width != 30", [10, 100, 300]),
        ("model.width<=30", [10, 30]),
        ("model.width > 30 and loss.kind = dynamical", [100]),
        ("model.width in [10, 300]", [10, 300]),
        ("loss.kind=static,model.width>=30", [300]),
        ('loss.kind == "dynamical" & loss.amplitude < 50', [30]),
        ("loss.amplitude == null", [10, 300]),
        ("loss.amplitude != null", [30, 100]),
        ("loss.amplitude != 3", [100]),
        ("data.standardize = true", [10, 100]),
        ("train.batch_size = full", [10, 30, 300]),
        ("train.batch_size == null", [10, 30, 300]),
        ("train.batch_size != full", [100]),
        ("train.batch_size != 64", [10, 30, 300]),
        ("train.batch_size != 16", [10, 30, 100, 300]),
        ("train.batch_size in [64, full]", [10, 30, 100, 300]),
        ("train.batch_size > 16", [100]),
        ("train.batch_size <= 64", [100]),
        ("model.width == 3e1", [30]),
    ],
)
def test_what_is_kept(text, widths):
    assert select(FRAME, parse_selection(text))["model.width"].tolist() == widths


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.widht == 3", "did you mean model.width"),
        ("width ~ 3", "cannot be read"),
        ("model.width ==", "cannot be read"),
        ("model.width == 3 and", "missing at its end"),
        ("", "is empty"),
        ("model.width == ten", "holds numbers, not texts"),
        ("loss.kind < static", "texts have no order"),
        ("loss.kind == 3", "holds texts, not numbers"),
        ("loss.amplitude < null", "null has no order"),
        ("model.width in 3", "takes a list"),
        ("train.batch_size > full", "null has no order"),
        ("train.batch_size == fuul", "holds numbers, not texts"),
        ("model.width == [1]", "takes a list"),
        ("__import__('os').system('true')", "cannot be read"),
        ("model.width == 7", "no job meets model.width == 7; model.width there: 10, 30, 100, 300"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(UserError) as error:
        select(FRAME, parse_selection(text))
    assert said in str(error.value)


def test_all_faults_at_once():
    with pytest.raises(UserError) as error:
        select(FRAME, parse_selection("model.widht == 3, loss.kind == 3"))
    assert len(error.value.faults) == 2


RATES = pd.DataFrame(
    {
        "train.lr": [0.1, 0.310723250595, 0.965489384605, 3.0],
        "train.nesterov": pd.Series([True, None, False, None], dtype=object),
        "train.lr_schedule": pd.Series([None] * 4, dtype=object),
        "loss.amplitude": [float("nan")] * 4,
        "outcome": ["completed", "failed", "diverged", "completed"],
    }
)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("train.lr == 0.310723", [1]),
        ("train.lr == 0.31", [1]),
        ("train.lr == 0.3107233", [1]),
        ("train.lr == 3.107e-1", [1]),
        ("train.lr in [0.310723, 3]", [1, 3]),
        ("train.lr != 0.310723", [0, 2, 3]),
        ("train.lr <= 0.310723", [0, 1]),
        ("train.lr < 0.310723", [0]),
        ("train.lr > 0.310723", [2, 3]),
        ("train.lr >= 0.310723", [1, 2, 3]),
        ("train.lr == 0.1", [0]),
        ("train.nesterov == true", [0]),
        ("train.nesterov != true", [2]),
        ("train.nesterov == null", [1, 3]),
        ("outcome != completed", [1, 2]),
    ],
)
def test_numbers_are_found_as_they_are_shown(text, rows):
    assert select(RATES, parse_selection(text)).index.tolist() == rows


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.lr == 0.3108", "no job meets"),
        ("train.lr == true", "holds numbers, not true or false"),
        ("train.nesterov == 1", "holds true or false, not numbers"),
        ("train.nesterov > true", "true and false have no order"),
        ("train.lr_schedule > 3", "does not apply to these jobs"),
        ("train.lr_schedule == x", "does not apply to these jobs"),
        ("loss.amplitude == 10", "loss.amplitude there: none, for it does not apply"),
        ("outcome > 3", "holds texts, not numbers"),
    ],
)
def test_columns_of_any_kind_are_refused_in_words(text, said):
    with pytest.raises(UserError) as error:
        select(RATES, parse_selection(text))
    assert said in str(error.value)

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

"""Grid files as people break them: exit code 2, a line that says what to mend, nothing written."""

import sys

import pytest

from tiltcli.cli import main

GOOD = """name = "mine"
[data]
kind = "spiral"
[model]
width = [10, 30]
[loss]
kind = ["static", "dynamical"]
amplitude = [3, 10]
period = [50, 300]
[train]
epochs = 100
lr = 1.0
seeds = 2
"""

BROKEN = [
    # what stood there, what stands there now, what the user must read
    ("width = [10, 30]", "width = [10, 30", ":5: not valid TOML: Unclosed array in 'width = [10"),
    ("lr = 1.0", "lr = 1,0", ":12: not valid TOML|a decimal point is meant?"),
    ('kind = "spiral"', "kind = spiral", ':3: not valid TOML|in quotes: kind = "spiral"'),
    ("lr = 1.0", "lr: 1.0", ":12: not valid TOML|a value follows =, not :"),
    ("[train]", "[train]\nlr = 0.5\n[train]", ":12: not valid TOML|[train] stands twice: keep one"),
    ("seeds = 2", "seeds = 2\nseeds = 3", ":14: not valid TOML|seeds stands twice: keep one"),
    ("seeds = 2", "seeds = 2\nwidth = 3", ":14: train.width: unknown; did you mean model.width?"),
    ("[model]", "[modell]", ":4: modell: unknown; did you mean model?|model.width: missing"),
    ("amplitude", "amplitud", ":8: loss.amplitud: unknown; did you mean loss.amplitude?"),
    ('"dynamical"]', '"dynamic"]', ':7: loss.kind: got "dynamic"|did you mean "dynamical"?'),
    ("epochs = 100", 'epochs = "100"', ':11: train.epochs: got "100"; allowed: a whole number'),
    ("width = [10, 30]\n", "", ":4: model.width: missing; allowed: a whole number ≥ 1"),
    ("period = [50, 300]\n", "", ":6: loss.period: missing (for dynamical jobs)"),
    ("width = [10, 30]", "width = 2.5", ":5: model.width: got 2.5; allowed: a whole number"),
    ("[3, 10]", "[0.3, 10]", ":8: loss.amplitude: got 0.3; allowed: a number ≥ 1"),
    ("[50, 300]", "{ range = [50] }", ":9: loss.period: |range"),
    ("[50, 300]", "[[50, 300]]", ":9: loss.period: got [50, 300]; allowed: a whole number"),
    ('"spiral"', '"file"\npath = "mine.npz"', ':4: data.path: got "mine.npz": No such file'),
    ('"spiral"', '"file"', ":2: data.path: missing; allowed: the path of an .npz"),
    ("seeds = 2", "seeds = 2\nbatch_size = 0", ':14: train.batch_size: got 0; allowed: "full" or'),
    ('"mine"', '"../mine"', ":1: name: got '../mine'; allowed: letters, digits"),
    ("lr = 1.0", "lr = 1.0 # Größe", ":12: not UTF-8 text"),
]


@pytest.mark.parametrize(("was", "now", "words"), BROKEN, ids=[row[2][1:28] for row in BROKEN])
def test_broken_grid(tmp_path, monkeypatch, capsys, was, now, words):
    assert was in GOOD
    # As an editor of another encoding would save it; what is ASCII is the same in both.
    (tmp_path / "grid.toml").write_text(GOOD.replace(was, now), encoding="latin-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tiltcli", "sweep", "grid.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    for part in words.split("|"):
        assert part in shown.err
    assert all(line.startswith("error: grid.toml") for line in shown.err.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]

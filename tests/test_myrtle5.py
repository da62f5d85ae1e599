"""Myrtle5 against plain NumPy, its parameters and their files."""

import numpy as np
import pytest

import tiltcli
from tiltcli.data import dataset_of
from tiltcli.engines import Block, Context, Ending, Snapshot, load_engine
from tiltcli.errors import UserError
from tiltcli.grid import parse_sweep
from tiltcli.networks.initial import initial_parameters


def convolve(X, weight, bias):
    """3×3, zero padding: (n, c, h, w) → (n, width, h, w)."""
    padded = np.pad(X, ((0, 0), (0, 0), (1, 1), (1, 1)))
    h, w = X.shape[2:]
    out = np.zeros((len(X), len(weight), h, w))
    for i in range(3):
        for j in range(3):
            window = padded[:, :, i : i + h, j : j + w]
            out += np.einsum("nchw,kc->nkhw", window, weight[:, :, i, j])
    return out + bias[:, None, None]


def halve(X):
    """Mean over 2×2 places; a side of one place stays."""
    for axis in (2, 3):
        if X.shape[axis] > 1:
            pairs = np.arange(X.shape[axis] // 2) * 2
            X = (X.take(pairs, axis) + X.take(pairs + 1, axis)) / 2
    return X


def logits(parameters, X):
    p = parameters
    for layer, pools in ((1, 0), (2, 1), (3, 1), (4, 3)):
        X = np.maximum(convolve(X, p[f"conv{layer}.weight"], p[f"conv{layer}.bias"]), 0)
        for _ in range(pools):
            X = halve(X)
    return X.reshape(len(X), -1) @ p["dense.weight"].T + p["dense.bias"]


def myrtle_job(width=4, **train):
    text = f"""
    [data]
    kind = "digits"
    [model]
    kind = "myrtle5"
    width = {width}
    [loss]
    kind = "static"
    [train]
    epochs = 1
    """
    return parse_sweep(
        text, name="m", folder=None, overrides=[f"train.{k}={v}" for k, v in train.items()]
    ).jobs[0]


def test_recalls_are_counted_from_its_logits():
    """With whole and with broken blocks, in which the last lanes hold no sample."""
    job = myrtle_job(epochs=3, batch_size=100, lr=0.1, dtype="float64", log_every=1, recall="true")
    data = dataset_of(job)
    found, thetas = {}, {}
    for item in load_engine("torch")(job, data, Context(snapshots=range(4), device="cpu")):
        if isinstance(item, Block) and item.recall is not None:
            found |= {int(e): one for e, one in zip(item.epoch, item.recall, strict=True)}
        elif isinstance(item, Snapshot):
            thetas[item.epoch] = item.theta
        elif isinstance(item, Ending):
            last = item.test_recall
    shapes = {name: v.shape for name, v in initial_parameters(job, (1, 8, 8), 10).items()}
    ends = np.cumsum([np.prod(shape) for shape in shapes.values()])

    def recalls(theta, part):
        cut = zip(shapes.items(), np.split(theta, ends[:-1]), strict=True)
        guess = logits({k: v.reshape(s) for (k, s), v in cut}, part.X).argmax(axis=1)
        return [(guess[part.y == c] == c).mean() for c in range(10)]

    for epoch, theta in thetas.items():
        wanted = recalls(theta, data.train), recalls(theta, data.val)
        np.testing.assert_allclose(found[epoch], wanted, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, recalls(thetas[3], data.test), rtol=0, atol=1e-14)
    assert len(thetas) == 4
    assert np.std(found[3]) > 0.05


@pytest.mark.parametrize("sample", [(3, 32, 32), (1, 8, 8), (2, 7, 5), (1, 1, 3), (1, 40, 66)])
def test_forward(sample):
    import torch

    from tiltcli.networks.models import Myrtle5

    rng = np.random.default_rng(0)
    parameters = initial_parameters(myrtle_job(), sample, 10)
    parameters |= {k: rng.normal(size=v.shape) for k, v in parameters.items() if v.ndim == 1}
    X = rng.normal(size=(3, *sample))
    network = Myrtle5(parameters, torch.float64)
    found = network(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, logits(parameters, X), atol=1e-12)
    assert [name for name, _ in network.named_parameters()] == list(parameters)


def gradients(network, compute, X, y):
    """Logits, and the gradient of each parameter, of the weighted sum of the squared logits."""
    import torch

    network.zero_grad()
    logits = compute(X)
    (logits.square().sum(dim=1) * y).sum().backward()
    return logits.detach(), [torch.clone(p.grad) for p in network.parameters()]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("sample", "width", "count"),
    [
        ((3, 32, 32), 5, 20),
        ((1, 8, 8), 16, 32),
        ((1, 8, 8), 6, 1),
        ((2, 7, 5), 3, 33),
        ((1, 1, 3), 1, 5),
        ((1, 2, 1), 9, 8),
        ((2, 21, 34), 11, 17),
    ],
)
def test_blocks_of_samples_are_the_network(sample, width, count, dtype):
    """Values and gradients, with parts of blocks empty, and after a larger and a smaller call."""
    import torch

    from tiltcli.engines.conv.myrtle5 import BlockedMyrtle5
    from tiltcli.networks.models import Myrtle5

    kind = getattr(torch, dtype)
    rng = np.random.default_rng(width)
    parameters = initial_parameters(myrtle_job(width), sample, 10)
    parameters |= {k: 0.1 + rng.random(v.shape) for k, v in parameters.items() if v.ndim == 1}
    network = Myrtle5(parameters, kind)
    blocked = BlockedMyrtle5(network, sample)
    for n in (count, count + 50, count):
        X = torch.from_numpy(rng.normal(size=(n, *sample))).to(kind)
        y = torch.from_numpy(rng.random(n)).to(kind)
        wanted, slopes = gradients(network, network, X, y)
        found, same = gradients(network, blocked, X, y)
        assert (wanted.abs() > 0).all()
        off = 1e-12 if dtype == "float64" else 1e-4
        torch.testing.assert_close(found, wanted, rtol=off, atol=off)
        for one, other in zip(slopes, same, strict=True):
            assert one.abs().max() > 0
            torch.testing.assert_close(other, one, rtol=off, atol=off * float(one.abs().max()))
        again, _ = gradients(network, blocked, X, y)
        assert torch.equal(again, found)


def test_blocks_let_a_nan_through_and_go_back_once():
    import torch

    from tiltcli.engines.conv.myrtle5 import BlockedMyrtle5
    from tiltcli.networks.models import Myrtle5

    network = Myrtle5(initial_parameters(myrtle_job(), (1, 8, 8), 10), torch.float32)
    blocked = BlockedMyrtle5(network, (1, 8, 8))
    X = torch.ones(3, 1, 8, 8)
    X[1, 0, 4, 4] = torch.nan
    first = blocked(X)
    assert first.isnan().any(dim=1).tolist() == [False, True, False]
    blocked(X)
    with pytest.raises(RuntimeError, match="overwritten"):
        first.sum().backward()


def test_wide_networks_are_left_to_torch():
    import torch

    from tiltcli.data import dataset_of
    from tiltcli.engines.conv.myrtle5 import LARGEST, BlockedMyrtle5
    from tiltcli.engines.torch.state import Training

    for width in (LARGEST, LARGEST + 1):
        job = myrtle_job(width, batch_size=16)
        run = Training(job, dataset_of(job), torch.device("cpu"), lambda: False)
        assert isinstance(run.logits, BlockedMyrtle5) is (width <= LARGEST)


def test_he_normal_by_seed():
    one, same, other = (
        initial_parameters(myrtle_job(64, seed=seed), (3, 32, 32), 10) for seed in (1, 1, 2)
    )
    assert {k: v.shape for k, v in one.items()} == {
        "conv1.weight": (64, 3, 3, 3),
        **{f"conv{i}.weight": (64, 64, 3, 3) for i in (2, 3, 4)},
        **{f"conv{i}.bias": (64,) for i in (1, 2, 3, 4)},
        "dense.weight": (10, 64),
        "dense.bias": (10,),
    }
    for name, value in one.items():
        np.testing.assert_array_equal(value, same[name])
        if name.endswith("bias"):
            assert not value.any()
            continue
        assert (value != other[name]).any()
        std = np.sqrt(2 / np.prod(value.shape[1:]))
        assert abs(value.std() / std - 1) < 4 / np.sqrt(2 * value.size)
        assert abs(value.mean()) < 4 * std / np.sqrt(value.size)


def grid(folder, **tables):
    base = {
        "name": "run",
        "data": {"kind": "digits"},
        "model": {"kind": "myrtle5", "width": 3},
        "loss": {"kind": "static"},
        "train": {"epochs": 1},
    }
    return {
        key: {**value, **tables.get(key, {})} if key != "name" else value
        for key, value in base.items()
    }


def test_needs_pictures(tmp_path):
    with pytest.raises(UserError, match=r"model.kind: got \"myrtle5\", which needs pictures"):
        tiltcli.sweep(grid(tmp_path, data={"kind": "spiral"}), results=tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_parameter_file_faults_come_together(tmp_path):
    parameters = initial_parameters(myrtle_job(3), (1, 8, 8), 10)
    del parameters["conv2.bias"]
    parameters["conv1.weight"] = parameters["conv1.weight"].reshape(1, 3, 3, 3)
    parameters["dense.bias"][3] = np.nan
    np.savez(tmp_path / "w.npz", **parameters)
    with pytest.raises(UserError) as caught:
        tiltcli.sweep(
            grid(tmp_path, model={"init_file": str(tmp_path / "w.npz")}),
            results=tmp_path / "results",
        )
    said = str(caught.value)
    assert "has no array conv2.bias; needed: conv1.weight, conv1.bias" in said
    assert "conv1.weight has shape (1, 3, 3, 3); myrtle5 of width 3 on this data needs" in said
    assert "dense.bias holds what is not a finite number" in said
    assert not (tmp_path / "results").exists()

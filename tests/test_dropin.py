"""In the place of torch.nn.CrossEntropyLoss: the same at amplitude 1, right elsewhere."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch

import tiltcli

REDUCTIONS = ("mean", "sum", "none")
SHAPES = {"flat": (20, 3), "one sample": (3,), "segments": (4, 3, 5), "pictures": (2, 3, 4, 2)}
OPTIONS = {
    "plain": {},
    "weights": {"weight": (1.0, 2.0, 0.5)},
    "smoothing": {"label_smoothing": 0.1},
    "ignoring": {"ignore_index": 2},
    "all": {"weight": (1.0, 0.0, 3.0), "label_smoothing": 0.3, "ignore_index": 0},
}


def batch(shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).mul(3).to(dtype)
    target_shape = shape[:1] + shape[2:] if len(shape) > 1 else ()
    return logits.requires_grad_(), torch.randint(0, 3, target_shape, generator=generator)


def options(name, dtype=torch.float64):
    made = dict(OPTIONS[name])
    if "weight" in made:
        made["weight"] = torch.tensor(made["weight"], dtype=dtype)
    return made


def value_and_gradient(loss, logits, target):
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    return value.detach(), gradient


def assert_the_same(loss, plain, logits, target):
    ours, theirs = (value_and_gradient(each, logits, target) for each in (loss, plain))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OPTIONS)
def test_amplitude_one_is_torchs_to_the_last_bit(name, dtype):
    chosen = options(name, dtype)
    for shape, reduction in itertools.product(SHAPES.values(), REDUCTIONS):
        logits, target = batch(shape, dtype)
        loss = tiltcli.DynamicalCrossEntropy(3, 1, 10, reduction=reduction, **chosen)
        loss.step()
        plain = torch.nn.CrossEntropyLoss(reduction=reduction, **chosen)
        assert_the_same(loss, plain, logits, target)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("when", ["at rest", "settled"])
def test_so_is_the_dynamical_one_where_nothing_tilts(name, when):
    loss = tiltcli.DynamicalCrossEntropy(3, 9, 4, rest=2, settle_at=60, **options(name))
    for _ in range(5 if when == "at rest" else 62):
        loss.step()
    assert_the_same(loss, torch.nn.CrossEntropyLoss(**options(name)), *batch((20, 3)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_amplitude_one_takes_class_probabilities_as_torch_does(reduction):
    logits, _ = batch((20, 3))
    target = torch.softmax(batch((20, 3), seed=1)[0].detach(), dim=1)
    plain = torch.nn.CrossEntropyLoss(reduction=reduction, label_smoothing=0.2)
    loss = tiltcli.DynamicalCrossEntropy(3, 1, 7, reduction=reduction, label_smoothing=0.2)
    assert_the_same(loss, plain, logits, target)
    tilted = tiltcli.DynamicalCrossEntropy(3, 2, 7)
    for _ in range(3):  # at rest as well: not only once the pulse has begun
        with pytest.raises(ValueError, match="class probabilities; with amplitude above 1"):
            tilted(logits, target)
        tilted.step()


def by_hand(loss, logits, target, weight=(1, 1, 1), ignore_index=-100, label_smoothing=0.0):
    """F of every sample and the mean's denominator, in plain Python from the definition."""
    gamma = tiltcli.gamma(
        int(loss.steps), num_classes=3, amplitude=loss.schedule.amplitude, period=6, shape="sine"
    )
    each, count = [], 0.0
    flat = np.moveaxis(np.asarray(logits.detach()), 1, -1).reshape(-1, 3)
    for z, y in zip(flat.tolist(), target.reshape(-1).tolist(), strict=True):
        if y == ignore_index:
            each.append(0.0)
            continue
        log_sum = math.log(sum(math.exp(v) for v in z))
        minus_log = [log_sum - v for v in z]
        one_hot = (1 - label_smoothing) * weight[y] * minus_log[y]
        spread = label_smoothing / 3 * sum(w * m for w, m in zip(weight, minus_log, strict=True))
        each.append(gamma[y] * (one_hot + spread))
        count += weight[y]
    return each, count


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", ["flat", "segments", "pictures"])
def test_against_the_definition(name, shape):
    chosen = options(name)
    logits, target = batch(SHAPES[shape])
    for reduction, steps in itertools.product(REDUCTIONS, (3, 8, 13)):
        loss = tiltcli.DynamicalCrossEntropy(3, 12, 6, shape="sine", reduction=reduction, **chosen)
        for _ in range(steps):
            loss.step()
        each, count = by_hand(loss, logits, target, **OPTIONS[name])
        wanted = {"none": each, "sum": [sum(each)], "mean": [sum(each) / count]}[reduction]
        found = loss(logits, target)
        assert found.shape == (target.shape if reduction == "none" else ())
        np.testing.assert_allclose(found.detach().reshape(-1), wanted, rtol=1e-12)


def test_gradients_against_differences():
    logits, target = batch((4, 3, 2))
    target[1, 0] = -100
    loss = tiltcli.DynamicalCrossEntropy(3, 8, 6, weight=torch.tensor([1.0, 2.0, 3.0]).double())
    for _ in range(9):
        loss.step()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), (logits,))


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_nothing_counts(reduction, weight):
    """All targets ignored: what torch gives, which for a mean is NaN."""
    logits, target = batch((5, 3))
    loss = tiltcli.DynamicalCrossEntropy(3, 5, 10, reduction=reduction, weight=weight)
    for _ in range(3):
        loss.step()
    plain = torch.nn.CrossEntropyLoss(reduction=reduction, weight=weight)
    ignored = torch.full_like(target, -100)
    found, expected = loss(logits, ignored), plain(logits, ignored)
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_loses_no_more_than_its_last_digits(dtype):
    """Many samples: a half-precision sum would overflow (float16) or stand still (bfloat16)."""
    logits, target = batch((60_000, 3), dtype)
    loss = tiltcli.DynamicalCrossEntropy(3, 12, 10)
    for _ in range(5):
        loss.step()
    found = loss(logits, target)
    assert found.dtype == dtype
    wanted = loss(logits.detach().double(), target)
    assert found.item() == pytest.approx(wanted.item(), rel=2 * torch.finfo(dtype).eps)
    (gradient,) = torch.autograd.grad(found, logits)
    assert gradient.isfinite().all()


def test_under_autocast():
    logits, target = batch((20, 3), torch.float32)
    loss = tiltcli.DynamicalCrossEntropy(3, 12, 10)
    loss.step()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(logits.bfloat16(), target)
    assert found.dtype == torch.float32


def test_moves_and_copies_with_its_model():
    loss = tiltcli.DynamicalCrossEntropy(3, 5, 10, weight=torch.ones(3))
    loss.step()
    model = torch.nn.ModuleDict({"net": torch.nn.Linear(2, 3), "loss": loss}).double()
    assert loss.steps.dtype == torch.int64  # a counter is no number to be rounded
    assert loss.weight.dtype == torch.float64
    other = copy.deepcopy(model)
    other["loss"].step()
    assert (int(loss.steps), int(other["loss"].steps)) == (1, 2)
    assert loss.to("meta").steps.device.type == "meta"


def test_state_is_loaded_strictly():
    loss = tiltcli.DynamicalCrossEntropy(3, 5, 10)
    assert list(loss.state_dict()) == ["steps"]
    with pytest.raises(RuntimeError, match=r"Missing key.*steps"):
        loss.load_state_dict({})
    with pytest.raises(RuntimeError, match=r"Unexpected key.*pace"):
        loss.load_state_dict({"steps": torch.tensor(3), "pace": torch.tensor(1)})
    loss.load_state_dict({"steps": torch.tensor(3)}, strict=True)
    assert loss.steps.dtype == torch.int64 and int(loss.steps) == 3


def test_saved_and_resumed_mid_pulse(tmp_path):
    """Interrupted training is the uninterrupted one, bit for bit."""

    def made():
        torch.manual_seed(0)
        model = torch.nn.Linear(2, 3)
        loss = tiltcli.DynamicalCrossEntropy(3, 20, 10, rest=1)
        return model, loss, torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

    def train(model, loss, optimizer, until):
        X, y = torch.arange(12.0).reshape(6, 2) / 6, torch.tensor([0, 1, 2, 0, 1, 2])
        while loss.steps < until:
            optimizer.zero_grad()
            loss(model(X), y).backward()
            optimizer.step()
            loss.step()
        return model.weight.detach().clone()

    through = train(*made(), until=60)
    first = made()
    train(*first, until=27)
    torch.save([part.state_dict() for part in first], tmp_path / "c.pt")
    second = made()
    for part, state in zip(second, torch.load(tmp_path / "c.pt", weights_only=True), strict=True):
        part.load_state_dict(state)
    assert torch.equal(train(*second, until=60), through)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled(backend):
    """Graphs break where Γ is asked for and the numbers are the same; a static loss is whole."""
    torch.compiler.reset()
    logits, target = batch((20, 3))
    loss = tiltcli.DynamicalCrossEntropy(3, 12, 4, rest=1)
    compiled = torch.compile(loss, backend=backend)
    for _ in range(7):
        torch.testing.assert_close(compiled(logits, target), loss(logits, target))
        loss.step()
    static = tiltcli.DynamicalCrossEntropy(3, 1, 4)
    whole = torch.compile(static, backend=backend, fullgraph=True)
    torch.testing.assert_close(whole(logits, target), static(logits, target))
    torch.compiler.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported):
        torch.compile(loss, backend=backend, fullgraph=True)(logits, target)


def test_targets_torch_refuses_are_refused():
    logits, _ = batch((2, 3))
    loss = tiltcli.DynamicalCrossEntropy(3, 5, 10)
    loss.step()
    with pytest.raises(IndexError, match="out of bounds"):
        loss(logits, torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="weight must have shape"):
        tiltcli.DynamicalCrossEntropy(3, 5, 10, weight=torch.ones(4))
    with pytest.raises(ValueError, match="label_smoothing"):
        tiltcli.DynamicalCrossEntropy(3, 5, 10, label_smoothing=1.5)

"""The torch modules: equal to torch's own where nothing tilts, and saved mid-pulse."""

import pytest
import torch

import tiltcli
from tiltcli.schedule import Schedule


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 3, generator=generator, dtype=dtype, requires_grad=True)
    return logits, torch.randint(0, 3, (20,), generator=generator)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_amplitude_one_is_torchs_cross_entropy(reduction):
    logits, target = batch()
    ours = tiltcli.DynamicalCrossEntropy(3, 1, 10, reduction=reduction)
    ours.step()
    theirs = torch.nn.CrossEntropyLoss(reduction=reduction)
    value, expected = ours(logits, target), theirs(logits, target)
    assert torch.equal(value, expected)
    gradients = [torch.autograd.grad(v.sum(), logits)[0] for v in (value, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("at_rest", [True, False])
def test_torchs_options(reduction, at_rest):
    """Weights, smoothing and ignored targets as torch has them, times Γ of the target's class."""
    logits, target = batch()
    target[3] = target[7] = -1
    weight = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    options = {"weight": weight, "ignore_index": -1, "label_smoothing": 0.1}
    ours = tiltcli.DynamicalCrossEntropy(3, 9, 10, reduction=reduction, **options)
    for _ in range(0 if at_rest else 4):
        ours.step()
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none", **options)
    counted = target >= 0
    each = each * torch.where(counted, ours.gamma()[target.clamp(min=0)], 0)
    expected = {
        "none": each,
        "sum": each.sum(),
        "mean": each.sum() / weight[target[counted]].sum(),
    }[reduction]
    torch.testing.assert_close(ours(logits, target), expected, rtol=1e-12, atol=0)
    if at_rest:
        plain = torch.nn.CrossEntropyLoss(reduction=reduction, **options)
        assert torch.equal(ours(logits, target), plain(logits, target))


def test_weights_follow_the_schedule():
    logits, target = batch()
    loss = tiltcli.DynamicalCrossEntropy(3, 30, 8, rest=1, settle_at=40, shape="sine")
    schedule = Schedule(3, 30, 8, 1, 40, "sine")
    each = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    for step in range(60):
        weights = torch.from_numpy(schedule.gamma(step))
        assert loss(logits, target).item() == pytest.approx((weights[target] * each).mean().item())
        loss.step()


def test_squared_error():
    logits, target = batch()
    loss = tiltcli.DynamicalMSE(3, 5, 10)
    for _ in range(5):
        loss.step()
    weights = loss.gamma()
    wanted = torch.nn.functional.one_hot(target, 3)
    each = ((logits - wanted) ** 2).sum(dim=1)
    assert loss(logits, target).item() == pytest.approx((weights[target] * each).mean().item())
    assert tiltcli.DynamicalMSE(3, 1, 4)(logits, target).item() == pytest.approx(each.mean().item())


def test_state_dict_carries_the_step():
    first = tiltcli.DynamicalCrossEntropy(3, 10, 100)
    for _ in range(37):
        first.step()
    second = tiltcli.DynamicalCrossEntropy(3, 10, 100)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.gamma(), second.gamma())
    assert int(second.steps) == 37


def test_bad_use_is_said():
    with pytest.raises(ValueError, match="amplitude"):
        tiltcli.DynamicalCrossEntropy(3, 0.5, 10)
    with pytest.raises(ValueError, match="reduction"):
        tiltcli.DynamicalCrossEntropy(3, 2, 10, reduction="median")
    loss = tiltcli.DynamicalCrossEntropy(3, 2, 10)
    with pytest.raises(ValueError, match="4 classes, the loss 3"):
        loss(torch.zeros(2, 4), torch.tensor([0, 1]))

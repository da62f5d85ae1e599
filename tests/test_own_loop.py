"""`tiltcli.Curvature` in somebody's own loop, against matrices formed whole."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import tiltcli
from tiltcli.curvature import spectrum


class Pictures(nn.Module):
    """Convolution, batch norm, a smooth activation, two heads' worth of inputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten())
        self.head = nn.Linear(12, 3)

    def forward(self, pictures, extra):
        return self.head(self.body(pictures)) + extra


def case(dtype=torch.float64, seed=0):
    """Model in training, three unequal batches, and loss of flat parameters over all samples."""
    torch.manual_seed(seed)
    model = Pictures().to(dtype)
    inputs = {"pictures": torch.randn(11, 2, 4, 4), "extra": torch.randn(11, 3)}
    model(**{name: value.to(dtype) for name, value in inputs.items()})  # running statistics
    y = torch.arange(11) % 3
    parts = [slice(0, 4), slice(4, 8), slice(8, 11)]
    batches = [({name: v[part] for name, v in inputs.items()}, y[part]) for part in parts]
    return model, batches, *of_parameters(model, inputs, y), parts


def of_parameters(model, inputs, y):
    """Loss and logits of all samples as functions of the flat parameters, in float64; these."""
    whole = Pictures().double()
    whole.load_state_dict(model.state_dict())
    whole.eval()
    names = [name for name, _ in whole.named_parameters()]
    like = list(whole.parameters())

    def logits(flat):
        cut = torch.split(flat, [p.numel() for p in like])
        named = {n: c.reshape(p.shape) for n, c, p in zip(names, cut, like, strict=True)}
        given = {n: v.double() for n, v in inputs.items()}
        return functional_call(whole, {**named, **dict(whole.named_buffers())}, kwargs=given)

    def loss(flat, some=slice(None)):
        return nn.functional.cross_entropy(logits(flat)[some], y[some])

    return loss, logits, torch.cat([p.detach().flatten() for p in like])


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_against_dense_matrices(dtype, close):
    model, batches, loss, logits, flat, parts = case(dtype)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    curvature = tiltcli.Curvature(model, nn.CrossEntropyLoss(), batches)
    H = torch.autograd.functional.hessian(loss, flat).numpy()
    values = np.linalg.eigvalsh(H)
    np.testing.assert_allclose(curvature.eigenvalues(2, 1), values[[-1, -2, 0]], rtol=close)
    assert curvature.sharpness() == pytest.approx(values[-1], rel=close)
    found = curvature.trace(200)
    assert abs(found.value - np.trace(H)) < 4 * found.error
    J = torch.func.jacrev(logits)(flat).numpy()
    kernel = curvature.ntk()
    traced = np.einsum("xkp,ykp->xy", J, J) / 3
    assert kernel["ntk_max"] == pytest.approx(np.linalg.eigvalsh(traced)[-1], rel=close)
    rows = J.reshape(33, -1)
    assert kernel["ntk_max_full"] == pytest.approx(np.linalg.norm(rows, 2) ** 2, rel=close)
    quotients = []
    for part in parts:
        g = torch.func.grad(loss)(flat, part).numpy()
        block = torch.autograd.functional.hessian(lambda f, p=part: loss(f, p), flat).numpy()
        quotients.append(g @ block @ g / (g @ g))
    assert curvature.batch_sharpness() == pytest.approx(np.mean(quotients), rel=close)
    # A block of the Hessian for each child: the body's parameters come first.
    blocks = {name: group.sharpness() for name, group in curvature.groups().items()}
    cut = sum(p.numel() for p in model.body.parameters())
    expected = [np.linalg.eigvalsh(b)[-1] for b in (H[:cut, :cut], H[cut:, cut:])]
    np.testing.assert_allclose([blocks["body"], blocks["head"]], expected, rtol=close)
    row = curvature.measure("hessian", "ntk")
    assert row["hessian_max"] == pytest.approx(values[-1], rel=close)
    assert row["ntk_max"] == kernel["ntk_max"]
    # Nothing of the model has changed, and it still trains.
    assert model.training and model.body[1].training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_preconditioned_sharpness_and_groups_of_an_optimiser():
    model, batches, *_ = case()
    groups = [
        {"params": list(model.body.parameters()), "name": "body"},
        {"params": list(model.head.parameters()), "lr": 0.02},
    ]
    optimizer = torch.optim.Adam(groups, lr=0.01, betas=(0.8, 0.95))
    curvature = tiltcli.Curvature(model, nn.CrossEntropyLoss(), batches[0])
    with pytest.raises(tiltcli.UserError, match="has it stepped"):
        curvature.preconditioned_sharpness(optimizer)
    squares = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    given = {name: value.double() for name, value in batches[0][0].items()}
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(**given), batches[0][1]).backward()
        slope = torch.cat([p.grad.flatten() for p in model.parameters()])
        squares = 0.95 * squares + 0.05 * slope**2
        optimizer.step()
    loss, _, flat = of_parameters(model, *batches[0])
    H = torch.autograd.functional.hessian(loss, flat).numpy()
    P = (1 - 0.8**3) * ((squares / (1 - 0.95**3)).sqrt() + 1e-8).numpy()
    scaled = H / np.sqrt(np.outer(P, P))
    found = curvature.preconditioned_sharpness(optimizer)
    assert found == pytest.approx(np.linalg.eigvalsh(scaled)[-1], rel=1e-7)
    assert list(curvature.groups(optimizer)) == ["body", "1"]


def test_density_of_a_matrix():
    """Exact where Lanczos runs to the end; shares within their errors."""
    draw = np.random.default_rng(5)
    values = np.concatenate([np.zeros(60), draw.normal(0, 0.1, 35), [1.0, 2.0, 2.0, 5.0, 9.0]])
    basis = np.linalg.qr(draw.standard_normal((100, 100)))[0]
    A = basis @ np.diag(values) @ basis.T
    found = spectrum.density(lambda v: A @ v, 100, vectors=30, nodes=40)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    for power in (1, 2, 3):
        each = (found.weights * found.nodes**power).sum(axis=1)
        error = each.std(ddof=1) / np.sqrt(30)
        assert abs(each.mean() - np.mean(values**power)) < 4 * error
    assert found.nodes.max() == pytest.approx(9.0)
    cut = 0.5
    share = np.where(found.nodes <= cut, found.weights, 0).sum(axis=1).mean()
    assert abs(share - 0.95) < 4 * found.error < 0.3
    at = np.linspace(-3, 12, 3001)
    mean, error = found.smooth(at, 0.2)
    assert np.trapezoid(mean, at) == pytest.approx(1, abs=1e-6)
    assert (error >= 0).all() and error.max() < mean.max()
    one = spectrum.density(lambda v: 3 * v, 5, vectors=2)
    assert one.nodes[one.weights > 1e-9] == pytest.approx([3.0, 3.0])


def test_what_cannot_be_measured_is_said():
    model, loss = nn.Linear(2, 1), nn.MSELoss()
    X, y = torch.ones(3, 2), torch.zeros(3, 1)
    with pytest.raises(tiltcli.UserError, match="iterator"):
        tiltcli.Curvature(model, loss, iter([(X, y)]))
    with pytest.raises(tiltcli.UserError, match="did you mean ntk"):
        tiltcli.Curvature(model, loss, (X, y)).measure("ntl")
    with pytest.raises(tiltcli.UserError, match="requires_grad"):
        tiltcli.Curvature(model.requires_grad_(False), loss, (X, y))


def test_lightning_callback():
    lightning = pytest.importorskip("lightning")
    model, batches, *_ = case(torch.float32)
    data, loss = batches[0], nn.CrossEntropyLoss()

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = model

        def forward(self, **inputs):
            return self.net(**inputs)

        def training_step(self, batch, _):
            return loss(self(**batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    callback = tiltcli.Curvature.callback(loss, data, every=2)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    module = Module()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=2,
            accelerator="cpu",
            callbacks=[callback],
            enable_checkpointing=False,
            **quiet,
        )
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    assert [row["step"] for row in callback.rows] == [2, 4, 6]
    now = tiltcli.Curvature(module, loss, data).measure()
    assert now.items() <= callback.rows[-1].items()
    logged = trainer.callback_metrics["curvature/hessian_max"]
    assert logged.item() == pytest.approx(now["hessian_max"], rel=1e-5)

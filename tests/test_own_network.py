"""A user's own network: trained as torch trains it, resumed bit for bit, probed, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import tiltcli
from helpers import tilt
from test_checkpoint import same, train
from tiltcli.curvature.autograd import AutogradCurvature
from tiltcli.curvature.points import kernel_points
from tiltcli.data import dataset_of
from tiltcli.engines import Context, Snapshot
from tiltcli.engines.torch import loop as torch_loop
from tiltcli.errors import UserError
from tiltcli.execution.checks import check_jobs
from tiltcli.grid import load_sweep, parse_sweep
from tiltcli.schedule import Schedule

EXAMPLES = Path("tests/examples").resolve()
GRID = """
[data]
kind = "digits"
[model]
kind = "python"
factory = "nets.py:resnet"
width = 2
[model.args]
dropout = 0.3
[loss]
amplitude = 4
period = 7
[train]
epochs = 2
batch_size = 200
lr = 0.05
momentum = 0.9
log_every = 1
dtype = "float64"
"""
NORMED = """
import torch
from torch import nn

def make(classes, sample_shape):
    layers = [nn.Linear(sample_shape[0], 3), nn.BatchNorm1d(3), nn.Tanh(), nn.Dropout(0.2)]
    network = nn.Sequential(*layers, nn.Linear(3, classes))
    network[4].bias.requires_grad_(False)
    return network
"""


def job_of(text, *overrides, folder=EXAMPLES):
    return parse_sweep(text, name="x", folder=folder, overrides=overrides).jobs[0]


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.momentum=0.9"],
        ["model.factory='nets.py:mlp'", "train.batch_size='full'", "train.epochs=5"],
        ["train.optimizer=adamw", "train.momentum=0", "train.lr=0.003", "train.weight_decay=0.1"],
    ],
)
def test_trains_as_a_plain_loop(overrides):
    job = job_of(GRID, *overrides)
    data = dataset_of(job)
    rows, _ = train(job, Context(device="cpu"))
    torch.manual_seed(0)
    namespace = {}
    exec((EXAMPLES / "nets.py").read_text(), namespace)
    make = namespace[job["model.factory"].partition(":")[2]]
    net = make(width=2, sample_shape=(1, 8, 8), classes=10, dropout=0.3).double()
    rate = job["train.lr"]
    if job["train.optimizer"] == "sgd":
        optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=job["train.momentum"])
    else:
        optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.1)
    X, y = torch.tensor(data.train.X), torch.tensor(data.train.y)
    size = len(y) if job["train.batch_size"] == "full" else job["train.batch_size"]
    gamma = torch.tensor(Schedule(10, 4.0, 7, 0, None, "triangle").gamma(np.arange(999)))
    step = 0
    for epoch in range(job["train.epochs"] + 1):
        net.eval()
        with torch.no_grad():
            logits = net(X)
            loss = torch.nn.functional.cross_entropy(logits, y, reduction="none")
            seen = net(torch.tensor(data.val.X)).argmax(1) == torch.tensor(data.val.y)
        assert rows[2][epoch] == pytest.approx(float(loss.mean()), rel=1e-9)
        assert rows[3][epoch] == pytest.approx(float((gamma[step][y] * loss).mean()), rel=1e-9)
        assert rows[4][epoch] == float((logits.argmax(1) == y).double().mean())
        assert rows[7][epoch] == float(seen.double().mean())
        net.train()
        order = np.random.default_rng([0, epoch]).permutation(len(y))
        order = np.arange(len(y)) if size == len(y) else order
        for begin in range(0, len(y), size):
            chosen = order[begin : begin + size]
            optimizer.zero_grad()
            each = torch.nn.functional.cross_entropy(net(X[chosen]), y[chosen], reduction="none")
            (gamma[step][y[chosen]] * each).mean().backward()
            optimizer.step()
            step += 1


@pytest.mark.parametrize(
    "overrides", [[], ["train.optimizer=adam", "train.momentum=0", "train.lr=0.003"]]
)
def test_resumed_is_uninterrupted(tmp_path, overrides):
    job = job_of(GRID, *overrides)
    whole = train(job, Context(device="cpu"))
    path, done, attempts = tmp_path / "c.safetensors", None, 0
    while done is None:
        asked, allowed = [0], 5 + 2 * attempts

        def stop(asked=asked, allowed=allowed):
            asked[0] += 1
            return asked[0] > allowed

        torch.rand(attempts)  # others draw too
        done = train(job, Context(stop, device="cpu", checkpoint=path))
        attempts += 1
    assert attempts > 2
    same(done, whole)


def test_probes_are_of_the_network_as_it_is_in_evaluation(tmp_path):
    """Against the whole Hessian and tangent kernel, at weights and means of mid-training."""
    (tmp_path / "normed.py").write_text(NORMED)
    text = GRID.replace("digits", "spiral").replace("nets.py:resnet", "normed.py:make")
    text = text.replace("width = 2", "").replace("dropout = 0.3", "")
    job = job_of(text, "train.batch_size=50", "data.points_per_class=40", folder=tmp_path)
    data = dataset_of(job)
    found = [x for x in torch_loop.train(job, data, Context(snapshots=(2,))) if type(x) is Snapshot]
    theta, gamma = found[0].theta, found[0].gamma
    namespace = {}
    exec(NORMED, namespace)
    net = namespace["make"](3, (2,)).double().eval()
    trained = [p for p in net.parameters() if p.requires_grad]
    state = [*trained, net[4].bias, *net.buffers()]
    at = 0
    with torch.no_grad():
        for tensor in state:
            tensor.copy_(torch.tensor(theta[at : at + tensor.numel()]).reshape(tensor.shape))
            at += tensor.numel()
    assert at == len(theta) and float(net[1].running_mean.abs().sum()) > 0
    assert int(net[1].num_batches_tracked) == 6
    X, y = torch.tensor(data.train.X), torch.tensor(data.train.y)
    names = [name for name, p in net.named_parameters() if p.requires_grad]

    def loss(*values):
        logits = torch.func.functional_call(net, dict(zip(names, values, strict=True)), (X,))
        each = torch.nn.functional.cross_entropy(logits, y, reduction="none")
        return (torch.tensor(gamma)[y] * each).mean()

    blocks = torch.autograd.functional.hessian(loss, tuple(p.detach() for p in trained))
    sizes = [p.numel() for p in trained]
    hessian = torch.cat(
        [
            torch.cat([b.reshape(n, m) for b, m in zip(row, sizes, strict=True)], 1)
            for row, n in zip(blocks, sizes, strict=True)
        ]
    )
    points = kernel_points(data.train.y, None)
    curvature = AutogradCurvature.of(job, data, points)
    assert curvature.hessian_max(theta, gamma) == pytest.approx(
        float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-6
    )
    rows = []
    for logits in net(X[points]).T:
        grads = [torch.autograd.grad(z, trained, retain_graph=True) for z in logits]
        rows.append(torch.stack([torch.cat([g.ravel() for g in one]) for one in grads]))
    kernel = sum(J @ J.T for J in rows) / 3
    assert curvature.ntk(theta)["ntk_max"] == pytest.approx(
        float(torch.linalg.eigvalsh(kernel)[-1]), rel=1e-6
    )


FAULTY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs, wrong=False):
        super().__init__()
        self.layer, self.norm = nn.LazyLinear(outputs), nn.BatchNorm1d(outputs)
        self.wrong = wrong

    def forward(self, x):
        y = self.norm(self.layer(x))
        return y * float("nan") if self.wrong else y

def raises():
    raise RuntimeError("boom")

def nothing():
    return 3

def empty():
    return nn.Identity()

def shape():
    return Net(4)

def nan():
    return Net(3, wrong=True)

def single():
    return Net(3)
"""


@pytest.mark.parametrize(
    ("function", "line", "said"),
    [
        ("raises", 16, "RuntimeError: boom"),
        ("nothing", 18, "nothing returned int; needed: a torch.nn.Module"),
        ("empty", 21, "with nothing to train"),
        ("shape", 11, "logits of shape (60, 4), for inputs of shape (60, 2) in training mode"),
        ("nan", 11, "gives NaN or infinite logits"),
        ("single", 12, "Expected more than 1 value per channel"),
        ("gone", None, "has no function gone"),
    ],
)
def test_faults_are_told_before_anything_is_trained(tmp_path, function, line, said):
    (tmp_path / "nets.py").write_text(FAULTY)
    grid = GRID.replace("digits", "spiral").replace("resnet", function).replace("width = 2", "")
    grid = grid.replace("dropout = 0.3", "")
    size = 59 if function == "single" else 60  # a last batch of a single sample
    done = parse_sweep(
        grid,
        name="x",
        folder=tmp_path,
        overrides=["data.points_per_class=20", f"train.batch_size={size}", "train.seeds=3"],
    )
    with pytest.raises(UserError) as caught:
        check_jobs(done, "auto")
    (fault,) = caught.value.faults
    assert said in fault.message
    assert fault.line == line and fault.source == str(tmp_path / "nets.py")


def test_a_sweep_of_the_shipped_networks(tmp_path):
    """From the grid to the report and a confirming grid; and what an edit of the file means."""
    shutil.copy(EXAMPLES / "nets.py", tmp_path)
    grid = GRID.replace("dropout = 0.3", "dropout = [0.0, 0.5]").replace("2\nbatch", "1\nbatch")
    grid = grid.replace("[loss]\n", '[loss]\nkind = ["static", "dynamical"]\n')
    (tmp_path / "own.toml").write_text(grid.replace('"nets.py:resnet"', '"nets.py:mlp"'))
    dry = tilt("sweep", "own.toml", "--dry-run", cwd=tmp_path)
    assert 'does not train model.kind = "python"' in dry.stdout
    assert "model.args.dropout=0.5" in dry.stdout
    done = tilt("sweep", "own.toml", "--workers", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    jobs = tiltcli.read(tmp_path / "results/own").jobs
    assert jobs["model.args.dropout"].tolist() == [0.0, 0.0, 0.5, 0.5]
    assert jobs["model.factory_digest"].str.match("mlp:[0-9a-f]{16}$").all()
    assert (jobs["parameters"] == 64 * 2 + 2 + 2 * (2 * 2 + 2) + 10 * (2 + 1)).all()
    assert "4 already done" in tilt("sweep", "own.toml", "--dry-run", cwd=tmp_path).stdout
    for words in (
        ["report", "own"],
        ["compare", "own@loss.kind=dynamical", "own@loss.kind=static", "--format", "json"],
        ["runs", "own"],
        ["confirm", "own", "--tune", "-o", "next.toml"],
    ):
        ended = tilt(*words, cwd=tmp_path)
        assert ended.returncode == 0, (words, ended.stderr)
        if words[0] == "compare":
            rows = json.loads(ended.stdout)["rows"]
            assert {row["model.args.dropout"] for row in rows} == {0.0, 0.5}
    before = {job.id for job in parse_sweep(grid, name="x", folder=tmp_path).jobs}
    assert load_sweep(tmp_path / "next.toml").jobs[0]["model.args.dropout"] in (0.0, 0.5)
    with (tmp_path / "nets.py").open("a") as file:
        file.write("\n# another version\n")
    after = {job.id for job in parse_sweep(grid, name="x", folder=tmp_path).jobs}
    assert not before & after

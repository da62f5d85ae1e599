"""The loss's controls through both engines, against a plain loop over samples."""

import numpy as np
import pytest

import tiltcli
from tiltcli.data import dataset_of
from tiltcli.engines import Context, load_engine
from tiltcli.grid import parse_sweep
from tiltcli.networks.initial import initial_parameters
from tiltcli.schedule import groups_of

GRID = """
[data]
kind = "spiral"
points_per_class = 15
classes = {classes}
[model]
width = 7
[loss]
kind = "dynamical"
amplitude = 8
period = 9
rest = 1
settle = 60
{loss}
[train]
epochs = 300
lr = 0.4
dtype = "float64"
batch_size = {batch}
seeds = [3]
log_every = 1
"""

CONTROLS = {
    "random order": {"order": "random"},
    "random groups": {"groups": "random"},
    "blind to class": {"groups": "all"},
    "noise": {"timing": "noise"},
    "half-life": {"half_life": 40},
    "all at once": {"groups": "random", "order": "random", "half_life": 70},
}


def loop(job, data, control, batch):
    """Gradient descent on F = (1/P) Σ_j Γ_{k_j} ℓ_j, sample by sample; F and L of the whole set."""
    p = {k: v.copy() for k, v in initial_parameters(job, (2,), data.classes).items()}
    X, y, classes = data.train.X, data.train.y, data.classes
    group = groups_of(control.get("groups", "class"), y, 3)
    size = len(y) if batch == '"full"' else int(batch)
    per_epoch = -(-len(y) // size)
    total = 300 * per_epoch
    gamma = tiltcli.gamma(
        np.arange(total + 1),
        num_classes=classes,
        amplitude=8,
        period=9,
        rest=1,
        settle_at=total - 60,
        seed=3,
        **control,
    )
    rows = []
    for step in range(total + 1):
        weights = gamma[step][group]
        if step % per_epoch == 0:
            z, _ = forward(p, X)
            each = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(y)), y]
            rows.append((each.mean(), (weights * each).mean()))
        if step == total:
            break
        epoch, at = divmod(step, per_epoch)
        order = np.arange(len(y))
        if batch != '"full"':
            order = np.random.default_rng([3, epoch]).permutation(len(y))
        own = order[at * size : (at + 1) * size]
        z, hidden = forward(p, X[own])
        q = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        q[np.arange(len(own)), y[own]] -= 1
        q *= weights[own, None] / len(own)
        back = (q @ p["W2"].T) * (hidden > 0)
        for key, slope in (
            ("W1", X[own].T @ back),
            ("b1", back.sum(axis=0)),
            ("W2", hidden.T @ q),
            ("b2", q.sum(axis=0)),
        ):
            p[key] -= 0.4 * slope
    return np.array(rows).T


def forward(p, X):
    hidden = np.maximum(X @ p["W1"] + p["b1"], 0)
    return hidden @ p["W2"] + p["b2"], hidden


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize(("batch", "classes"), [('"full"', 3), ("20", 4)])
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_are_what_they_say(name, batch, classes, engine):
    control = CONTROLS[name]
    loss = "\n".join(f"{k} = {v!r}".replace("'", '"') for k, v in control.items())
    text = GRID.format(loss=loss, batch=batch, classes=classes)
    (job,) = parse_sweep(text, name="x", folder=None).jobs
    data = dataset_of(job)
    blocks = [b for b in load_engine(engine)(job, data, Context()) if hasattr(b, "train_loss")]
    static, weighted = loop(job, data, control, batch)
    found = np.concatenate([b.train_loss for b in blocks])
    np.testing.assert_allclose(found, static, atol=1e-9)
    found = np.concatenate([b.dynamical_loss for b in blocks])
    np.testing.assert_allclose(found, weighted, atol=1e-9)


def jobs(loss):
    text = GRID.format(loss=loss, batch='"full"', classes=3)
    return parse_sweep(text, name="x", folder=None).jobs


def test_the_usual_are_no_part_of_a_jobs_identity():
    usual = 'groups = "class"\norder = "cyclic"\ntiming = "pulse"\nhalf_life = 0'
    assert jobs(usual)[0].id == jobs("")[0].id
    assert jobs('groups = "all"')[0].id != jobs("")[0].id


def test_what_has_no_order_has_no_order():
    both = 'order = ["cyclic", "random"]\n'
    assert len(jobs(both + 'groups = "all"')) == 1
    assert len(jobs(both + 'timing = "noise"')) == 1
    assert len(jobs(both + 'groups = "random"')) == 2


def test_groups_weigh_the_curvature_too():
    """λ_max of F where groups are random is that of the groups' weights, not of the labels'."""
    from tiltcli.curvature.prober import curvature_of

    (job,) = jobs('groups = "random"')
    (usual,) = jobs("")
    data, labels = dataset_of(job), dataset_of(usual)
    assert data.train.X is labels.train.X
    assert (data.train.group != data.train.y).any()
    parameters = initial_parameters(job, (2,), 3)
    theta = np.concatenate([parameters[k].ravel() for k in ("W1", "b1", "W2", "b2")])
    gamma = np.array([2.0, 0.5, 0.5])
    points = np.zeros(0, np.int64)
    of_groups = curvature_of(job, data, points).hessian_max(theta, gamma)
    of_labels = curvature_of(usual, labels, points).hessian_max(theta, gamma)
    assert abs(of_groups - of_labels) > 1e-3 * abs(of_labels)
    flat = np.ones(3)
    same = curvature_of(job, data, points).hessian_max(theta, flat)
    assert same == pytest.approx(curvature_of(usual, labels, points).hessian_max(theta, flat))

"""Hessians and Jacobians formed whole by automatic differentiation: the oracle of the probes."""

import numpy as np
import torch
from torch.func import functional_call, jacrev


def dense(network, base, X, y, gamma):
    """Parameters flat (n), Hessian of F (n, n), Jacobian of the logits (P, C, n)."""
    names = [name for name, _ in network.named_parameters()]
    shapes = [p.shape for p in network.parameters()]
    theta = torch.cat([p.detach().flatten() for p in network.parameters()])

    def logits(flat):
        parts = torch.split(flat, [shape.numel() for shape in shapes])
        parameters = {n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return functional_call(network, parameters, (torch.from_numpy(X),))

    def loss(flat):
        z, labels = logits(flat), torch.from_numpy(y)
        one_hot = torch.nn.functional.one_hot(labels, z.shape[1])
        each = z.logsumexp(1) - (z * one_hot).sum(1)
        if base == "mse":
            each = ((z - one_hot) ** 2).sum(1)
        return (torch.from_numpy(gamma)[labels] * each).mean()

    J = jacrev(logits)(theta).numpy()
    return theta.numpy(), jacrev(jacrev(loss))(theta).numpy(), J


def check_density(row, values):
    """Assert that a probe's spectral density is that of these eigenvalues, within its error."""
    nodes = np.reshape(row["density_nodes"], (int(row["density_vectors"]), -1))
    weights = np.reshape(row["density_weights"], nodes.shape)
    np.testing.assert_allclose(weights.sum(), 1)
    # What is nearly zero falls to either side by rounding, as in the matrix itself.
    places = [at for at in np.linspace(-2, 2, 81) if abs(at) > 1e-6]
    shares = [abs(weights[nodes <= at].sum() - np.mean(values <= at)) for at in places]
    assert 0 < row["density_error"] < 0.2
    assert max(shares) < 4 * row["density_error"]
    for power in (1, 2):
        moments = (weights * nodes**power).sum(axis=1) * len(nodes)
        error = moments.std(ddof=1) / np.sqrt(len(nodes))
        assert abs(moments.mean() - np.mean(values**power)) < 4 * error

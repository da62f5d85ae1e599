"""Hessians and Jacobians formed whole by automatic differentiation: the oracle of the probes."""

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

"""A perceptron of any depth trained by a plain NumPy loop, and by torch's own optimisers."""

from itertools import pairwise

import numpy as np


def draw(rng, units):
    """[W1, b1, W2, b2, …] for these numbers of units, inputs first, classes last."""
    shapes = [shape for one, other in pairwise(units) for shape in ((one, other), (other,))]
    return [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]


def flat(parts):
    return np.concatenate([part.ravel() for part in parts])


def losses(parts, X, y, weights, base):
    """Static loss, weighted loss, number right, gradient of the weighted loss."""
    values = [X]
    for W, b in zip(parts[::2], parts[1::2], strict=True):
        z = values[-1] @ W + b
        values.append(np.maximum(z, 0))
    P, rows = len(y), np.arange(len(y))
    if base == "mse":
        error = z.copy()
        error[rows, y] -= 1
        each, d = (error**2).sum(axis=1), 2 * error
    else:
        shifted = z - z.max(axis=1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        each, d = -log_p[rows, y], np.exp(log_p)
        d[rows, y] -= 1
    d = d * (weights / P)[:, None]
    gradient = []
    for k in reversed(range(len(parts) // 2)):
        gradient = [values[k].T @ d, d.sum(axis=0), *gradient]
        d = (d @ parts[2 * k].T) * (values[k] > 0)
    return each.mean(), (weights * each).mean(), int((z.argmax(axis=1) == y).sum()), gradient


def step(part, gradient, state, rate, t, optimizer, momentum, nesterov, decay):
    """Update of one array, as the definitions have it: t counts from 1."""
    if optimizer == "adamw":  # Loshchilov and Hutter (2019)
        part = part - rate * decay * part
    else:
        gradient = gradient + decay * part
    if optimizer == "sgd":  # Polyak (1964); Nesterov's as in Sutskever et al. (2013)
        state["v"] = momentum * state.get("v", 0) + gradient
        return part - rate * (gradient + momentum * state["v"] if nesterov else state["v"])
    # Kingma and Ba (2015)
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient**2
    mean, square = state["m"] / (1 - 0.9**t), state["v"] / (1 - 0.999**t)
    return part - rate * mean / (np.sqrt(square) + 1e-8)


def batches(P, size, seed, steps):
    """Samples of each step: the epochs' orders one after the other, cut into batches."""
    if size is None:
        return [np.arange(P)] * steps
    found, epoch = [], 0
    while len(found) < steps:
        order = np.random.default_rng([seed, epoch]).permutation(P)
        found += [order[begin : begin + size] for begin in range(0, P, size)]
        epoch += 1
    return found[:steps]


def by_numpy(parts, X, y, groups, gammas, rates, chosen, recorded, base, **optimiser):
    """Parameters after the steps, flat; and the measures before the recorded ones."""
    parts = [part.copy() for part in parts]
    states = [{} for _ in parts]
    rows = []
    for t, (rate, batch) in enumerate(zip(rates, chosen, strict=True), 1):
        weights = gammas[t - 1][groups]
        if recorded[t - 1]:
            rows.append(losses(parts, X, y, weights, base)[:3])
        gradient = losses(parts, X[batch], y[batch], weights[batch], base)[3]
        parts = [
            step(part, g, state, rate, t, **optimiser)
            for part, g, state in zip(parts, gradient, states, strict=True)
        ]
    return flat(parts), np.array(rows)


def by_torch(parts, X, y, groups, gammas, rates, chosen, base, optimizer, decay, **more):
    """Parameters after the steps of torch.optim's own, flat."""
    import torch

    tensors = [torch.tensor(part, requires_grad=True) for part in parts]
    X, y, gammas = torch.tensor(X), torch.tensor(y), torch.tensor(gammas)
    maker = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    more = more if optimizer == "sgd" else {}
    optimiser = maker[optimizer](tensors, lr=1.0, weight_decay=decay, **more)
    for i, (rate, batch) in enumerate(zip(rates, chosen, strict=True)):
        h = X[batch]
        for k in range(0, len(tensors), 2):
            h = (torch.relu(h) if k else h) @ tensors[k] + tensors[k + 1]
        if base == "mse":
            hot = torch.nn.functional.one_hot(y[batch], h.shape[1])
            each = ((h - hot) ** 2).sum(1)
        else:
            each = torch.nn.functional.cross_entropy(h, y[batch], reduction="none")
        optimiser.zero_grad()
        (gammas[i][groups[batch]] * each).mean().backward()
        optimiser.param_groups[0]["lr"] = float(rate)
        optimiser.step()
    return flat([tensor.detach().numpy() for tensor in tensors])

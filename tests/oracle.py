"""A plain NumPy loop of the experiment: what every engine must agree with."""

import numpy as np


def forward(theta, X, width, classes):
    inputs = X.shape[1]
    a, b, c = inputs * width, inputs * width + width, inputs * width + width + width * classes
    W1, b1 = theta[:a].reshape(inputs, width), theta[a:b]
    W2, b2 = theta[b:c].reshape(width, classes), theta[c:]
    hidden = np.maximum(X @ W1 + b1, 0)
    return hidden, hidden @ W2 + b2, W2


def losses(theta, X, y, width, classes, gamma):
    """Static loss, weighted loss, number right, and the gradient of the weighted loss."""
    hidden, logits, W2 = forward(theta, X, width, classes)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(y))
    each = -log_p[rows, y]
    d = np.exp(log_p)
    d[rows, y] -= 1
    d *= (gamma[y] / len(y))[:, None]
    dh = (d @ W2.T) * (hidden > 0)
    gradient = np.concatenate(
        [(X.T @ dh).ravel(), dh.sum(axis=0), (hidden.T @ d).ravel(), d.sum(axis=0)]
    )
    right = int((logits.argmax(axis=1) == y).sum())
    return each.mean(), (gamma[y] * each).mean(), right, gradient


def descend(theta, X, y, width, gammas, lr):
    """Gradient descent over the steps of `gammas`; rows (L, F, right) before each update."""
    theta = theta.copy()
    rows = []
    for gamma in gammas:
        L, F, right, gradient = losses(theta, X, y, width, gammas.shape[1], gamma)
        rows.append((L, F, right))
        theta -= lr * gradient
    return np.array(rows), theta

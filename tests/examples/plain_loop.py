"""The dynamical cross-entropy in a plain torch loop, stopped mid-pulse and taken up again."""

import torch
from sklearn.datasets import load_digits

import tiltcli

X, y = load_digits(return_X_y=True)
X, y = torch.tensor(X / 16, dtype=torch.float32), torch.tensor(y)


def make():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 6), torch.nn.ReLU(), torch.nn.Linear(6, 10))
    loss = tiltcli.DynamicalCrossEntropy(num_classes=10, amplitude=3, period=50, settle_at=300)
    return model, loss, torch.optim.SGD(model.parameters(), lr=0.5)


def train(model, loss, optimizer, until):
    while loss.steps < until:
        optimizer.zero_grad()
        loss(model(X), y).backward()
        optimizer.step()
        loss.step()  # the class weights move on


parts = make()
train(*parts, until=220)  # in the middle of class 4's pulse
torch.save([part.state_dict() for part in parts], "checkpoint.pt")

parts = make()
for part, state in zip(parts, torch.load("checkpoint.pt"), strict=True):
    part.load_state_dict(state)  # the step counter is a part of the loss's state
train(*parts, until=400)
accuracy = (parts[0](X).argmax(dim=1) == y).float().mean()
print(f"{int(parts[1].steps)} steps, training accuracy {accuracy:.3f}")

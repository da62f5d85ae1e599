"""Networks of one's own: factories that a grid file names, as `factory = "nets.py:resnet"`."""

import math

from torch import nn


def mlp(width, sample_shape, classes, dropout=0.2):
    """Three hidden layers with dropout, for rows of inputs or pictures."""
    layers = [nn.Flatten()]
    inputs = math.prod(sample_shape)
    for _ in range(3):
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, classes))


class Block(nn.Module):
    """Two convolutions with batch norm, and a way past them."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.past = nn.Identity()
        if stride != 1 or channels != width:
            self.past = nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x):
        return nn.functional.relu(self.inner(x) + self.past(x))


def resnet(width, sample_shape, classes, dropout=0.0, blocks=2):
    """A small ResNet; each block but the first halves the sides and doubles the channels."""
    channels = sample_shape[0]
    layers = []
    for number in range(blocks):
        layers.append(Block(channels, width << number, 1 if number == 0 else 2))
        channels = width << number
    head = [
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(channels, classes),
    ]
    return nn.Sequential(*layers, *head)

"""The optimisers' steps, as torch.optim defines them, written once for every layout.

A layout hands over where its parameters lie and their gradient, vector by vector; which optimiser
is in force is asked once for many vectors, outside the loops.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from tiltcli.engines.lanes import REGISTERS, Lanes, Value, Vector, emitting

PLAIN, SGD, ADAM = range(3)

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's, torch's defaults."""

RATE, MOMENTUM, NESTEROV, DECAY, SHRINK, KEEP, NEW, KEEP_SQUARE, NEW_SQUARE, STEP, ROOT, TINY = (
    range(12)
)
"""Places of an optimiser's coefficients; see `coefficients_of`."""


@dataclass(frozen=True)
class Optimiser:
    """An optimiser by torch's names."""

    name: str = "sgd"  # "sgd", "adam" or "adamw"
    momentum: float = 0.0  # sgd's
    nesterov: bool = False  # whether sgd looks ahead
    weight_decay: float = 0.0  # decay of all parameters; adamw's is apart from the gradient

    @property
    def kind(self) -> int:
        """Number of the rule that the kernel follows."""
        if self.name != "sgd":
            return ADAM
        return SGD if self.momentum or self.weight_decay else PLAIN

    def coefficients(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return the coefficients in the network's dtype; `set_rate` fills in those of a step.

        rate; momentum; nesterov (0 or 1); decay in the gradient; factor on the parameters; β₁,
        1 − β₁; β₂, 1 − β₂; rate / (1 − β₁ᵗ); 1 / √(1 − β₂ᵗ); ε.
        """
        found = np.zeros(12, dtype)
        coupled = 0.0 if self.name == "adamw" else self.weight_decay
        with np.errstate(over="ignore"):  # an endless decay: the training diverges
            found[MOMENTUM], found[NESTEROV], found[DECAY] = self.momentum, self.nesterov, coupled
        found[SHRINK], found[TINY] = 1.0, EPSILON
        found[KEEP], found[KEEP_SQUARE] = BETAS
        found[NEW], found[NEW_SQUARE] = 1 - BETAS[0], 1 - BETAS[1]
        return found

    def progress(self) -> npt.NDArray[np.float64]:
        """What Adam carries from step to step beside the moments: β₁ᵗ, β₂ᵗ; and adamw's decay."""
        decoupled = self.weight_decay if self.name == "adamw" else 0.0
        return np.array([1.0, 1.0, decoupled])

    def moments(self, size: int, make: Callable[[int], Any]) -> tuple[Any, Any]:
        """Running means of the gradient and of its square, as far as they are needed."""
        return make(size if self.kind != PLAIN else 0), make(size if self.kind == ADAM else 0)


@register_jitable
def set_rate(kind: int, coefficients: Any, progress: Any, rate: float) -> None:
    """Bring the coefficients to the next step, with its learning rate."""
    coefficients[RATE] = rate
    if kind == ADAM:
        for i in range(2):
            power = progress[i] * BETAS[i]
            # 1 minus it is 1 long before; products of subnormal numbers would cost time.
            progress[i] = power if power > 1e-30 else 0.0
        coefficients[SHRINK] = 1.0 - rate * progress[2]
        coefficients[STEP] = rate / (1.0 - progress[0])
        coefficients[ROOT] = 1.0 / math.sqrt(1.0 - progress[1])


class State(NamedTuple):
    """What a step reads and writes, as LLVM values."""

    kind: Value  # number of the rule
    coefficients: Value  # address of the coefficients
    theta: Value  # address of the parameters
    first: Value  # address of the momentum or the mean of the gradient
    second: Value  # address of the mean of its square


Parameter = tuple[Value, Vector, Vector]
"""Index of a vector of parameters, its value, its gradient."""


def _plain(lanes: Lanes, state: State, parameter: Parameter) -> None:
    place, weight, gradient = parameter
    rate = _coefficient(lanes, state, RATE)
    lanes.store(lanes.sub(weight, lanes.mul(rate, gradient)), state.theta, place)


def _plain_fused(lanes: Lanes, state: State, parameter: Parameter) -> None:
    place, weight, gradient = parameter
    rate = lanes.builder.fneg(_coefficient(lanes, state, RATE))
    lanes.store(lanes.fma(rate, gradient, weight), state.theta, place)


def _sgd(lanes: Lanes, state: State, parameter: Parameter) -> None:
    place, weight, gradient = parameter
    rate = lanes.builder.fneg(_coefficient(lanes, state, RATE))
    momentum = _coefficient(lanes, state, MOMENTUM)
    ahead = lanes.compare("!=", _coefficient(lanes, state, NESTEROV), lanes.constant(0.0))
    gradient = lanes.fma(_coefficient(lanes, state, DECAY), weight, gradient)
    velocity = lanes.fma(momentum, lanes.load(state.first, place), gradient)
    lanes.store(velocity, state.first, place)
    along = lanes.select(ahead, lanes.fma(momentum, velocity, gradient), velocity)
    lanes.store(lanes.fma(rate, along, weight), state.theta, place)


def _adam(lanes: Lanes, state: State, parameter: Parameter) -> None:
    place, weight, gradient = parameter

    def c(number: int) -> Vector:
        return _coefficient(lanes, state, number)

    gradient = lanes.fma(c(DECAY), weight, gradient)
    weight = lanes.mul(weight, c(SHRINK))
    first, second = (lanes.load(moment, place) for moment in (state.first, state.second))
    first = lanes.fma(c(NEW), gradient, lanes.mul(c(KEEP), first))
    square = lanes.mul(gradient, gradient)
    second = lanes.fma(c(NEW_SQUARE), square, lanes.mul(c(KEEP_SQUARE), second))
    lanes.store(first, state.first, place)
    lanes.store(second, state.second, place)
    below = lanes.fma(lanes.sqrt(second), c(ROOT), c(TINY))
    change = lanes.div(lanes.mul(c(STEP), first), below)
    lanes.store(lanes.sub(weight, change), state.theta, place)


def _coefficient(lanes: Lanes, state: State, number: int) -> Vector:
    return lanes.spread(state.coefficients, lanes.at(number))


def emit_step(
    lanes: Lanes, state: State, body: Callable[[Callable[[Parameter], None]], None], fused: bool
) -> None:
    """Write a step; `body` hands over the parameters, once for each rule.

    `fused`: whether plain descent rounds once: two layouts, two habits that published numbers
    depend on.
    """
    build = lanes.builder
    rules = {PLAIN: _plain_fused if fused else _plain, SGD: _sgd, ADAM: _adam}
    for number, rule in rules.items():
        with build.if_then(build.icmp_signed("==", state.kind, lanes.at(number))):
            body(lambda parameter, rule=rule: rule(lanes, state, parameter))  # type: ignore[misc]


def _emit_step_along(
    lanes: Lanes,
    _kinds: Any,
    gradient: Value,
    kind: Value,
    coefficients: Value,
    theta: Value,
    first: Value,
    second: Value,
    count: Value,
) -> None:
    """Update `count` parameters, a multiple of the lanes, along their gradient; see `State`."""
    vectors = lanes.builder.sdiv(count, lanes.at(lanes.lanes))

    def body(apply: Callable[[Parameter], None]) -> None:
        def vector(i: Value) -> None:
            place = lanes.offset((i, lanes.lanes))
            apply((place, lanes.load(theta, place), lanes.load(gradient, place)))

        lanes.repeat(vectors, vector)

    emit_step(lanes, State(kind, coefficients, theta, first, second), body, fused=False)


step_along = emitting(_emit_step_along, REGISTERS.parts)

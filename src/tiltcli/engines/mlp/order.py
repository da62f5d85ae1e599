"""Order of the samples in an epoch, made inside compiled code.

The same numbers as `numpy.random.default_rng([seed, epoch]).permutation(count)`, which the torch
engine asks for; asked for from Python it would take longer than many a small network's epoch. NumPy
documents the parts: SeedSequence (O'Neill, "Developing a seed_seq alternative", 2015), PCG64 (XSL-
RR 128/64; O'Neill, HMC-CS-2014-0905); the shuffle is Fisher and Yates's, with 32 bits masked to the
least power of two and drawn again where they are too large.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import register_jitable

from tiltcli.engines.lanes import addresses, intrinsic

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_WORD = 0xFFFFFFFF


@intrinsic
def _advance(_typing: Any, state: Any) -> Any:
    """Advance the 128-bit state [high, low, increment's high, low]; the next 64 random bits."""
    signature = types.uint64(state)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        (place,) = addresses(context, builder, signature, args)
        wide, number, index = ir.IntType(128), ir.IntType(64), ir.IntType(64)
        half = ir.Constant(wide, 64)

        def at(i: int) -> Any:
            return builder.gep(place, [ir.Constant(index, i)])

        def load(i: int) -> Any:
            high, low = (builder.zext(builder.load(at(j)), wide) for j in (i, i + 1))
            return builder.or_(builder.shl(high, half), low)

        product = builder.mul(load(0), ir.Constant(wide, _MULTIPLIER))
        new = builder.add(product, load(2))
        high = builder.trunc(builder.lshr(new, half), number)
        low = builder.trunc(new, number)
        builder.store(high, at(0))
        builder.store(low, at(1))
        turn = builder.lshr(high, ir.Constant(number, 58))
        mixed = builder.xor(high, low)
        left = builder.and_(builder.neg(turn), ir.Constant(number, 63))
        return builder.or_(builder.lshr(mixed, turn), builder.shl(mixed, left))

    return signature, generate


@register_jitable
def _seed(state: Any, seed: int, epoch: int) -> None:
    """Set the state as PCG64(SeedSequence([seed, epoch])) has it."""
    word = np.uint64(_WORD)
    entropy = np.zeros(4, np.uint64)
    entropy[0] = np.uint64(seed)
    entropy[1] = np.uint64(epoch) & word
    entropy[2] = np.uint64(epoch) >> np.uint64(32)
    multiplier = np.uint64(0x43B0D7E5)
    half = np.uint64(16)
    for i in range(4):
        value = entropy[i] ^ multiplier
        multiplier = (multiplier * np.uint64(0x931E8875)) & word
        value = (value * multiplier) & word
        entropy[i] = value ^ (value >> half)
    for source in range(4):
        for i in range(4):
            if i != source:
                value = entropy[source] ^ multiplier
                multiplier = (multiplier * np.uint64(0x931E8875)) & word
                value = (value * multiplier) & word
                value ^= value >> half
                mixed = entropy[i] * np.uint64(0xCA01F9DD) - value * np.uint64(0x4973F715)
                mixed &= word
                entropy[i] = mixed ^ (mixed >> half)
    multiplier = np.uint64(0x8B51F9DD)
    words = np.zeros(8, np.uint64)
    for i in range(8):
        value = entropy[i % 4] ^ multiplier
        multiplier = (multiplier * np.uint64(0x58F38DED)) & word
        value = (value * multiplier) & word
        words[i] = value ^ (value >> half)
    for i in range(4):
        words[i] = words[2 * i] | (words[2 * i + 1] << np.uint64(32))
    start_high, start_low, high, low = words[0], words[1], words[2], words[3]
    one = np.uint64(1)
    state[2] = (high << one) | (low >> np.uint64(63))
    state[3] = (low << one) | one
    # One step from zero gives the increment; then the start is added.
    state[1] = state[3] + start_low
    state[0] = state[2] + start_high + (one if state[1] < start_low else np.uint64(0))
    _advance(state)


@register_jitable
def shuffle(order: Any, seed: int, epoch: int) -> None:
    """Fill `order` with the epoch's permutation of 0 … size − 1."""
    state = np.zeros(4, np.uint64)
    _seed(state, seed, epoch)
    word, half = np.uint64(_WORD), np.uint64(32)
    for i in range(order.size):
        order[i] = i
    spare, has_spare = np.uint64(0), False
    mask = word
    for i in range(order.size - 1, 0, -1):
        while (mask >> np.uint64(1)) >= np.uint64(i):
            mask >>= np.uint64(1)
        while True:
            # 32 bits at a time: the low half of each draw, then its high half.
            if has_spare:
                bits = spare
            else:
                drawn = _advance(state)
                bits, spare = drawn & word, drawn >> half
            has_spare = not has_spare
            j = bits & mask
            if j <= np.uint64(i):
                break
        order[i], order[j] = order[j], order[i]

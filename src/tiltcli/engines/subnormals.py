"""Subnormal numbers taken for zero, for as long as a compiled training runs."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from tiltcli.engines.lanes import Value, intrinsic

_tools: Any = cgutils
_X86 = platform.machine().lower() in ("x86_64", "amd64")
_ARM = platform.machine().lower() in ("arm64", "aarch64")


def _mode(builder: Any) -> Value:
    """Return the floating-point mode of this thread, as i64; 0 on machines not known."""
    number = ir.IntType(32 if _X86 else 64)
    if _X86:
        place = _tools.alloca_once(builder, number)
        _x86_mode(builder, "st", place)
        return builder.zext(builder.load(place), ir.IntType(64))
    if _ARM:
        kind = ir.FunctionType(number, [])
        return builder.asm(kind, "mrs $0, fpcr", "=r", [], side_effect=True)
    return ir.Constant(number, 0)


def _set_mode(builder: Any, mode: Value) -> None:
    if _X86:
        place = _tools.alloca_once(builder, ir.IntType(32))
        builder.store(builder.trunc(mode, ir.IntType(32)), place)
        _x86_mode(builder, "ld", place)
    elif _ARM:
        kind = ir.FunctionType(ir.VoidType(), [mode.type])
        builder.asm(kind, "msr fpcr, $0", "r", [mode], side_effect=True)


def _x86_mode(builder: Any, direction: str, place: Value) -> None:
    address = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [address])
    name = f"llvm.x86.sse.{direction}mxcsr"
    function = _tools.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [builder.bitcast(place, address)])


@intrinsic
def flush_subnormals(_typing: Any) -> Any:
    """Take subnormal numbers for zero in this thread.

    Arithmetic with them is up to a hundred times slower, and momentum or decay bring whatever gets
    no gradient down to them, to stay there: rounded, 0.9 times the least of them is the least.

    Returns:
        the mode before, for `restore_mode`.

    """

    def generate(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        mode = _mode(builder)
        # x86: MXCSR's FTZ and DAZ; ARM: FPCR's FZ.
        bits = 0x8040 if _X86 else 1 << 24
        _set_mode(builder, builder.or_(mode, ir.Constant(mode.type, bits)))
        return mode

    return types.int64(), generate


@intrinsic
def restore_mode(_typing: Any, mode: Any) -> Any:
    """Go back to the mode that `flush_subnormals` returned."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        _set_mode(builder, args[0])
        return context.get_dummy_value()

    return types.none(mode), generate

"""Vectors of a fixed number of lanes, for the kernel: arithmetic, loops, exp and log as LLVM code.

Numba's own loops leave to the compiler whether and how wide they become vectors, and with that the
order of summation. Here the width is fixed (16 float32 or 8 float64 lanes) and every fused
multiply-add is explicit, so the same sums come out on every machine; narrower hardware goes through
a vector in parts. No fast-math flag is set: a NaN stays a NaN, which is how divergence is noticed.
"""

from __future__ import annotations

import hashlib
import inspect
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import llvmlite.binding
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils, config

Value = Any  # an LLVM value; neither llvmlite nor numba.core has types for checkers
Vector = Value
_tools: Any = cgutils


def intrinsic(function: Callable[..., Any]) -> Any:
    """Make a function that writes its own code usable in compiled functions."""
    return extending.intrinsic(function)


def emitting(emit: Callable[..., None], parts: int = 1, once: bool = False) -> Any:
    """Return the intrinsic whose code `emit(lanes, types of the arguments, *arguments)` writes.

    The lanes are of the first array's dtype; arrays come as the address of their first element. The
    code stands wherever it is used, or `once`, in a function.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        dtype = next(one.dtype for one in signature.args if isinstance(one, types.Array))
        given = addresses(context, builder, signature, args)
        emit(Lanes(builder, dtype, parts), signature.args, *given)
        return context.get_dummy_value()

    def typed(_typing: Any, *given: Any) -> Any:
        return types.none(*given), generate

    names = ["_typing", *list(inspect.signature(emit).parameters)[2:]]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    made: Any = typed  # whose signature Numba asks for
    made.__signature__ = inspect.Signature([inspect.Parameter(name, kind) for name in names])
    written = intrinsic(typed)
    return extending.register_jitable(lambda *given: written(*given)) if once else written


LANES = {"float32": 16, "float64": 8}
"""Lanes of a vector by dtype: 64 bytes either way."""


class Registers(NamedTuple):
    """Vector registers of a machine."""

    parts: int  # how many of them a vector of 64 bytes takes
    total: int  # how many there are


def registers() -> Registers:
    """Registers of this machine, or of the one that Numba is told to compile for."""
    known: Any = config
    if known.CPU_FEATURES is not None:
        features = {name[1:] for name in known.CPU_FEATURES.split(",") if name.startswith("+")}
    else:
        try:
            host = dict(llvmlite.binding.get_host_cpu_features())
        except RuntimeError:  # LLVM does not know this kind of machine
            host = {}
        features = {name for name, there in host.items() if there}
    if "avx512f" in features:
        return Registers(1, 32)
    if "avx2" in features:
        return Registers(2, 16)
    return Registers(4, 32 if platform.machine().lower() in ("arm64", "aarch64") else 16)


REGISTERS = registers()
"""Blocks of vectors are sized by it; the numbers that come out do not depend on it."""


@dataclass(frozen=True)
class Format:
    """What exp and log need to know of a floating-point format."""

    integer: Any  # LLVM integer type of the same size
    mantissa: int  # bits of the stored mantissa
    magic: float  # 1.5·2^mantissa; adding it rounds to the nearest whole number, in the low bits
    least: int  # exponent below which 2^n is no normal number; exp(x) is zero below least·log 2
    log2_high: float  # leading bits of log 2, so that n·log2_high is exact
    log2_low: float  # the rest of log 2
    exp: tuple[float, ...]  # coefficients of p in exp(r) = 1 + r + r²·p(r), |r| ≤ log(2)/2
    # coefficients of q in 2·atanh(t) = 2t + t·s·q(s), s = t², |t| ≤ (√2−1)/(√2+1). The polynomials
    # interpolate at Chebyshev nodes (computed with 60 digits); their errors are below 8e-9
    # (float32) and 2e-17 (float64).
    log: tuple[float, ...]


FORMATS = {
    "float32": Format(
        ir.IntType(32),
        23,
        1.5 * 2.0**23,
        -126,
        0.693115234375,
        3.1946184945309415e-05,
        (
            0.5,
            0.16666576845993977,
            0.04166655443768594,
            0.008363202971575855,
            0.0013926213466332444,
        ),
        (0.6666668509542907, 0.39988757716604845, 0.29580985929974424),
    ),
    "float64": Format(
        ir.IntType(64),
        52,
        1.5 * 2.0**52,
        -1022,
        0.6931471803691238,
        1.9082149292705877e-10,
        (
            0.5000000000000001,
            0.16666666666666669,
            0.04166666666662399,
            0.008333333333330051,
            0.0013888888917281794,
            0.00019841269863105968,
            2.480152119021773e-05,
            2.7557268378684192e-06,
            2.7620138719733994e-07,
            2.5100424157005067e-08,
        ),
        (
            0.666666666666667,
            0.3999999999989889,
            0.28571428626253836,
            0.22222211089379496,
            0.1818289243253687,
            0.15331611722055008,
            0.14617807153417325,
        ),
    ),
}


class Lanes:
    """Writes LLVM code on vectors of one dtype; each method returns the value it computes.

    `parts` divides the lanes, for code whose block of vectors should fit narrow registers.
    """

    def __init__(self, builder: Any, dtype: types.Float, parts: int = 1) -> None:
        self.builder = builder
        self.name = str(dtype)
        self.lanes = LANES[self.name] // parts
        self.format = FORMATS[self.name]
        self.scalar = ir.FloatType() if self.name == "float32" else ir.DoubleType()
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.whole = ir.VectorType(self.format.integer, self.lanes)
        self.double = ir.VectorType(ir.DoubleType(), self.lanes)
        self.bytes = 4 if self.name == "float32" else 8
        self.index = ir.IntType(64)

    # Constants, memory

    def constant(self, value: float) -> Vector:
        """Vector of one number."""
        return ir.Constant(self.vector, [value] * self.lanes)

    def at(self, number: int) -> Value:
        """Index constant."""
        return ir.Constant(self.index, number)

    def load(self, pointer: Value, index: Value, *, double: bool = False) -> Vector:
        """Vector that begins at `pointer[index]`."""
        kind, align = (self.double, 8) if double else (self.vector, self.bytes)
        place = self.builder.gep(pointer, [index])
        place = self.builder.bitcast(place, kind.as_pointer())
        return self.builder.load(place, align=align)

    def store(self, value: Vector, pointer: Value, index: Value, *, double: bool = False) -> None:
        """Store a vector at `pointer[index]` and after."""
        kind, align = (self.double, 8) if double else (self.vector, self.bytes)
        place = self.builder.gep(pointer, [index])
        place = self.builder.bitcast(place, kind.as_pointer())
        self.builder.store(value, place, align=align)

    def spread(self, pointer: Value, index: Value) -> Vector:
        """Vector whose lanes all are `pointer[index]`."""
        return self.splat(self.builder.load(self.builder.gep(pointer, [index])))

    def splat(self, value: Value) -> Vector:
        """Vector whose lanes all are a scalar."""
        empty = ir.Constant(self.vector, ir.Undefined)
        one = self.builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, empty, mask)

    def variable(self, start: Vector) -> Value:
        """Place of a vector that changes in loops; the compiler keeps it in a register."""
        place = _tools.alloca_once(self.builder, start.type)
        self.builder.store(start, place)
        return place

    def get(self, place: Value) -> Vector:
        """Read a variable."""
        return self.builder.load(place)

    def put(self, value: Vector, place: Value) -> None:
        """Write a variable."""
        self.builder.store(value, place)

    # Loops

    def repeat(self, count: Value | int, body: Callable[[Value], None]) -> None:
        """Run `body(i)` for i = 0 … count − 1; unrolled where the count is known beforehand."""
        if isinstance(count, int):
            for i in range(count):
                body(self.at(i))
            return
        with _tools.for_range(self.builder, count, intp=self.index) as loop:
            body(loop.index)

    def portions(
        self,
        count: Value,
        groups: Sequence[int],
        body: Callable[[Value, int], None],
        size: int | None = None,
    ) -> None:
        """Run `body(begin, group)` over `count` numbers: so many vectors at once, then fewer.

        `count` is a multiple of `size` (of a vector, if not given), `groups` fall to 1.
        """
        build = self.builder
        size = self.lanes if size is None else size
        begin: Value = self.at(0)
        for group in groups:
            whole = build.sdiv(build.sub(count, begin), self.at(group * size))

            def portion(i: Value, begin: Value = begin, group: int = group) -> None:
                body(self.offset(begin, (i, group * size)), group)

            self.repeat(whole, portion)
            begin = build.add(begin, build.mul(whole, self.at(group * size)))

    def offset(self, *terms: Value | int | tuple[Value | int, Value | int]) -> Value:
        """Sum of indices and of products of two indices."""
        total: Value = self.at(0)
        for term in terms:
            pair = term if isinstance(term, tuple) else (term, 1)
            one, two = (self.at(t) if isinstance(t, int) else t for t in pair)
            total = self.builder.add(total, self.builder.mul(one, two))
        return total

    # Arithmetic

    def fma(self, a: Vector, b: Vector, c: Vector) -> Vector:
        """Compute a·b + c, rounded once."""
        return self._call("fma", a, b, c)

    def sqrt(self, a: Vector) -> Vector:
        """Square root, correctly rounded."""
        return self._call("sqrt", a)

    def _call(self, operation: str, *operands: Vector) -> Vector:
        kind = operands[0].type
        name = f"llvm.{operation}.v{self.lanes}f{32 if kind.element == ir.FloatType() else 64}"
        function = _tools.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind] * len(operands)), name
        )
        return self.builder.call(function, operands)

    def mul(self, a: Vector, b: Vector) -> Vector:
        """Product."""
        return self.builder.fmul(a, b)

    def add(self, a: Vector, b: Vector) -> Vector:
        """Sum."""
        return self.builder.fadd(a, b)

    def sub(self, a: Vector, b: Vector) -> Vector:
        """Difference."""
        return self.builder.fsub(a, b)

    def div(self, a: Vector, b: Vector) -> Vector:
        """Quotient."""
        return self.builder.fdiv(a, b)

    def compare(self, relation: str, a: Vector, b: Vector) -> Vector:
        """Lanes where the relation holds; false where either side is NaN."""
        return self.builder.fcmp_ordered(relation, a, b)

    def select(self, chosen: Vector, a: Vector, b: Vector) -> Vector:
        """`a` in the chosen lanes, `b` in the others."""
        return self.builder.select(chosen, a, b)

    def bits(self, chosen: Vector) -> Value:
        """Whole number of 16 bits, of which the lowest are set where lanes are chosen."""
        found = self.builder.bitcast(chosen, ir.IntType(self.lanes))
        return found if self.lanes == 16 else self.builder.zext(found, ir.IntType(16))

    def relu(self, h: Vector) -> Vector:
        """max(h, 0); NaN stays NaN."""
        zero = self.constant(0.0)
        return self.select(self.compare("<", h, zero), zero, h)

    def as_double(self, value: Vector) -> Vector:
        """Widen the lanes to float64."""
        return value if self.name == "float64" else self.builder.fpext(value, self.double)

    def sum(self, value: Vector) -> Value:
        """Sum of the lanes, pairwise: the same order everywhere."""
        number = ir.IntType(32)
        parts = [
            self.builder.extract_element(value, ir.Constant(number, i)) for i in range(self.lanes)
        ]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [self.builder.fadd(parts[i], parts[half + i]) for i in range(half)]
        return parts[0]

    def transposed(self, rows: Sequence[Vector]) -> list[Vector]:
        """Columns of a square of as many vectors as they have lanes."""
        build, number = self.builder, ir.IntType(32)
        found = list(rows)
        size = self.lanes
        distance = size // 2
        while distance:
            # Exchange the off-diagonal quarters of every square of 2 · distance rows.
            low = [i % (2 * distance) < distance for i in range(size)]
            upper = [i if low[i] else i - distance + size for i in range(size)]
            lower = [i + distance if low[i] else i + size for i in range(size)]
            masks = [ir.Constant(ir.VectorType(number, size), order) for order in (upper, lower)]
            for i in (i for i in range(size) if low[i]):
                pair = found[i], found[i + distance]
                found[i] = build.shuffle_vector(*pair, masks[0])
                found[i + distance] = build.shuffle_vector(*pair, masks[1])
            distance //= 2
        return found

    def polynomial(self, x: Vector, coefficients: Sequence[float]) -> Vector:
        """Horner's scheme, lowest coefficient first."""
        value = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.fma(value, x, self.constant(coefficient))
        return value

    def exp(self, x: Vector) -> Vector:
        """Return the exponential of x ≤ 0, to about one unit in the last place; zero if not normal.

        x = n·log 2 + r with |r| ≤ log(2)/2; 2^n is written straight into the exponent bits.
        """
        form, build = self.format, self.builder
        lowest = form.least * 0.6931471805599453
        kept = self.select(self.compare("<", x, self.constant(lowest)), self.constant(lowest), x)
        magic = self.constant(form.magic)
        shifted = self.fma(kept, self.constant(1.4426950408889634), magic)
        n = self.sub(shifted, magic)
        r = self.fma(n, self.constant(-form.log2_high), kept)
        r = self.fma(n, self.constant(-form.log2_low), r)
        value = self.fma(self.mul(r, r), self.polynomial(r, form.exp), r)
        value = self.add(value, self.constant(1.0))
        # The low bits of `shifted` hold n; moved up they add n to the exponent of value.
        bits = ir.Constant(self.whole, [form.mantissa] * self.lanes)
        power = build.shl(build.bitcast(shifted, self.whole), bits)
        scaled = build.bitcast(build.add(build.bitcast(value, self.whole), power), self.vector)
        scaled = self.select(
            self.compare("<", x, self.constant(lowest)), self.constant(0.0), scaled
        )
        # Integer arithmetic on the bits of a NaN or an infinity is meaningless: restore it.
        return self.select(self.compare("ord", x, x), scaled, x)

    def log(self, x: Vector) -> Vector:
        """Return the logarithm of normal x > 0, to about one unit in the last place; NaN stays NaN.

        x = 2^k·m with √½ ≤ m < √2, log m = 2·atanh(t) with t = f/(2 + f), f = m − 1; written as
        f − (f²/2 − t·(f²/2 + R)) so that small f keep their digits.
        """
        form, build = self.format, self.builder

        def splat(number: int) -> Value:
            return ir.Constant(self.whole, [number] * self.lanes)

        bits = build.bitcast(x, self.whole)
        # Adding this before taking the exponent moves the cut from 2^k to 2^k·√½.
        half = {"float32": 0x3F3504F3, "float64": 0x3FE6A09E667F3BCD}[self.name]
        k = build.ashr(build.sub(bits, splat(half)), splat(form.mantissa))
        m = build.bitcast(build.sub(bits, build.shl(k, splat(form.mantissa))), self.vector)
        k = build.sitofp(k, self.vector)
        f = self.sub(m, self.constant(1.0))
        t = self.div(f, self.add(f, self.constant(2.0)))
        s = self.mul(t, t)
        rest = self.mul(s, self.polynomial(s, form.log))
        square = self.mul(self.constant(0.5), self.mul(f, f))
        inner = self.fma(t, self.add(square, rest), self.mul(k, self.constant(form.log2_low)))
        value = self.sub(f, self.sub(square, inner))
        value = self.fma(k, self.constant(form.log2_high), value)
        return self.select(self.compare("ord", x, x), value, x)


def addresses(context: Any, builder: Any, signature: Any, args: Sequence[Value]) -> list[Value]:
    """Arguments of an intrinsic with arrays replaced by the address of their first element."""
    return [
        context.make_array(kind)(context, builder, value).data
        if isinstance(kind, types.Array)
        else value
        for kind, value in zip(signature.args, args, strict=True)
    ]


def digest(*modules: ModuleType) -> str:
    """Return a digest of the code that compiled functions are made of.

    Numba keeps compiled code on disk by the file of the outermost function alone; without this a
    change in another file would go unnoticed.
    """
    files = [Path(module.__file__ or "") for module in modules]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

"""Shapes of arrays, as they are annotated, checked at run time."""

import builtins
import re

import jaxtyping
from beartype import beartype

MODULES = (
    "tiltcli.schedule",
    "tiltcli.engines.base",
    "tiltcli.engines.mlp.fused",
    "tiltcli.engines.mlp.kernel",
    "tiltcli.engines.conv.myrtle5",
    "tiltcli.engines.torch.loop",
    "tiltcli.engines.torch.state",
    "tiltcli.curvature.autograd",
    "tiltcli.curvature.compiled",
    "tiltcli.curvature.points",
    "tiltcli.curvature.prober",
)
"""Those with arrays in their signatures and nothing that Numba compiles."""

NAMES = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Float64", "Int64", "Shaped")}
SHAPE = re.compile(rf"\b({'|'.join(NAMES)})\[")


def checked(function):
    """Check the shapes alone: other types are mypy's."""
    if isinstance(function, type) or not hasattr(function, "__annotations__"):
        return function
    shapes = {n: own for n, own in function.__annotations__.items() if SHAPE.search(repr(own))}
    function.__annotations__ = shapes
    return beartype(function) if shapes else function


def check_shapes():
    """Check them in every call of the modules, which must not have been imported yet."""
    # They import the names for mypy alone, so that no command waits for jaxtyping.
    vars(builtins).update(NAMES)
    jaxtyping.install_import_hook(list(MODULES), "shapes.checked")

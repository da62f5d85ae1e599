"""A user's own function, named by a grid file as "nets.py:make" or "package.module:make".

Nothing of it is run to find it or to take its digest; `load` runs its file.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from tiltcli.errors import Fault, UserError, with_suggestion
from tiltcli.grid.paths import check_same, digest_of, located

_MOST_FILES = 1000
INSTALLED = {"site-packages", "dist-packages"}

_loaded: dict[tuple[str, str], Callable[..., Any]] = {}
_beside: set[str] = set()
_lock = threading.RLock()


def locate(name: str, folder: Path) -> str:
    """Return a factory by the absolute path of its file, "/where/nets.py:make".

    In the grid file's folder a file is looked for, and a module first, then among what Python can
    import.

    Raises:
        ValueError: saying what is wrong with the name.
        FileNotFoundError: if there is no such file or module.

    """
    place, _, function = name.rpartition(":")
    of_file = place.endswith(".py")
    if not (of_file or all(map(str.isidentifier, place.split(".")))) or not function.isidentifier():
        raise ValueError('allowed: "file.py:function" or "package.module:function"')
    path = located(place, folder) if of_file else _module_file(place, folder)
    if of_file and not path.is_file():
        raise FileNotFoundError(2, os.strerror(2), place)
    return f"{path.resolve()}:{function}"


def _module_file(name: str, folder: Path) -> Path:
    top, *rest = name.split(".")
    try:
        spec = PathFinder.find_spec(top, [str(folder)]) or importlib.util.find_spec(top)
    except ValueError:  # of a module that was made without one
        spec = None
    for part in rest:
        within = None if spec is None else spec.submodule_search_locations
        spec = None if within is None else PathFinder.find_spec(part, list(within))
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise FileNotFoundError(2, "no such module beside the grid file or installed", name)
    return Path(spec.origin)


def digest(factory: str) -> str:
    """Return what a factory is, whatever its file's name or place: "make:" and 16 digits.

    They are of the SHA-256 of its file, and of the modules beside it (of the same package, if it is
    in one) that it imports, and they import in turn. Which these are is read, not run.
    """
    path, function = _split(factory)
    files = _sources(path)
    parts = [digest_of(path), *(f"{name} {digest_of(file)}" for name, file in files.items())]
    text = "\n".join(parts)
    return f"{function}:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def load(factory: str, expected: str | None = None) -> Callable[..., Any]:
    """Import a factory's file, once per process and content, and return its function."""
    path, function = _split(factory)
    with _lock:
        if expected is not None and (factory, expected) in _loaded:
            return _loaded[factory, expected]
        try:
            found = digest(factory)
        except OSError as error:
            raise UserError(Fault(str(error.strerror or error), source=str(path))) from None
        check_same(path, expected or found, found)
        if (factory, found) not in _loaded:
            try:
                module = _imported(path, found)
            except Exception as error:
                raise user_error(error, factory) from error
            check_same(path, found, digest(factory))  # swapped while it was imported
            make = getattr(module, function, None)
            if not callable(make):
                there = [n for n, one in vars(module).items() if callable(one) and n[0] != "_"]
                problem = f"has no function {function}"
                said = with_suggestion(problem, function, there, says="it has")
                raise UserError(Fault(said, source=str(path)))
            _loaded[factory, found] = make
        return _loaded[factory, found]


def call(
    factory: str,
    make: Callable[..., Any],
    known: Mapping[str, Any],
    args: Mapping[str, Any],
    key: str,
    expected: str | None = None,
) -> Any:
    """Call `make`, from `load`, with all `args`, and with what of `known` its signature takes."""
    path, function = _split(factory)
    try:
        taken = dict(inspect.signature(make).parameters)
        open_ended = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    except (TypeError, ValueError):  # of what is not written in Python
        taken, open_ended = {}, True
    given = {name: v for name, v in known.items() if name in taken and v is not None}
    given |= {n: v for n, v in known.items() if open_ended and v is not None} | dict(args)
    faults = []
    for name in args:
        if name not in taken and not open_ended:
            said = with_suggestion(f"{function} takes no {name}", name, taken, says="it takes")
            faults.append(Fault(said, key=f"{key}.{name}"))
    for name, parameter in taken.items():
        positional = parameter.kind is parameter.POSITIONAL_ONLY
        star = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if not star and (positional or name not in given) and parameter.default is parameter.empty:
            place = f"{key.partition('.')[0]}.{name}" if name in known else f"{key}.{name}"
            faults.append(Fault(f"missing: {function} in {path.name} needs {name}", key=place))
    if faults:
        raise UserError(*faults)
    imported = len(sys.modules)
    try:
        return make(**given)
    except UserError:
        raise
    except Exception as error:
        raise user_error(error, factory) from error
    finally:
        if expected is not None and len(sys.modules) != imported:
            check_same(path, expected, digest(factory))


def fault_of(factory: str, said: str, *made: Any) -> Fault:
    """Say what is wrong with what a factory made, at the line of the user's that is nearest."""
    path, function = _split(factory)
    codes = (getattr(inspect.unwrap(one), "__code__", None) for one in made)
    lines = [c.co_firstlineno for c in codes if c is not None and Path(c.co_filename) == path]
    return Fault(f"{function} {said}", source=str(path), line=lines[0] if lines else None)


def user_error(error: BaseException, factory: str) -> UserError:
    """Return an error of the user's code with the last line of it that was under way."""
    path = _split(factory)[0]
    own = {str(path)}
    with suppress(OSError, UserError):
        own.update(map(str, _sources(path).values()))
    if isinstance(error, SyntaxError) and error.filename:
        said = f"{type(error).__name__}: {error.msg}"
        return UserError(Fault(said, source=error.filename, line=error.lineno))
    said = f"{type(error).__name__}: {error}".strip(": ")
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in own]
    if not lines:
        return UserError(Fault(said, source=str(path)))
    said += f" (in {lines[-1].name}: {lines[-1].line})"
    return UserError(Fault(said, source=lines[-1].filename, line=lines[-1].lineno))


def _split(factory: str) -> tuple[Path, str]:
    path, _, function = factory.rpartition(":")
    return Path(path), function


def _root(path: Path) -> Path:
    """Return the folder that the file's imports are relative to: that of its outermost package."""
    folder = path.parent
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _sources(path: Path) -> dict[str, Path]:
    """Modules beside a file that it imports, directly or not: dotted name → file, sorted."""
    root = _root(path)
    parts = path.relative_to(root).with_suffix("").parts
    if root == path.parent and INSTALLED & set(root.parts):
        return {}
    inside = f"{parts[0]}." if len(parts) > 1 else ""
    found: dict[str, Path] = {}
    queue = [(".".join(parts[:-1]), path)]
    while queue:
        package, file = queue.pop()
        for name in _imports(file, package):
            if name in found or not f"{name}.".startswith(inside):
                continue
            for place, own in (
                (root.joinpath(*name.split(".")) / "__init__.py", name),
                (root.joinpath(*name.split(".")).with_suffix(".py"), name.rpartition(".")[0]),
            ):
                if place.is_file() and place != path and len(found) < _MOST_FILES:
                    found[name] = place
                    queue.append((own, place))
                    break
    return dict(sorted(found.items()))


def _imports(file: Path, package: str) -> Iterator[str]:
    """Yield the names of the modules, and of what may be one, that a file imports anywhere."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        said = f"{type(error).__name__}: {getattr(error, 'msg', error)}"
        raise UserError(Fault(said, source=str(file), line=line)) from None
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(filter(None, [*(above if node.level else []), node.module or ""]))
            names = [base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)]
        for name in filter(None, names):
            pieces = name.split(".")
            yield from (".".join(pieces[:n]) for n in range(1, len(pieces) + 1))


def _imported(path: Path, found: str) -> Any:
    """Run a file as a module of its own name in its package, else of a private name."""
    root, beside = _root(path), _sources(path)
    before = sys.dont_write_bytecode
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = True  # stale where a file is edited twice within a second
    try:
        importlib.invalidate_caches()
        if root != path.parent:
            return importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
        for name in _beside:  # another folder's, or of before an edit
            sys.modules.pop(name, None)
        _beside.clear()
        _beside.update(name for name in beside if name not in sys.modules)
        private = f"_tiltcli_{found.rpartition(':')[2]}"
        spec = importlib.util.spec_from_file_location(private, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[private] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.dont_write_bytecode = before
        sys.path.remove(str(root))
        if str(root) not in sys.path:
            sys.path.append(str(root))  # for what is imported only when it is called

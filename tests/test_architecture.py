"""The house: data flows one way, heavy libraries stay where they belong, files stay readable."""

import ast
import graphlib
import re
import tomllib
from collections import Counter
from pathlib import Path

SOURCE = Path("src/tiltcli")

_HOW_IT_IS_BUILT = Path("README.md").read_text("utf-8").partition("## How it is built")[2]
LAYERS = [
    set(re.findall(r"`(\w+)`", line.partition(":")[0]))
    for line in re.findall(r"^\d+\. (.*)$", _HOW_IT_IS_BUILT, re.MULTILINE)
]
"""The rooms, from the leaves up: the list stands once, where a newcomer reads it."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules():
    return sorted(SOURCE.rglob("*.py"))


def room(path):
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports(path):
    """(module, whether it is only for type checkers) of every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in typing_only
            if node.module == "tiltcli":
                for alias in node.names:
                    yield f"tiltcli.{alias.name}", id(node) in typing_only


def test_every_room_has_its_layer():
    rooms = {room(path) for path in modules()} - {"__init__", "__main__"}
    assert rooms == set(LEVEL), rooms ^ set(LEVEL)
    assert len(LAYERS) == 12 and sum(map(len, LAYERS)) == len(LEVEL)


def test_imports_point_down():
    wrong = []
    for path in modules():
        here = room(path)
        if here in ("__init__", "__main__"):
            continue
        for name, typing_only in imports(path):
            parts = name.split(".")
            if parts[0] != "tiltcli" or len(parts) < 2 or parts[1] not in LEVEL or typing_only:
                continue
            if parts[1] != here and LEVEL[parts[1]] >= LEVEL[here]:
                wrong.append(f"{path}: {name}")
    assert not wrong


def test_no_circle():
    """Not between files either, what is imported inside a function included."""
    names = {".".join(p.relative_to("src").with_suffix("").parts): p for p in modules()}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        targets = {target for target, typing_only in imports(path) if not typing_only}
        targets |= {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        } & set(names)
        # A package's file says what it offers; that its modules import it is no circle.
        graph[name] = {one for one in targets & set(names) if not name.startswith(f"{one}.")}
    graph.pop("tiltcli")
    try:
        tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_a_file_name_says_one_thing():
    """Commands have the names of what they run; otherwise no two files are called the same."""
    counts = Counter(
        path.name
        for path in modules()
        if path.name != "__init__.py" and path.parent.name != "commands"
    )
    assert [name for name, count in counts.items() if count > 1] == []


def test_heavy_libraries_stay_in_their_rooms():
    allowed = {
        "torch": {"losses", "networks", "engines", "curvature", "execution"},
        "numba": {"engines", "curvature"},
        "matplotlib": {"plots"},
        "typer": {"cli"},
        "rich": {"cli"},
    }
    wrong = [
        f"{path}: {name}"
        for path in modules()
        for name, typing_only in imports(path)
        if not typing_only
        and name.split(".")[0] in allowed
        and room(path) not in allowed[name.split(".")[0]]
    ]
    assert not wrong


def test_every_example_in_a_docstring_is_run():
    with Path("pyproject.toml").open("rb") as file:
        run = tomllib.load(file)["tool"]["pytest"]["ini_options"]["testpaths"]
    shown = {str(path) for path in modules() if ">>> " in path.read_text(encoding="utf-8")}
    assert shown == {path for path in run if path.endswith(".py")}


def test_files_can_be_read_in_one_sitting():
    long = {str(p): n for p in modules() if (n := len(p.read_text().splitlines())) > 450}
    assert not long


def test_shipped_sweeps_are_templates():
    """One place: in the sources the folder of templates points to sweeps/; a build copies it."""
    shipped = SOURCE / "grid" / "templates" / "shipped"
    assert shipped.is_symlink() and shipped.resolve() == Path("sweeps").resolve()

"""A user's own function: found and digested without being run, loaded once, its faults told."""

import importlib
import sys

import pytest

from tiltcli.errors import UserError
from tiltcli.grid.factories import call, digest, load, locate

MAIN = "import layers\nfrom pack import part\ndef make(width):\n    return layers.n * width\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pack").mkdir()
    files = {"nets.py": MAIN, "layers.py": "n = 2\n", "other.py": "raise SystemExit\n"}
    files |= {"pack/__init__.py": "", "pack/part.py": "from . import deep\n", "pack/deep.py": ""}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_digest_is_of_the_file_and_what_it_imports_beside_it(folder):
    made = locate("nets.py:make", folder)
    before = digest(made)
    assert before.startswith("make:") and digest(locate("nets.py:other", folder)) != before
    (folder / "other.py").write_text("")
    assert digest(made) == before
    for name in ("nets.py", "layers.py", "pack/deep.py"):
        text = (folder / name).read_text()
        (folder / name).write_text(text + "\n# changed\n")
        assert digest(made) != before, name
        (folder / name).write_text(text)
    assert digest(made) == before
    (folder / "nets.py").rename(folder / "renamed.py")
    assert digest(locate("renamed.py:make", folder)) == before


def test_an_edited_module_and_one_of_another_folder_are_read_anew(folder, tmp_path_factory):
    made = locate("nets.py:make", folder)
    first = load(made)
    assert load(made, digest(made)) is first and first(3) == 6
    (folder / "layers.py").write_text("n = 5\n")
    assert load(made)(3) == 15 and first(3) == 6
    other = tmp_path_factory.mktemp("other")
    (other / "nets.py").write_text(MAIN.replace("from pack import part\n", ""))
    (other / "layers.py").write_text("n = 7\n")
    assert load(locate("nets.py:make", other))(3) == 21
    with pytest.raises(UserError, match="has changed since the grid was read"):
        load(made, "make:0123456789abcdef")


def test_a_module_is_found_beside_the_grid_file_or_installed(folder):
    (folder / "pack" / "net.py").write_text(
        "from . import deep\ndef make():\n    return __name__\n"
    )
    assert load(locate("pack.net:make", folder))() == "pack.net"
    assert locate("json.decoder:JSONDecoder", folder).endswith("decoder.py:JSONDecoder")
    sys.modules.pop("pack.net")
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    "name", ["nets.py", "nets.py:", ":make", "nets.py:1a", "a b:make", "..x:y"]
)
def test_what_is_no_factory_is_said_to_be_none(folder, name):
    with pytest.raises(ValueError, match=r"package\.module:function"):
        locate(name, folder)


@pytest.mark.parametrize("name", ["gone.py:make", "no.such.module:make", "sys:exit"])
def test_a_missing_file_or_module_is_said_to_be_missing(folder, name):
    with pytest.raises(FileNotFoundError):
        locate(name, folder)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("x = 1\ndef make(:\n", 2, "SyntaxError"),
        ("x = 1\nimport no_such_module\n", 2, "No module named"),
        ("import layers\n\nlayers.f()\n", 3, "no attribute"),
        ("def other():\n    pass\n", None, "has no function make"),
        ("def make():\n    import layers\n    return layers.m\n", 3, "has no attribute 'm'"),
    ],
)
def test_a_fault_names_the_users_own_line(folder, text, line, said):
    (folder / "nets.py").write_text(text)
    made = locate("nets.py:make", folder)
    with pytest.raises(UserError, match=said) as caught:
        call(made, load(made), {}, {}, "model.args")
    (fault,) = caught.value.faults
    assert fault.line == line and fault.source.endswith("nets.py")


def test_a_factory_gets_what_its_signature_takes(folder):
    def call_it(text, known, args):
        (folder / "nets.py").write_text(text)
        made = locate("nets.py:make", folder)
        return call(made, load(made), known, args, "model.args")

    known = {"width": 4, "classes": None}
    assert call_it("def make(width): return width", known, {}) == 4
    assert call_it("def make(*, classes=3, drop): return classes, drop", known, {"drop": 0.5}) == (
        3,
        0.5,
    )
    assert call_it("def make(**all): return all", known, {"a": 1}) == {"width": 4, "a": 1}
    with pytest.raises(UserError) as caught:
        call_it("def make(classes, dropout, rate): return 1", known, {"droput": 0.1})
    said = [str(fault) for fault in caught.value.faults]
    assert said == [
        "model.args.droput: make takes no droput; it takes: classes, dropout, rate; "
        "did you mean dropout?",
        "model.classes: missing: make in nets.py needs classes",
        "model.args.dropout: missing: make in nets.py needs dropout",
        "model.args.rate: missing: make in nets.py needs rate",
    ]

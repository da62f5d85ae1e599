"""The README's section of commands is what their help pages say."""

from pathlib import Path

import pytest

from tiltcli.cli.app import app
from tiltcli.cli.main import load_commands
from tiltcli.cli.reference import BEGIN, END, main, with_reference


def test_the_readme_says_what_help_says():
    text = Path("README.md").read_text(encoding="utf-8")
    assert text == with_reference(text), "make docs"


def test_every_command_and_option_is_there(tmp_path):
    file = tmp_path / "one.md"
    file.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n", encoding="utf-8")
    main(file)
    text = file.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}\n### tiltcli ")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "stale" not in text
    load_commands()
    assert "│" not in text
    for command in app.registered_commands:
        name = command.callback.__name__
        _, heading, rest = text.partition(f"### tiltcli {name}\n")
        page = rest.partition("###")[0]
        assert heading
        assert f"\nExample: tiltcli {name}" in page
        assert page.count("```") == 2
    for option in ("--shard", "--retry-failed", "--best", "--zoom", "--ntk-points", "--list"):
        assert option in text


def test_a_file_without_the_section_is_refused(tmp_path):
    file = tmp_path / "one.md"
    file.write_text("nothing", encoding="utf-8")
    with pytest.raises(ValueError, match="no section"):
        main(file)
    assert file.read_text(encoding="utf-8") == "nothing"

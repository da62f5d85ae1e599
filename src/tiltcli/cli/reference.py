"""Every command's help as a section of a Markdown file.

`make docs`, or `python -m tiltcli.cli.reference README.md`, brings the section up to date.
A test compares the section with the commands as they are, so that it cannot grow stale.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

BEGIN, END = "<!-- commands -->", "<!-- /commands -->"
WIDTH = 100


def reference() -> str:
    """All commands, alphabetically: a heading and the help page of each, as Markdown."""
    from tiltcli.cli.app import app
    from tiltcli.cli.main import load_commands

    load_commands()
    names = sorted(
        command.callback.__name__ for command in app.registered_commands if command.callback
    )
    pages = [f"### tiltcli {name}\n\n```text\n{_page(name)}\n```" for name in names]
    return "\n\n".join(pages)


def _page(name: str) -> str:
    """Help of a command in plain text, as wide as WIDTH whatever the terminal is."""
    import typer
    from typer.testing import CliRunner

    from tiltcli.cli.app import app

    plain = {"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    command = typer.main.get_command(app)
    assert command.name is not None
    shown = CliRunner().invoke(app, [name, "--help"], prog_name=command.name, env=plain)
    if shown.exit_code:
        raise RuntimeError(f"{name} --help: {shown.output}")
    return _compact(shown.output)


def _compact(page: str) -> str:
    """Take a help page out of its boxes: what is left is what it says."""
    lines = []
    for line in page.splitlines():
        heading = re.fullmatch(r"╭─ (.*?) ─*╮", line.strip())
        if heading:
            lines += ["", f"{heading[1]}:"]
        elif not re.fullmatch(r"╰─*╯", line.strip()):
            lines.append(re.sub(r"^ ?│ ?|│$", "", line).rstrip())
    text = "\n".join(re.sub(r"^ (?=\S)", "", line) for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def with_reference(text: str) -> str:
    """Return a Markdown file's text with its section of commands as it ought to be.

    Raises:
        ValueError: if it has no such section.

    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no section from {BEGIN} to {END}")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


def main(path: Path) -> None:
    """Bring the section of a file up to date; the file is written whole."""
    from tiltcli.store.parts import write_whole

    text = with_reference(path.read_text(encoding="utf-8"))
    write_whole(path, lambda to: to.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    os.environ["COLUMNS"] = str(WIDTH)
    main(Path(sys.argv[1]))

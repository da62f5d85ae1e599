"""The entry point, and the one place where the user's errors are caught."""

from __future__ import annotations

import inspect
import os
import re
import sys

from tiltcli.cli.app import INTERRUPTED, USAGE, app, say
from tiltcli.errors import UserError


def load_commands() -> None:
    """Import the commands, which thereby join the application."""
    from tiltcli.cli.commands import (  # noqa: F401 - commands
        branch,
        compare,
        confirm,
        export,
        folders,
        instabilities,
        new,
        plot,
        probe,
        refine,
        report,
        runs,
        schema,
        sweep,
    )

    # Whichever of their modules was imported first.
    app.registered_commands.sort(key=lambda command: getattr(command.callback, "__name__", ""))
    for command in app.registered_commands:
        command.help = _flowing(command.help or inspect.getdoc(command.callback) or "")


def _flowing(text: str) -> str:
    """Join the lines of each paragraph, so that it fills whatever the terminal is wide."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(re.sub(r"\n(?!- )\s*", " ", one) for one in paragraphs)


def main() -> None:
    """Run the tool; the only place that turns errors into messages and exit codes."""
    # Wherever it stands on the line: `tiltcli sweep grid.toml --no-color` should work too.
    if "--no-color" in sys.argv[1:]:
        os.environ["NO_COLOR"] = "1"
        sys.argv = [sys.argv[0], *(word for word in sys.argv[1:] if word != "--no-color")]
    from tiltcli.cli.console import set_up_streams

    set_up_streams()
    load_commands()
    try:
        app(prog_name="tiltcli")
    except UserError as error:
        for fault in error.faults:
            say(f"error: {fault}")
        sys.exit(USAGE)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        say(f"error: {error.filename or ''}: {error.strerror}")
        sys.exit(USAGE)

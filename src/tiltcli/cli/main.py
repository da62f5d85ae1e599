"""The entry point, and the one place where the user's errors are caught."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import re
import sys

from tiltcli.cli import commands
from tiltcli.cli.options import INTERRUPTED, USAGE, app, say
from tiltcli.cli.streams import outlast, set_up_streams
from tiltcli.errors import UserError, out_of_memory

LEAST_MEMORY = 1600 << 20
"""Bytes of address space that any command does with, of small runs, on two cores.

Measured, MiB: reading a run 700, a sweep 900 (at 700 the compiler crashes), a report 1100, torch
1200, probes 1600 (at 1270 the compiler aborts).
"""


def load_commands() -> None:
    """Import the commands, which thereby join the application."""
    for module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
        importlib.import_module(module.name)
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
    outlast()
    set_up_streams()
    try:
        if not {"-h", "--help", "--version"} & {*sys.argv}:
            _check_memory()
        load_commands()
        try:
            app(prog_name="tiltcli")
        finally:
            sys.stdout.flush()
    except UserError as error:
        for fault in error.faults:
            say(f"error: {fault}")
        sys.exit(USAGE)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not (said := _mendable(error)):
            raise
        say(f"error: {said}")
        sys.exit(USAGE)


def _check_memory() -> None:
    """Refuse a limit under which the libraries abort, or wait for ever, instead of saying so."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_MEMORY:
        raise UserError(
            f"not enough memory: the limit of this process (ulimit -v) is {limit / 2**20:,.0f} MiB "
            f"of address space; needed: {LEAST_MEMORY / 2**20:,.0f} MiB, more for large runs or "
            "many cores"
        )


def _mendable(error: Exception) -> str:
    """Say what the user can mend about an error of the system; nothing where it is our fault."""
    if out_of_memory(error):
        return "not enough memory; finished jobs are kept"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return ""

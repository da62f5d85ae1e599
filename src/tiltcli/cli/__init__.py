"""The command line: parse, call, render. Nothing heavy loads before a command needs it."""

from tiltcli.cli.main import main

__all__ = ["main"]

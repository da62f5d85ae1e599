"""Writing a report, in the format that its file's name asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltcli.errors import UserError, each, listing
from tiltcli.report.loaded_runs import load_run
from tiltcli.report.markdown import to_text
from tiltcli.report.page import to_page
from tiltcli.store.parts import write_whole

PAGE, MARKDOWN = (".html", ".htm"), (".md",)


def write_report(runs: Sequence[str | Path], output: Path, results: Path) -> None:
    """Write a report of runs: a page, or Markdown with its figures in a folder beside it.

    Args:
        runs: names under `results`, or paths; a run named twice counts once.
        output: file to write; .html for the page, .md for Markdown.
        results: folder that runs are kept under.

    Raises:
        UserError: if a run is unknown or empty, or the report cannot be written.

    """
    suffix = output.suffix.lower()
    if suffix not in (*PAGE, *MARKDOWN):
        allowed = listing([*PAGE, *MARKDOWN])
        raise UserError(f"{output}: a report's name ends in one of {allowed}")
    found = each(lambda run: load_run(run, results), dict.fromkeys(map(str, runs)))
    folder = output.parent if suffix in PAGE else output.parent / "figures"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    text = to_page(found) if suffix in PAGE else to_text(found, folder, output.parent)
    write_whole(output, lambda to: to.write_text(text, encoding="utf-8", newline="\n"))

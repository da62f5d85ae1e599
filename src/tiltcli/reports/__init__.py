"""A report of runs: verdicts first, then figures and tables, then how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltcli.errors import UserError, each, listing
from tiltcli.reports.loaded_runs import load_run
from tiltcli.reports.markdown import to_text
from tiltcli.reports.page import to_page
from tiltcli.store.files import check_output, output_folder, write_output

PAGE, MARKDOWN = (".html", ".htm"), (".md",)


def write_report(runs: Sequence[str | Path], output: Path, results: Path) -> None:
    """Write a report of runs: a page, or Markdown with its figures in a folder beside it."""
    suffix = output.suffix.lower()
    if suffix not in (*PAGE, *MARKDOWN):
        allowed = listing([*PAGE, *MARKDOWN])
        raise UserError(f"{output}: a report's name ends in one of {allowed}")
    if output.parent.is_dir():
        check_output(output)
    found = each(lambda run: load_run(run, results), dict.fromkeys(map(str, runs)))
    if suffix in PAGE:
        output_folder(output.parent.resolve())  # a link on the way there is the user's own
        text = to_page(found)
    else:
        text = to_text(found, output_folder(output.parent / "figures"), output.parent)
    write_output(output, lambda to: to.write_text(text, encoding="utf-8", newline="\n"))

"""Writing a report, in the format that its file's name asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tiltcli.records import UserError
from tiltcli.report.load import load_run
from tiltcli.report.markdown import to_text
from tiltcli.store.parts import write_whole


def write_report(runs: Sequence[str | Path], output: Path, results: Path) -> None:
    """Write a report of runs, and its figures to a folder `figures` beside it.

    Args:
        runs: names under `results`, or paths.
        output: Markdown file.
        results: folder that runs are kept under.

    Raises:
        UserError: if a run is unknown or empty, or the report cannot be written.

    """
    if output.suffix.lower() != ".md":
        raise UserError(f"{output}: a report's name ends in .md (Markdown)")
    found = [load_run(run, results) for run in runs]
    figures = output.parent / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{figures}: cannot be written: {error.strerror or error}") from None
    text = to_text(found, figures, output.parent)
    write_whole(output, lambda to: to.write_text(text, encoding="utf-8"))

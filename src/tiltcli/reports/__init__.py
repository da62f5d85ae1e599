"""A report of runs: verdicts first, then figures and tables, then how it was made."""

from tiltcli.reports.writing import write_report

__all__ = ["write_report"]

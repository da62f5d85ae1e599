"""A run's tables, narrowed to the jobs that were asked for with --where and --job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tiltcli.errors import UserError, listing

if TYPE_CHECKING:
    from tiltcli.store.read import Tables


def narrowed(tables: Tables, where: Sequence[str], job: str | None) -> Tables:
    """Return the tables with only the chosen rows in `jobs`."""
    from tiltcli.evaluation.selection import parse_selection, select

    jobs = tables.jobs
    if jobs.empty:
        raise UserError(f"{tables.name}: no job has finished yet: there is nothing to draw")
    conditions = [c for text in where if text for c in parse_selection(text)]
    jobs = select(jobs, conditions, tables.name)
    if job is not None:
        chosen = jobs[jobs["job"].str.startswith(job)]
        if chosen.empty:
            raise UserError(
                f"--job: no job {job} in {tables.name}; there are {listing(list(jobs['job']), 6)}"
            )
        jobs = chosen
    return replace(tables, jobs=jobs)

"""A grid file, read, checked and expanded into jobs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiltcli.errors import Fault, UserError, listing, nearest, with_suggestion
from tiltcli.grid.axes import axis_values, is_axis
from tiltcli.grid.expand import Grid, Resolved, Watched
from tiltcli.grid.jobs import Job
from tiltcli.grid.line_numbers import key_lines
from tiltcli.grid.named_files import NamedFiles
from tiltcli.grid.overrides import overridden, parse_override
from tiltcli.grid.probe_settings import KEYS, ProbeSettings, read_probe
from tiltcli.grid.setting_types import REQUIRED
from tiltcli.grid.settings import (
    FACTORIES,
    PATHS,
    SETTINGS,
    TABLES,
    finish,
    given_arguments,
    tilting,
)
from tiltcli.grid.syntax import not_toml, read_grid

MOST_JOBS = 2_000_000
MOST_SEEDS = 1_000_000  # given by their number
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_TOP = ("name", *TABLES, "sweep", "also", "probe")
_PROBE = tuple(f"probe.{key}" for key in KEYS)
_NOT_ALONE = {"train.seeds": "train.seed"}  # how the file says it → the job's own setting


@dataclass(frozen=True)
class Sweep:
    """A validated grid.

    Attributes:
        name: the run's name.
        jobs: the jobs, each once, in the order of the grid.
        axes: key → its values, for every setting that takes several.
        expanded: combinations before equal work was merged.
        document: the grid file's content with `--set` applied: what is kept beside the results.
        unused: settings given that no job has.
        folder: folder that paths in the document are relative to.
        probe: what to probe along every training; None for nothing.
        methods: settings that tell methods apart where the run is judged; empty: as usual.
        files: the files it names as this machine finds them, and their digests.

    """

    name: str
    jobs: tuple[Job, ...]
    axes: Mapping[str, tuple[Any, ...]]
    expanded: int
    document: Mapping[str, Any]
    unused: tuple[str, ...]
    folder: Path
    probe: ProbeSettings | None = None
    methods: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def duplicates(self) -> int:
        """Combinations that would have been the same work as another."""
        return self.expanded - len(self.jobs)


def load_sweep(path: Path | str, overrides: Sequence[str] = (), *, stored: bool = False) -> Sweep:
    """Return the sweep of a grid file.

    Args:
        path: the TOML file; "-" for standard input, whose paths are relative to where one is.
        overrides: `key=value` texts as of `--set`.
        stored: whether it is a run's own, whose spare settings an earlier version let pass.

    Raises:
        UserError: with every fault found in the file and the overrides.

    """  # noqa: DOC502
    text, file = read_grid(path)
    return parse_sweep(
        text,
        name=file.stem,
        folder=file.parent,
        source=str(file),
        overrides=overrides,
        stored=stored,
    )


def parse_sweep(
    text: str | dict[str, Any],
    *,
    name: str,
    folder: Path,
    source: str = "",
    overrides: Sequence[str] = (),
    stored: bool = False,
) -> Sweep:
    """Expand the text of a grid file, or what it says (faults then have no lines); `load_sweep`."""
    if isinstance(text, dict):
        return _Reader(text, {}, source, folder).sweep(name, overrides, stored)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(not_toml(str(error), text, source)) from None
    except RecursionError:
        raise UserError(Fault("not valid TOML: nested too deeply", source=source)) from None
    return _Reader(document, key_lines(text), source, folder).sweep(name, overrides, stored)


class _Reader:
    """Collects every fault before it gives up."""

    def __init__(
        self, document: dict[str, Any], lines: Mapping[str, int], source: str, folder: Path
    ) -> None:
        self.document = document
        self.lines = lines
        self.source = source
        self.folder = folder
        self.faults: list[Fault] = []
        self.overrides: dict[str, Any] = {}
        self.files = NamedFiles(folder)

    def fault(self, key: str, message: str, block: str = "") -> None:
        """Note a fault at a key: in its block, or where the base tables set it."""
        place: dict[str, Any] = {"source": self.source or None}
        if key in self.overrides:
            place = {"source": "--set"}
        else:
            table = key.rpartition(".")[0]
            for name in (block + key, key, block + table, table, block.rstrip(".")):
                if name in self.lines:
                    place["line"] = self.lines[name]
                    break
        known = Fault(message, key=block + key if block else key, **place)
        if known not in self.faults:
            self.faults.append(known)

    def sweep(self, name: str, overrides: Sequence[str], stored: bool) -> Sweep:
        """Check everything and expand."""
        self._read_overrides(overrides)
        name = self._name(name)
        for key in self.document:
            if key not in _TOP:
                self._unknown(key, _TOP, "")
        base, base_zip = self._tables(self.document, "")
        grids = [(base, base_zip, "")]
        also = self.document.get("also", [])
        if not isinstance(also, list) or not all(isinstance(block, dict) for block in also):
            self.fault("also", "must be [[also]] blocks, each with tables of its own")
            also = []
        for number, block in enumerate(also):
            prefix = f"also[{number}]."
            for key in block:
                if key not in (*TABLES, "sweep"):
                    self._unknown(key, (*TABLES, "sweep"), prefix)
            values, ties = self._tables(block, prefix)
            own = {**base, **values}
            inherited = [
                kept
                for tie in base_zip
                if len(kept := [key for key in tie if key not in values]) > 1
            ]
            grids.append((own, inherited + ties, prefix))
        jobs, axes, expanded, used = self._expand(grids)
        probe = read_probe(self._probe_table(), self.fault)
        methods = self._methods(self.document.get("sweep", {}))
        given = {key for values, _, _ in grids for key in values}
        unused = tuple(sorted(given - used))
        for key in unused if not stored else ():
            self._check_unused(key, [one for values, _, _ in grids for one in values.get(key, ())])
        if self.faults:
            raise UserError(*self.faults)
        document = overridden(self.document, self.overrides)
        facts = (name, jobs, axes, expanded, document, unused, self.folder, probe, methods)
        return Sweep(*facts, self.files.digests)

    def _check_unused(self, key: str, values: Sequence[Any]) -> None:
        """Refuse what would change the updates but applies to no job, such as momentum with adam.

        Of other settings that no job has (amplitudes, where all are static) a note is enough.
        """
        one = SETTINGS[key]
        # Where what it hangs on is wrong itself, nobody knows whether it applies.
        known = not any(str(fault.key).endswith(one.applies.keys) for fault in self.faults)
        if known and one.steps and any(value != one.default for value in values):
            said = listing([json.dumps(value) for value in values], 3)
            self.fault(key, f"got {said}; it applies where {one.applies}: to no job of this grid")

    def _probe_table(self) -> Any:
        """Return the [probe] table with the overrides in it."""
        own = {k.removeprefix("probe."): v for k, v in self.overrides.items() if k in _PROBE}
        table = self.document.get("probe")
        return {**(table or {}), **own} if own and isinstance(table, dict | None) else table

    def _name(self, default: str) -> str:
        name = self.overrides.get("name", self.document.get("name", default))
        if not isinstance(name, str) or not NAME.fullmatch(name):
            self.fault(
                "name",
                f"got {str(name)[:80]!r}; allowed: letters, digits, . _ + and -, "
                "at most 100, the first a letter or digit",
            )
            return default
        return name

    def _read_overrides(self, overrides: Sequence[str]) -> None:
        for text in overrides:
            key, value = parse_override(text)
            if value is None:
                self.faults.append(Fault(f"got {text!r}; allowed: key=value", source="--set"))
                continue
            self.overrides[key] = value
            if key not in ("name", *_PROBE) and _setting_key(key) not in SETTINGS:
                self._unknown(key, ("name", *_file_keys(), *_PROBE), "")

    def _unknown(self, key: str, known: Iterable[str], block: str) -> None:
        self.fault(key, with_suggestion("unknown", key, known), block)

    def _tables(
        self, tables: Mapping[str, Any], block: str
    ) -> tuple[dict[str, list[Any]], list[list[str]]]:
        """Validate the tables of the file or of one block: key → values, and the tied axes."""
        found: dict[str, Any] = {}
        for table in TABLES:
            content = tables.get(table, {})
            if not isinstance(content, dict):
                self.fault(table, f"must be a table, [{table}]", block)
                continue
            for name, value in self._flat(table, content):
                key = f"{table}.{name}"
                if _setting_key(key) in SETTINGS and key not in ("train.seed",):
                    found[key] = value
                else:
                    local = [k for k in _file_keys() if k.startswith(table + ".")]
                    elsewhere = next((k for k in _file_keys() if k.endswith(f".{name}")), None)
                    wide = elsewhere or nearest(key, local) or nearest(name, _file_keys())
                    hint = f"did you mean {wide}?" if wide else f"known: {listing(local, 40)}"
                    self.fault(key, f"unknown; {hint}", block)
        for key, value in self.overrides.items():
            if key == "train.seed":  # one seed by the name its column has
                found["train.seeds"] = value if isinstance(value, list) else [value]
            elif _setting_key(key) in SETTINGS:
                found[key] = value
        values: dict[str, list[Any]] = {}
        for key, value in found.items():
            setting = SETTINGS[_setting_key(key)]
            if key == "train.seeds" and isinstance(value, int) and not isinstance(value, bool):
                if not 1 <= value <= MOST_SEEDS:
                    self.fault(
                        key,
                        f"got {value}; allowed: a number of seeds ≥ 1, at most {MOST_SEEDS}, "
                        "or a list of seeds",
                        block,
                    )
                    continue
                value = list(range(value))
            try:
                values[setting.key] = axis_values(setting, value)
            except ValueError as error:
                self.fault(key, str(error), block)
                values[setting.key] = []
        return values, self._ties(tables.get("sweep", {}), block)

    def _flat(self, table: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Keys and values of a table; a factory's arguments each by themselves."""
        for name, value in content.items():
            if f"{table}.{name}" in FACTORIES.values() and isinstance(value, dict):
                yield from ((f"{name}.{own}", one) for own, one in value.items())
            else:
                yield name, value

    def _ties(self, table: Any, block: str) -> list[list[str]]:
        if not isinstance(table, dict):
            self.fault("sweep", "must be a table, [sweep]", block)
            return []
        for key in table:
            if key != "zip" and (block or key != "methods"):
                known = ["sweep.zip"] if block else ["sweep.zip", "sweep.methods"]
                self._unknown(f"sweep.{key}", known, block)
        ties = table.get("zip", [])
        if not isinstance(ties, list) or not all(
            isinstance(tie, list) and len(tie) > 1 and all(isinstance(k, str) for k in tie)
            for tie in ties
        ):
            self.fault(
                "sweep.zip", 'must be lists of keys, as [["model.width", "train.lr"]]', block
            )
            return []
        return [[_setting_key(key) for key in tie] for tie in ties]

    def _methods(self, table: Any) -> tuple[str, ...]:
        """Settings that [sweep] says tell methods apart."""
        given = table.get("methods", []) if isinstance(table, dict) else []
        if not isinstance(given, list) or not all(isinstance(key, str) for key in given):
            self.fault("sweep.methods", 'must be a list of settings, as ["loss.kind"]')
            return ()
        for key in given:
            if key not in SETTINGS:
                said = with_suggestion(f"names {key}, which is unknown", key, SETTINGS)
                self.fault("sweep.methods", said)
        return tuple(given)

    def _check_ties(
        self, values: Mapping[str, list[Any]], ties: list[list[str]], block: str
    ) -> list[list[str]]:
        good = []
        seen: set[str] = set()
        for tie in ties:
            problem = False
            for key in tie:
                if key not in SETTINGS:
                    said = with_suggestion(f"names {key}, which is unknown", key, _file_keys())
                    self.fault("sweep.zip", said, block)
                    problem = True
                elif key not in values:
                    self.fault("sweep.zip", f"names {key}, which the file does not set", block)
                    problem = True
                elif key in seen:
                    self.fault("sweep.zip", f"names {key} twice", block)
                    problem = True
                seen.add(key)
            if problem:
                continue
            # --set may have fixed one of them: what has one value is tied to nothing.
            tie = [key for key in tie if not (key in self.overrides and len(values[key]) == 1)]
            lengths = {key: len(values[key]) for key in tie}
            if len(set(lengths.values())) > 1 and all(lengths.values()):
                shown = ", ".join(f"{key} has {n}" for key, n in lengths.items())
                self.fault("sweep.zip", f"ties axes of different lengths: {shown}", block)
                continue
            good.append(tie)
        return good

    def _expand(
        self, grids: list[tuple[dict[str, list[Any]], list[list[str]], str]]
    ) -> tuple[tuple[Job, ...], dict[str, tuple[Any, ...]], int, set[str]]:
        jobs: dict[str, Job] = {}
        axes: dict[str, dict[str, Any]] = {}
        used: set[str] = set()
        expanded = 0
        for values, ties, block in grids:
            ties = self._check_ties(values, ties, block)
            if not all(values.values()):
                # What else is missing is still worth saying.
                values = {key: found or [None] for key, found in values.items()}
                ties = []
            grid = Grid(values, ties)
            if expanded + grid.size > MOST_JOBS:
                self.fault(
                    "also" if block else "train",
                    f"the grid has {expanded + grid.size:,} jobs; "
                    f"at most {MOST_JOBS:,} are allowed",
                    block,
                )
                continue
            expanded += grid.size

            def resolve(given: Mapping[str, Any], block: str = block) -> Resolved:
                resolved = self._resolve(given, block)
                used.update(resolved.settings)
                return resolved

            for job in grid.jobs(resolve):
                if not self.faults:
                    jobs.setdefault(job.id, job)
            for key, found in values.items():
                axes.setdefault(key, {}).update({repr(v): v for v in found})
        several = {key: tuple(found.values()) for key, found in axes.items() if len(found) > 1}
        return tuple(jobs.values()), several, expanded, used

    def _resolve(self, given: Mapping[str, Any], block: str) -> Resolved:
        """Keep what applies, fill in defaults, note what is missing."""
        settings = Watched()
        for key, setting in SETTINGS.items():
            if not setting.applies(settings):
                continue
            value = given.get(key, setting.default_for(settings))
            if value is REQUIRED:
                value = None
                if any(fault.key == key for fault in self.faults):
                    settings[key] = value
                    continue  # said once, at the base tables
                why = " (for dynamical jobs)" if key in tilting() else ""
                self.fault(key, f"missing{why}; allowed: {setting.allowed}", block)
            settings[key] = value
        finish(settings)
        deciding = set(settings.asked)
        for table in FACTORIES.values():
            if table in settings:
                own = given_arguments(given, table)
                settings.update({f"{table}.{name}": value for name, value in own.items()})
        for path, digest in PATHS.items():
            if settings.get(path):
                settings[digest] = self._digest(path, settings[path], settings["data.kind"], block)
        files = {k: self.files.places.get((k, settings[k]), "") for k in PATHS if settings.get(k)}
        return Resolved(dict(settings), files, deciding | set(PATHS) | {"data.kind"})

    def _digest(self, key: str, path: str, kind: str, block: str) -> str | None:
        try:
            return self.files.digest(key, path, kind)
        except UserError as error:
            self.faults += [f for f in error.faults if f not in self.faults]
        except ValueError as error:
            self.fault(key, f'got "{path}"; {error}', block)
        except OSError as error:
            # Of a folder it may be a file in it that is at fault.
            inside = Path(error.filename or "").name
            what = f"{inside}: " if inside and inside != Path(path).name else ""
            self.fault(key, f'got "{path}": {what}{error.strerror or error}', block)
        return ""


def _setting_key(key: str) -> str:
    return _NOT_ALONE.get(key, key)


def _file_keys() -> list[str]:
    """Keys as the grid file has them."""
    return ["train.seeds" if key == "train.seed" else key for key in SETTINGS]


__all__ = ["Sweep", "is_axis", "load_sweep", "parse_sweep"]

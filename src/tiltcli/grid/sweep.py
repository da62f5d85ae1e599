"""A grid file, read, checked and expanded into jobs."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tiltcli.errors import Fault, UserError, listing, nearest
from tiltcli.grid import factories, syntax
from tiltcli.grid.axes import (
    LONGEST,
    axis_size,
    axis_values,
    fitting_ties,
    read_methods,
    read_ties,
    span_of,
)
from tiltcli.grid.expand import Grid, Resolved, Watched
from tiltcli.grid.jobs import Job, several_values
from tiltcli.grid.paths import DATA_DIGESTS, digest_of, located
from tiltcli.grid.probe_settings import KEYS, ProbeSettings, read_probe
from tiltcli.grid.search import KEYS as SEARCH_KEYS
from tiltcli.grid.search import Drawing, Search, read_search
from tiltcli.grid.setting_types import REQUIRED
from tiltcli.grid.settings import (
    FACTORIES,
    PATHS,
    SETTINGS,
    TABLES,
    file_keys,
    finish,
    given_arguments,
    setting_key,
    tilting,
)

MOST_SEEDS = 1_000_000  # given by their number
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_TOP = ("name", *TABLES, "sweep", "search", "also", "probe")
_TABLES = {"probe": KEYS, "search": SEARCH_KEYS}
_OTHER = ("name", *(f"{table}.{key}" for table, keys in _TABLES.items() for key in keys))


@dataclass(frozen=True)
class Sweep:
    """A validated grid."""

    name: str  # the run's name
    jobs: tuple[Job, ...]  # the jobs, each once, in the order of the grid
    axes: Mapping[str, tuple[Any, ...]]  # key → its values, for every setting that takes several
    expanded: int  # combinations before equal work was merged
    # the grid file's content with `--set` applied: what is kept beside the results
    document: Mapping[str, Any]
    unused: tuple[str, ...]  # settings given that no job has
    folder: Path  # folder that paths in the document are relative to
    probe: ProbeSettings | None = None  # what to probe along every training; None for nothing
    # settings that tell methods apart where the run is judged; empty: as usual
    methods: tuple[str, ...] = ()
    # the files it names as this machine finds them, and their digests
    files: Mapping[str, str] = field(default_factory=dict)
    search: Search | None = None  # how its cells were drawn; None where they are all there are

    @property
    def duplicates(self) -> int:
        """Combinations that would have been the same work as another."""
        return self.expanded - len(self.jobs)


def load_sweep(path: Path | str, overrides: Sequence[str] = (), *, stored: bool = False) -> Sweep:
    """Return the sweep of a grid file ("-": standard input, whose paths are relative to here).

    `overrides` are `key=value` texts as of `--set`; `stored` is a run's own, whose spare settings
    an earlier version let pass.
    """
    text, file = syntax.read_grid(path)
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
    if (fault := syntax.text_fault(text, source)) is not None:
        raise UserError(fault)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(syntax.not_toml(str(error), text, source)) from None
    except RecursionError:
        raise UserError(Fault("not valid TOML: nested too deeply", source=source)) from None
    return _Reader(document, syntax.key_lines(text), source, folder).sweep(name, overrides, stored)


_Block = tuple[dict[str, Any], list[list[str]], str]
"""Keys as the file has them and their values, tied axes, and what its keys begin with."""


class _Reader(syntax.FaultList):
    """Collects every fault before it gives up."""

    def __init__(
        self, document: dict[str, Any], lines: Mapping[str, int], source: str, folder: Path
    ) -> None:
        super().__init__(lines, source)
        self.document = document
        self.folder = folder
        # setting and path in the file → the path as this machine finds it; and the digests, each
        # taken once, where there is one
        self.places: dict[tuple[str, str], str] = {}
        self.digests: dict[tuple[str, str, Any], str | None] = {}
        self.search: Search | None = None

    def sweep(self, name: str, overrides: Sequence[str], stored: bool) -> Sweep:
        """Check everything and expand."""
        self._read_overrides(overrides)
        if large := list(syntax.oversized({**self.document, **self.overrides})):
            for key, said in large:
                self.fault(key, said)
            raise UserError(*self.faults)
        name = self._name(name)
        syntax.refuse_unknown(self.document, _TOP, self.fault)
        methods = read_methods(self.document.get("sweep", {}), self.fault)
        self.search = read_search(self._table("search"), methods, self.fault)
        blocks = [self._tables(self.document, "")]
        also = self.document.get("also", [])
        if not isinstance(also, list) or not all(isinstance(block, dict) for block in also):
            self.fault("also", "must be [[also]] blocks, each with tables of its own")
            also = []
        for number, block in enumerate(also):
            prefix = f"also[{number}]."
            syntax.refuse_unknown(block, (*TABLES, "sweep"), self.fault, prefix)
            blocks.append(self._tables(block, prefix, blocks[0][1]))
        most = self._most(blocks)
        base = self._values(blocks[0][0], "", most)
        grids = [(base, blocks[0][1], "")]
        for found, ties, prefix in blocks[1:]:
            grids.append(({**base, **self._values(found, prefix, most)}, ties, prefix))
        jobs, axes, expanded, used = self._expand(grids)
        probe = read_probe(self._table("probe"), self.fault)
        given = {key for values, _, _ in grids for key in values}
        unused = tuple(sorted(given - used))
        for key in unused if not stored else ():
            self._check_unused(key, [one for values, _, _ in grids for one in values.get(key, ())])
        if self.faults:
            raise UserError(*self.faults)
        document = syntax.overridden(self.document, self.overrides)
        facts = (name, jobs, axes, expanded, document, unused, self.folder, probe, methods)
        known = ((self.places[key[:2]], digest) for key, digest in self.digests.items())
        files = {place: digest for place, digest in known if digest is not None}
        return Sweep(*facts, files, self.search)

    def _check_unused(self, key: str, values: Sequence[Any]) -> None:
        """Refuse what would change the updates but applies to no job, such as momentum with adam.

        Of other settings that no job has (amplitudes, where all are static) a note is enough.
        """
        one = SETTINGS[key]
        # Where what it hangs on is wrong itself, nobody knows whether it applies.
        known = not any(str(fault.key).endswith(one.applies.keys) for fault in self.faults)
        if known and one.steps and any(value != one.default for value in values):
            said = listing([json.dumps(value, default=str) for value in values], 3)
            self.fault(key, f"got {said}; it applies where {one.applies}: to no job of this grid")

    def _table(self, name: str) -> Any:
        """Return [probe] or [search] with the overrides in it."""
        given = {key: self.overrides.get(f"{name}.{key}") for key in _TABLES[name]}
        own = {key: value for key, value in given.items() if value is not None}
        table = self.document.get(name)
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
            if (fault := syntax.text_fault(text, "--set")) is not None:
                self.faults.append(replace(fault, line=None))
                continue
            key, value = syntax.parse_override(text)
            if value is None:
                self.faults.append(Fault(f"got {text!r}; allowed: key=value", source="--set"))
                continue
            self.overrides[key] = value
            if setting_key(key) not in SETTINGS:
                syntax.refuse_unknown([key], (*file_keys(), *_OTHER), self.fault)

    def _tables(
        self, tables: Mapping[str, Any], block: str, base_zip: Sequence[list[str]] = ()
    ) -> _Block:
        """Read the tables of the file or of one block; ties of the file hold there too."""
        found: dict[str, Any] = {}
        for table in TABLES:
            content = tables.get(table, {})
            if not isinstance(content, dict):
                self.fault(table, f"must be a table, [{table}]", block)
                continue
            for name, value in self._flat(table, content):
                key = f"{table}.{name}"
                if setting_key(key) in SETTINGS and key not in ("train.seed",):
                    found[key] = value
                else:
                    local = [k for k in file_keys() if k.startswith(table + ".")]
                    elsewhere = next((k for k in file_keys() if k.endswith(f".{name}")), None)
                    wide = elsewhere or nearest(key, local) or nearest(name, file_keys())
                    hint = f"did you mean {wide}?" if wide else f"known: {listing(local, 40)}"
                    self.fault(key, f"unknown; {hint}", block)
        for key, value in self.overrides.items():
            if key == "train.seed":  # one seed by the name its column has
                found["train.seeds"] = value if isinstance(value, list) else [value]
            elif setting_key(key) in SETTINGS:
                found[key] = value
        seeds = found.get("train.seeds")
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            if 1 <= seeds <= MOST_SEEDS:
                found["train.seeds"] = list(range(seeds))
            else:
                said = f"got {seeds}; allowed: a number of seeds ≥ 1, at most {MOST_SEEDS}, "
                self.fault("train.seeds", said + "or a list of seeds", block)
                del found["train.seeds"]
        ties = read_ties(tables.get("sweep", {}), block, self.fault)
        own = {setting_key(key) for key in found}
        inherited = ([key for key in tie if key not in own] for tie in base_zip)
        ties = [*(tie for tie in inherited if len(tie) > 1), *ties]
        return found, ties, block

    def _most(self, blocks: Sequence[_Block]) -> int:
        """Return how many values of each axis are worth looking at: few, if jobs are too many."""
        base: dict[str, int] = {}
        total = 0
        for found, ties, prefix in blocks:
            own = {setting_key(key): value for key, value in found.items()}
            sizes = base | {key: axis_size(SETTINGS[key], value) for key, value in own.items()}
            base = base or sizes
            if self.search:
                sizes = {key: n for key, n in sizes.items() if not self.search.over(key)}
            total += syntax.combinations(sizes, ties) * (self.search.trials if self.search else 1)
            if total > syntax.MOST_JOBS:
                self.fault("train", syntax.too_many(total), prefix)
                return 2
        return LONGEST

    def _values(self, found: Mapping[str, Any], block: str, most: int) -> dict[str, list[Any]]:
        """Return the validated values of every axis."""
        values: dict[str, list[Any]] = {}
        for key, value in found.items():
            setting = SETTINGS[setting_key(key)]
            try:
                searched = self.search is not None and self.search.over(setting.key)
                span = span_of(setting, value) if searched else None
                values[setting.key] = [span] if span else axis_values(setting, value, most)
            except ValueError as error:
                self.fault(key, str(error), block)
                values[setting.key] = []
        return values

    def _flat(self, table: str, content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Keys and values of a table; a factory's arguments each by themselves."""
        for name, value in content.items():
            if f"{table}.{name}" in FACTORIES.values() and isinstance(value, dict):
                yield from ((f"{name}.{own}", one) for own, one in value.items())
            else:
                yield name, value

    def _expand(
        self, grids: list[tuple[dict[str, list[Any]], list[list[str]], str]]
    ) -> tuple[tuple[Job, ...], dict[str, tuple[Any, ...]], int, set[str]]:
        jobs: dict[str, Job] = {}
        axes: dict[str, dict[str, Any]] = {}
        used: set[str] = set()
        expanded = 0
        drawn = Drawing(self.search, self.fault) if self.search else None
        for values, ties, block in grids:
            ties = fitting_ties(values, ties, block, self.overrides, self.fault)
            if not all(values.values()):
                # What else is missing is still worth saying.
                values = {key: found or [None] for key, found in values.items()}
                ties = []
            if self.faults:  # the first of them tell what else is wrong
                values = {key: found[:10_000] for key, found in values.items()}

            def resolve(given: Mapping[str, Any], block: str = block) -> Resolved:
                resolved = self._resolve(given, block)
                used.update(resolved.settings)
                return resolved

            if drawn is not None:
                drawn.add(values, ties, block, resolve)
                continue
            grid = Grid(values, ties)
            if expanded + grid.size > syntax.MOST_JOBS:
                self.fault("train", syntax.too_many(expanded + grid.size), block)
                continue
            expanded += grid.size
            for job in itertools.islice(grid.jobs(resolve), 10_000 if self.faults else None):
                if not self.faults:
                    jobs.setdefault(job.id, job)
            for key, found in values.items():
                axes.setdefault(key, {}).update({repr(v): v for v in found})
        if drawn is not None:
            trials = 1 if self.faults else drawn.search.trials
            jobs = {job.id: job for job in drawn.jobs(trials)}
            return tuple(jobs.values()), several_values(jobs.values()), len(jobs), used
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
        files = {k: self.places.get((k, settings[k]), "") for k in PATHS if settings.get(k)}
        return Resolved(dict(settings), files, deciding | set(PATHS) | {"data.kind"})

    def _digest(self, key: str, path: str, kind: str, block: str) -> str | None:
        """Return the digest of the file that a setting of a job with such a `data.kind` names."""
        reader = DATA_DIGESTS.get(kind, digest_of) if key == "data.path" else digest_of
        try:
            if (key, path, reader) not in self.digests:
                if key in FACTORIES:
                    place = factories.locate(path, self.folder)
                    found: str | None = factories.digest(place)
                else:
                    place = str(located(path, self.folder))
                    found = reader(Path(place))
                self.places[key, path] = place
                self.digests[key, path, reader] = found
            return self.digests[key, path, reader]
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

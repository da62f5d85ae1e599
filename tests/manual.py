"""What is generated of the README and of docs/: settings, commands, results.

`make docs` writes it between its markers; a test compares, so that it cannot grow stale.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

from tiltcli.cli.main import load_commands
from tiltcli.cli.options import app
from tiltcli.grid.json_schema import json_schema
from tiltcli.grid.setting_types import ALWAYS, NEVER, REQUIRED, Setting
from tiltcli.grid.settings import SETTINGS, TABLES

REPORTS = [Path("results/published/REPORT.md"), Path("results/published/PICTURES.md")]
DATA_SETS = {
    "digits-myrtle5-confirm": "digits, Myrtle5",
    "fashion-myrtle5-confirm": "Fashion-MNIST, Myrtle5",
    "digits-": "digits",
    "spiral-": "spiral",
}
"""What the columns of the results are called, by how the run's name begins."""


def commands() -> str:
    """Every command, by Typer's own generator; what it prints bold is typed, so it is code."""
    load_commands()
    group = typer.main.get_command(app)
    for command in group.commands.values():
        command.short_help = command.help.partition("\n\n")[0]
    text = get_docs_for_click(obj=group, ctx=typer.Context(group), name="tiltcli")
    return re.sub(r"\[bold\](.*?)\[/bold\]", r"`\1`", text).strip()


def settings() -> str:
    """Tables of all settings of a grid file, one for each table of the file."""
    schema = json_schema()["properties"]
    parts = [_section("The run", [("name", schema["name"])])]
    for table in TABLES:
        own = [one for one in SETTINGS.values() if one.key.startswith(f"{table}.")]
        about = schema[table]["description"].rstrip(".")
        header = ("setting", "default", "allowed", "unit", "meaning")
        parts.append(f"### {about}\n\n{_table(header, map(_setting, own))}")
    for table in ("sweep", "search", "probe"):
        properties = schema[table]["properties"]
        named = [(f"{table}.{name}", one) for name, one in properties.items()]
        needed = schema[table].get("required", ())
        parts.append(_section(schema[table]["description"].rstrip("."), named, needed))
    return "\n\n".join(parts)


def _section(
    about: str, named: Iterable[tuple[str, Mapping[str, Any]]], needed: Iterable[str] = ()
) -> str:
    rows = [
        (
            f"`{name}`",
            _default(one.get("default", REQUIRED if name.rpartition(".")[2] in needed else None)),
            _allowed(one),
            one["description"].partition(" Allowed: ")[0],
        )
        for name, one in named
    ]
    return f"### {about}\n\n{_table(('setting', 'default', 'allowed', 'meaning'), rows)}"


def _setting(one: Setting) -> tuple[str, ...]:
    meaning, name = one.meaning, one.key
    if one.applies is not ALWAYS:
        meaning += f"; applies where {one.applies}"
    if one.replicate:
        meaning += "; only repeats the experiment"
    allowed = one.allowed
    if name == "train.seed":
        many = allowed.replace("a whole number", "whole numbers")
        name, allowed = "train.seeds", f"a number of seeds (5: 0 to 4), or a list of {many}"
    default = _default(one.default)
    if one.needed is not NEVER:
        default = f"required where {one.needed}"
    return f"`{name}`", default, allowed, one.unit.replace("1", "") or "–", meaning


def _default(value: object) -> str:
    if value is None:
        return "–"
    return "required" if value is REQUIRED else f"`{json.dumps(value)}`"


def _allowed(schema: Mapping[str, Any]) -> str:
    """What a part of the JSON Schema allows, in words."""
    if "anyOf" in schema:
        return ", or ".join(map(_allowed, schema["anyOf"]))
    if "enum" in schema:
        many = len(schema["enum"]) > 6
        return "a setting" if many else " | ".join(f'"{name}"' for name in schema["enum"])
    if schema["type"] == "array":
        return f"a list of: {_allowed(schema['items'])}"
    if schema["type"] == "integer":
        return f"a whole number ≥ {schema['minimum']}, at most {schema['maximum']}"
    return f"a text like `{schema['pattern']}`"


def results() -> str:
    """The published reports' methods and verdicts as matrices, and how they were made."""
    reports = [path.read_text(encoding="utf-8") for path in REPORTS]
    found: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in (one for report in reports for one in _claims(report)):
        # What was measured, without its numbers: they are in the report.
        named = re.split(r" \(\d|[:;]", one["measured"])[0]
        measured, where = re.fullmatch(
            r"(.*?)(?: (?:at|in|against|for) "
            r"(width.*|(?:static|class-blind|F|the static loss|others|the lesser of|period).*"
            r"|cross-entropy|mse))?",
            named,
        ).groups()
        claim = one["claim"], measured
        data = next(name for start, name in DATA_SETS.items() if one["run"].startswith(start))
        low, high = one["95% interval"].split(" … ")
        said = f"{one['verdict']} {one['difference or share']} ({low} … {high}), {one['n']}"
        said = f"{where}: {said}" if where else said
        beside = one["null or control"].replace("–", "")
        said = "; ".join(filter(None, [f"{said}, {one['run']}", beside]))
        found.setdefault(claim, {}).setdefault(data, []).append(said)
    columns = list(dict.fromkeys(name for cells in found.values() for name in cells))
    lines = [
        (*claim, *("<br>".join(cells.get(column, ["–"])) for column in columns))
        for claim, cells in found.items()
    ]
    made = re.findall(r"^- [\w-]+: (tiltcli .*); [\d-]+$", "\n".join(reports), re.MULTILINE)
    claims = _table(("claim", "measured", *columns), lines)
    *methods, note = _methods(reports[0])
    return "\n\n".join([*methods, f"{note} Made by {'; '.join(sorted(set(made)))}.", claims])


def _methods(report: str) -> Iterable[str]:
    """What the report opens with: methods × widths of each data set, and the answer in words."""
    sections = re.findall(
        r"^## Methods of ([\w-]+), each tuned\n\n(.*?)\n\n+"
        r"\*\*(.*?)\*\*\n\n(.*?)\n\n(?:- (.*?)\n)?",
        report,
        re.MULTILINE | re.DOTALL,
    )
    for run, words, title, table, _ in sections:
        data = next(name for start, name in DATA_SETS.items() if run.startswith(start))
        yield f"**{data.capitalize()}: {title}, {run}**"
        yield table
        yield "\n".join(f"- {one}" for one in words.split("\n\n"))
    yield from [note for *_, note in sections if note][:1]


def _claims(report: str) -> Iterable[dict[str, str]]:
    """Rows of a Markdown report's table of claims, by the names of its columns."""
    lines = report[report.index("\n| claim |") + 1 :].partition("\n\n")[0].splitlines()
    header, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    return (dict(zip(header, row, strict=True)) for row in rows)


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in cells) + " |"

    header = list(header)
    return "\n".join([line(header), line(["---"] * len(header)), *map(line, rows)])


SECTIONS = {
    Path("README.md"): ("results", results),
    Path("docs/settings.md"): ("settings", settings),
    Path("docs/commands.md"): ("commands", commands),
}


def as_it_ought_to_be(path: Path) -> str:
    """Text of a file with its generated section as it ought to be.

    Raises:
        ValueError: if it has no such section.

    """
    name, section = SECTIONS[path]
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path}: no section from {begin} to {end}")
    return f"{before}{begin}\n{section()}\n{end}{after}"


if __name__ == "__main__":
    for place in SECTIONS:
        place.write_text(as_it_ought_to_be(place), encoding="utf-8")

"""`tiltcli schema`."""

from __future__ import annotations

import json

from tiltcli.cli.options import app


@app.command()
def schema() -> None:
    """Write the JSON Schema of grid files to stdout, for editors that complete and check them.

    Example: [bold]tiltcli schema > grid.schema.json[/bold]

    With [bold]#:schema grid.schema.json[/bold] as its first line, editors with TOML support (Taplo,
    Even Better TOML) say what each setting of a grid file means, complete it, and mark mistakes.
    """
    from tiltcli.grid.json_schema import json_schema

    print(json.dumps(json_schema(), indent=1, ensure_ascii=False))  # noqa: T201

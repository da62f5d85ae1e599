"""The files that the settings of a grid name: where they lie, and what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiltcli.grid import factories
from tiltcli.grid.paths import DATA_DIGESTS, digest_of, located
from tiltcli.grid.settings import FACTORIES


class NamedFiles:
    """Digests of files, each taken once."""

    def __init__(self, folder: Path) -> None:
        # setting and path, relative to the grid file's folder → the path as this machine finds it
        self.places: dict[tuple[str, str], str] = {}
        self._folder = folder
        self._digests: dict[tuple[str, str, Any], str | None] = {}

    @property
    def digests(self) -> dict[str, str]:
        """Path as this machine finds it → digest, where there is one."""
        found = ((self.places[key[:2]], digest) for key, digest in self._digests.items())
        return {place: digest for place, digest in found if digest is not None}

    def digest(self, key: str, path: str, kind: str) -> str | None:
        """Return the digest of the file that a setting of a job with such a `data.kind` names."""
        reader = DATA_DIGESTS.get(kind, digest_of) if key == "data.path" else digest_of
        if (key, path, reader) not in self._digests:
            if key in FACTORIES:
                place = factories.locate(path, self._folder)
                found: str | None = factories.digest(place)
            else:
                place = str(located(path, self._folder))
                found = reader(Path(place))
            self.places[key, path] = place
            self._digests[key, path, reader] = found
        return self._digests[key, path, reader]

"""The weights folder: one TOML per family with its weights (`[weights."name.tag"]`) and
its peers' key names (`[layouts.peer]`).
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError
from zoo.paths import weights_folder


@cache
def _read(path: Path, _stamp: int) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path}: not a readable TOML file: {error}") from error


def manifest(family: str, path: str | Path | None = None) -> dict[str, Any]:
    """A family's TOML as a dict, read again when the file has changed; `path` is a
    third party's own file.
    """
    file = Path(path) if path else weights_folder() / f"{family}.toml"
    if not file.is_file():
        if path:
            raise WeightsError(
                f"{file}: the weights file that family {family!r} names does not exist"
            )
        return {}
    return _read(file, file.stat().st_mtime_ns)


def records(family: str, path: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """`name.tag` -> record of the weights that a family has."""
    found: dict[str, dict[str, Any]] = manifest(family, path).get("weights", {})
    return found


def layouts(family: str, name: str, path: str | Path | None = None) -> dict[str, dict[str, str]]:
    """Per peer the table from its key prefixes to ours, for the network `name`; a table
    with a network's name is that row's own.
    """
    found = {}
    for peer, table in manifest(family, path).get("layouts", {}).items():
        own = table.get(name)
        shared = {theirs: ours for theirs, ours in table.items() if isinstance(ours, str)}
        if isinstance(own, dict) or all(isinstance(ours, str) for ours in table.values()):
            found[peer] = {**shared, **(own or {})}
    return found

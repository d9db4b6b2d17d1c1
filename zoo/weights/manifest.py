"""The weights folder: one TOML per family with its weights (`[weights."name.tag"]`) and
its peers' key names (`[layouts.peer]`). `[defaults]` says per network the tag that a
bare name takes; `[unpublished]`, of one that nobody publishes weights for, the nearest
that has some, or what to do.

A layout is a table of key prefixes, theirs = ours; a table in it with a network's name
is that network's own, and where there are such, other networks have no such layout.
Beside prefixes it may have `like`, another layout that it extends, or in a network's
own table another network; `names`, the peer's names of our networks where they differ;
`model_args`, in which its network is another one than our row, and `also`, those of
further networks of the peer with equal tensors; `prefix`, which all its keys have;
`endings` of its keys and ours; `old_names` of older files; `operations` on tensors.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError
from zoo.paths import weights_folder
from zoo.weights.convert import expand
from zoo.weights.records import WeightsRecord, read_record

EXTRAS = ("model_args", "also", "prefix", "endings", "old_names", "operations")  # of a Layout
RESERVED = ("like", "names", *EXTRAS)  # in a peer's table, beside its key names


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


def records(family: str, path: str | Path | None = None) -> dict[str, WeightsRecord]:
    """`name.tag` -> record of the weights that a family has. Raises WeightsError for a
    record that is no such.
    """
    return _typed(family, path).records


def default_tag(family: str, name: str, path: str | Path | None = None) -> str:
    """The tag of the weights that the bare `name` takes: as `[defaults]` says, else
    that of the first record; "" where there are none.
    """
    known = _typed(family, path)
    first = next((each for each in known.records if each.partition(".")[0] == name), "")
    return known.defaults.get(name) or first.partition(".")[2]


def nearest_published(family: str, name: str, path: str | Path | None = None) -> str:
    """For a network that nobody publishes weights for: the nearest that has some, or
    "train here"; "" where nothing is said.
    """
    found: str = manifest(family, path).get("unpublished", {}).get(name, "")
    return found


@dataclass(frozen=True)
class _Typed:
    content: Mapping[str, Any]
    records: dict[str, WeightsRecord]
    defaults: dict[str, str]


_read_before: dict[tuple[str, str], _Typed] = {}


def _typed(family: str, path: str | Path | None) -> _Typed:
    """A family's records and defaults, read again when the file has changed."""
    content = manifest(family, path)
    key = family, str(path or weights_folder())
    if (known := _read_before.get(key)) and known.content is content:
        return known
    where = Path(path) if path else weights_folder() / f"{family}.toml"
    try:
        found = {
            name: read_record(name, entry, where.parent if path or _shipped(entry, where) else None)
            for name, entry in content.get("weights", {}).items()
        }
    except WeightsError as error:
        raise WeightsError(f"{where}: {error}") from error
    defaults = content.get("defaults", {})
    for name, tag in defaults.items():
        if f"{name}.{tag}" not in found:
            raise WeightsError(f"{where}: the default {name}.{tag} is not among the weights")
    _read_before[key] = known = _Typed(content, found, defaults)
    return known


def _shipped(entry: Mapping[str, Any], where: Path) -> bool:
    """Whether a record's files lie beside its manifest, as those trained here do."""
    files = [each.get("file") for each in entry.get("sources", ())]
    return all(file and (where.parent / file).is_file() for file in files)


@dataclass(frozen=True)
class Layout:
    """How a peer stores one network: `table` from its key prefixes to ours, after the
    `prefix` of all its keys and their `endings`, and `operations` on the tensors.
    `old_names`: parts of keys in older files, and those that took their place.

    `model_args` are those of the peer's network where they are not our row's: its
    tensors fit ours, and compute something else. So do those of its networks with the
    arguments `also`.
    """

    table: Mapping[str, str] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = ""
    endings: Mapping[str, str] = field(default_factory=dict)
    old_names: Mapping[str, str] = field(default_factory=dict)
    operations: tuple[str | Mapping[str, Any], ...] = ()


def layouts(family: str, name: str, path: str | Path | None = None) -> dict[str, Layout]:
    """Per peer its layout of the network `name`."""
    peers = manifest(family, path).get("layouts", {})
    found = {peer: _layout(peers, peer, name) for peer in peers}
    return {peer: layout for peer, layout in found.items() if layout}


def _layout(peers: Mapping[str, Any], peer: str, name: str) -> Layout | None:
    """A peer's layout of a network, or None."""
    if peer not in peers:
        raise WeightsError(f"a layout is like {peer!r}, and there is no such layout")
    entries = {key: value for key, value in peers[peer].items() if key not in RESERVED}
    shared = {theirs: ours for theirs, ours in entries.items() if isinstance(ours, str)}
    rows = {key: value for key, value in entries.items() if key not in shared}
    like = peers[peer].get("like", "")
    base = _layout(peers, like, name) if like else None
    if name not in rows and (rows or not (base or shared)):
        return None
    if like and not base and name not in rows:
        return None
    own = rows.get(name, {})
    if model := own.get("like"):
        if model not in rows:
            raise WeightsError(f"layout {peer}: {name} is like {model!r}, which is not in it")
        own = {**rows[model], **own}
    table = {**shared, **{theirs: ours for theirs, ours in own.items() if theirs not in RESERVED}}
    extras = {key: value for key, value in {**peers[peer], **own}.items() if key in EXTRAS}
    if base:
        renamed = set(expand(table).values())
        kept = {theirs: ours for theirs, ours in expand(base.table).items() if ours not in renamed}
        table = {**kept, **table}
        extras = {**{key: getattr(base, key) for key in EXTRAS}, **extras}
    return Layout(table, **{**extras, "operations": tuple(extras.get("operations", ()))})


def named_by_peers(family: str, name: str, path: str | Path | None = None) -> dict[str, str]:
    """Per peer the network of ours that it calls `name`, where ours of that name is
    another one.
    """
    peers = manifest(family, path).get("layouts", {})
    return {
        peer: entries["names"][name]
        for peer, entries in peers.items()
        if name in entries.get("names", {})
    }

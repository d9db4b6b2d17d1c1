"""A published file: its name, where it lies, and how it is known to be right."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # of a file in the cache: no folder, not hidden
HEX = re.compile(r"[0-9a-f]+")
LENGTHS = {"sha256": 64, "sha384": 96, "sha1": 40, "sha256_prefix": 8}  # strongest first
BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One published file. `file` is its name in cache and mirror, unique over all
    manifests; `aliases` are other names that a mirror may have it under.

    `digests`: of the whole file by kind (`sha256`, `sha384`, `sha1`, or
    `sha256_prefix`, its first 8 digits). `size`: bytes, 0 where not known. `members`:
    the addresses are folders of so many small files, which are packed as a tar: by name
    in it, their path at the address. `beside`: a folder that may hold it, that of a
    third party's manifest.
    """

    file: str
    urls: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    size: int = 0
    aliases: tuple[str, ...] = ()
    members: Mapping[str, str] = field(default_factory=dict)
    beside: Path | None = None

    def __post_init__(self) -> None:
        for name in (self.file, *self.aliases):
            if not NAME.fullmatch(name):
                raise WeightsError(f"{name!r} is no file name: letters, digits and ._+- are")
        for kind, digest in self.digests.items():
            if LENGTHS.get(kind) != len(digest) or not HEX.fullmatch(digest):
                raise WeightsError(f"{self.file}: {digest!r} is no {kind} digest")

    @classmethod
    def from_record(cls, record: Mapping[str, Any], beside: Path | None = None) -> RemoteFile:
        """Of a source in a manifest: `file`, `urls`, `bytes`, `aliases`, `members` (the
        paths below each address, and in the tar), and the digests by kind. A manifest
        that comes with its files gives its folder as `beside`; such a source needs no
        address.
        """
        return cls(
            file=record["file"],
            urls=tuple(record.get("urls", ())),
            digests={kind: record[kind] for kind in LENGTHS if kind in record},
            size=record.get("bytes", 0),
            aliases=tuple(record.get("aliases", ())),
            members={path: path for path in sorted(record.get("members", ()))},
            beside=beside,
        )

    @property
    def strongest(self) -> str:
        """The kind of its strongest digest; "" where none is published."""
        return next((kind for kind in LENGTHS if kind in self.digests), "")


def measured(path: Path) -> dict[str, str]:
    """The digests of a file by kind, read once."""
    running = {kind: hashlib.new(kind) for kind in ("sha256", "sha384", "sha1")}
    for block in blocks(path):
        for each in running.values():
            each.update(block)
    found = {kind: each.hexdigest() for kind, each in running.items()}
    return {**found, "sha256_prefix": found["sha256"][: LENGTHS["sha256_prefix"]]}


def blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def mismatch(remote: RemoteFile, found: Mapping[str, str], size: int) -> str:
    """What is wrong with a file of these digests and bytes; "" for nothing."""
    if remote.size and size != remote.size:
        return f"{size:,} bytes, {remote.size:,} were published"
    for kind, digest in remote.digests.items():
        if found[kind] != digest:
            return f"its {kind} is {found[kind][:16]}…, {digest[:16]}… was published"
    return ""

"""Published weights: which there are, and their files in the cache. What only looks
needs no torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.api.catalogue import summaries
from zoo.api.list_models import Patterns, list_pretrained
from zoo.api.records import default_tag, weight_records
from zoo.errors import UsageError, WeightsError
from zoo.formatting import Table
from zoo.weights.cache import CONVERTED, RECEIPTS, cache_folder, converted_files, receipt
from zoo.weights.records import WeightsRecord
from zoo.weights.remote import RemoteFile, measured, mismatch


@dataclass(frozen=True)
class PublishedWeights:
    """A record in a line. `bytes` is 0 where the publisher does not say it, and
    `about_bytes` what so many parameters take. `top1` and `top5` are the publisher's
    figures in %, with their data and protocol. `cached`: "", "fetched" or "converted".
    """

    name: str
    bytes: int
    about_bytes: int
    licence: str
    top1: float | None
    top5: float | None
    data: str
    protocol: str
    checked: str
    default: bool  # whether the bare name takes them
    cached: str


def published_weights(filter: Patterns = ()) -> list[PublishedWeights]:
    """The published weights whose network or full name matches."""
    tagged = list_pretrained(filter)
    names = dict.fromkeys(each.partition(".")[0] for each in tagged)
    params = {each.name: each.params for each in summaries(names)}
    records = {key: each for name in names for key, each in weight_records(name).items()}
    defaults = {f"{name}.{default_tag(name)}" for name in names}
    found = []
    for each in tagged:
        name, record = each.partition(".")[0], records[each]
        metric = record.reported
        found.append(
            PublishedWeights(
                name=each,
                bytes=record.size,
                about_bytes=params.get(name, 0) * (2 if record.stored == "float16" else 4),
                licence=record.licence,
                top1=metric.top1 if metric else None,
                top5=metric.top5 if metric else None,
                data=metric.data if metric else "",
                protocol=metric.protocol if metric else "",
                checked=record.checked,
                default=each in defaults,
                cached=_cached(each, record),
            )
        )
    return found


def table(rows: Iterable[PublishedWeights], cached: bool = False) -> Table:
    """A line each; sizes that are not published are estimated and marked with ~."""
    headers = ["name", "MB", "top-1", "top-5", "licence", "checked", "data and protocol"]
    headers += ["in the cache"] if cached else []
    lines = []
    for row in rows:
        size = f"{row.bytes / 1e6:,.1f}" if row.bytes else f"~{row.about_bytes / 1e6:,.1f}"
        data = f"{row.data}, {row.protocol}" if row.data else ""
        accuracies = ["" if each is None else f"{each:.2f}" for each in (row.top1, row.top5)]
        line = [row.name, size, *accuracies, row.licence, row.checked, data]
        lines.append([*line, row.cached] if cached else line)
    left = ("name", "licence", "checked", "data and protocol", "in the cache")
    return Table(headers, lines, left, optional=("data and protocol", "checked", "top-5"))


def _cached(name: str, record: WeightsRecord) -> str:
    if converted_files(name):
        return "converted"
    folder = cache_folder()
    return "fetched" if any((folder / s.remote.file).is_file() for s in record.sources) else ""


# ------------------------------------------------------------------------- one of them


def get(what: Any, progress: bool = True) -> Path:
    """Fetch and convert the weights of a name or `name.tag`, where they are not in the
    cache, and return the converted file. Raises WeightsError.
    """
    from zoo.api.pretrained import converted, with_default_tag
    from zoo.api.source import resolve

    return converted(with_default_tag(resolve(what)), progress)


def convert(what: Any, out: Path | None = None, progress: bool = True) -> Path:
    """Convert weights anew; into the file `out`, where one is named. Raises
    WeightsError.
    """
    from zoo.api.pretrained import converted, with_default_tag
    from zoo.api.source import resolve
    from zoo.files import replaced

    made = converted(with_default_tag(resolve(what)), progress, anew=True)
    if out is None:
        return made
    with replaced(out) as temporary:
        shutil.copyfile(made, temporary)
    return out


def path(what: Any) -> Path:
    """The converted file of a name or `name.tag`. Raises WeightsError where it is not
    in the cache.
    """
    from zoo.api.pretrained import in_cache, with_default_tag
    from zoo.api.source import resolve

    source = with_default_tag(resolve(what))
    found = in_cache(source)
    if not found:
        raise WeightsError(
            f"{source.name} is not in the cache {cache_folder()}: `zoo weights get {source.name}` "
            "fetches it"
        )
    return found


# --------------------------------------------------------------------------- the cache


@dataclass(frozen=True)
class CachedFile:
    """A file in the cache; `fault` says what is wrong with it, "" for nothing."""

    path: Path
    bytes: int
    fault: str = ""


def verify(filter: Patterns = ()) -> list[CachedFile]:
    """Read every cached file of these weights, and hold it to the published digests and
    to what was recorded when it came.
    """
    return [
        CachedFile(path, path.stat().st_size, _fault(path, remote))
        for path, remote in _files(filter).items()
    ]


def clear(filter: Patterns = ()) -> list[CachedFile]:
    """Remove the cached files of these weights, fetched and converted, and return them.
    What was recorded of fetched ones stays, as a digest for the next time.
    """
    removed = []
    folder = cache_folder()
    for path in _files(filter):
        size = path.stat().st_size
        try:
            path.unlink()
            if path.parent.name == CONVERTED:
                (folder / RECEIPTS / f"{path.name}.json").unlink(missing_ok=True)
        except OSError as error:
            raise WeightsError(f"{path} cannot be removed: {error.strerror or error}") from error
        removed.append(CachedFile(path, size))
    return removed


def _files(filter: Patterns) -> dict[Path, RemoteFile]:
    """The files of these weights that are in the cache, each once, and what is known of
    them. Raises UsageError for a pattern that fits none.
    """
    names = list_pretrained(filter)
    if filter and not names:
        shown = filter if isinstance(filter, str) else " ".join(filter)
        raise UsageError(f"no weights match {shown!r}; `zoo weights list` shows all")
    found = {}
    for each in names:
        for remote in _remote_files(each):
            if (path := cache_folder() / remote.file).is_file():
                found[path] = remote
        for path in converted_files(each):
            found[path] = RemoteFile(file=path.name, urls=())
    return found


def _remote_files(tagged: str) -> Iterator[RemoteFile]:
    record = weight_records(registry.meant(tagged.partition(".")[0]))[tagged]
    yield from (each.remote for each in record.sources)


def _fault(path: Path, remote: RemoteFile) -> str:
    digests = measured(path)
    if wrong := mismatch(remote, digests, path.stat().st_size):
        return wrong
    known = receipt(cache_folder(), path.name)
    if known and known["sha256"] != digests["sha256"]:
        return f"changed since {known.get('date', 'it came')}"
    return "" if known or remote.strongest else "no digest of it is known"

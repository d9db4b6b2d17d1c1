"""What a manifest says of published weights, as typed records that are checked when
they are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError, nearest
from zoo.spec import Preprocessing
from zoo.weights.remote import LENGTHS, RemoteFile

CHECKED = {  # how far a record was tried here -> in words
    "ran here": "this project ran them",
    "keys known": "this project knows their key names and never ran them",
    "never seen": "this project never saw the file",
}
SOURCE_KEYS = {"file", "urls", "bytes", "aliases", "members", "format", "layout", *LENGTHS}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure as its publisher reports it, with the data and the protocol: accuracies
    in %, of a text nats per character.
    """

    data: str
    protocol: str
    top1: float | None = None
    top5: float | None = None
    nats: float | None = None

    def describe(self) -> str:
        """As a line, with data and protocol."""
        known = {"% top-1": self.top1, "% top-5": self.top5, "nats/character": self.nats}
        shown = [f"{value:g} {kind}" for kind, value in known.items() if value is not None]
        return f"{', '.join(shown)} ({self.data}, {self.protocol})"


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """One published file with the weights. `format` is how it is read
    (`zoo.weights.formats`), `layout` the peer whose key names it has; "": ours.
    """

    remote: RemoteFile
    format: str
    layout: str = ""


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """Weights of one network, by name and tag; `sources` are files with the same
    numbers, the best one first.

    `checked`: one of `CHECKED`. `classes`: the data set whose classes the outputs are
    (`imagenet`, `cifar10`), or their names. `preprocessing` is None where it is not
    known. `model_args` are arguments of the constructor that these weights need.
    `part`: the only child of the network that they hold; `backbones`: the networks
    inside it that they do not hold, whose arguments in `model_args` name other weights.
    `stored`: the type of number in the files, where it is not float32. `test_input`:
    the size and crop of the metrics, where they are other ones than the
    preprocessing's. `input_norm`: the files hold a batch norm on the image, which
    conversion puts into the preprocessing.
    """

    sources: tuple[WeightsSource, ...]
    checked: str = "never seen"
    licence: str = "not stated"
    classes: str | tuple[str, ...] = ""
    preprocessing: Preprocessing | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    part: str = ""
    backbones: tuple[str, ...] = ()
    stored: str = ""
    test_input: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    input_norm: bool = False

    @property
    def size(self) -> int:
        """Bytes of the first file that says them; 0 where none does."""
        return next((each.remote.size for each in self.sources if each.remote.size), 0)

    @property
    def reported(self) -> Metric | None:
        """The first metric."""
        return self.metrics[0] if self.metrics else None

    def may_lack(self, key: str) -> bool:
        """Whether the weights may have no tensor of this name: one of an auxiliary
        head or of a backbone, or outside the part that they are of.
        """
        outside = bool(self.part) and not key.startswith(f"{self.part}.")
        others = tuple(f"{each}." for each in ("aux", *self.backbones))
        return outside or key.startswith(others)

    def describe(self) -> str:
        """Licence and how far the weights were tried, as a line."""
        return f"licence: {self.licence}; {CHECKED[self.checked]}"


def read_record(name: str, entry: Mapping[str, Any], beside: Path | None = None) -> WeightsRecord:
    """Of a table `[weights."name.tag"]`, whose files may lie `beside` its manifest.
    Raises WeightsError that says which key is wrong.
    """
    where = f"weights {name!r}"
    _check_keys(where, entry, [each.name for each in fields(WeightsRecord)])
    sources = tuple(_read_source(where, each, beside) for each in entry.get("sources", ()))
    if not sources:
        raise WeightsError(f"{where}: sources are missing: a table with file, urls and format each")
    given = dict(entry, sources=sources)
    if given.get("checked", "ran here") not in CHECKED:
        raise WeightsError(
            f"{where}: checked={given['checked']!r}: expected one of {', '.join(CHECKED)}"
        )
    if "preprocessing" in entry:
        known = [each.name for each in fields(Preprocessing)]
        _check_keys(f"{where}, preprocessing", entry["preprocessing"], known)
        given["preprocessing"] = Preprocessing.from_dict(entry["preprocessing"])
    elif entry.get("input_norm"):
        raise WeightsError(f"{where}: input_norm without the preprocessing that it belongs to")
    given["metrics"] = tuple(_read_metric(where, each) for each in entry.get("metrics", ()))
    for key in ("classes", "backbones"):
        if isinstance(given.get(key), list):
            given[key] = tuple(given[key])
    return WeightsRecord(**given)


def _read_source(where: str, entry: Mapping[str, Any], beside: Path | None) -> WeightsSource:
    _check_keys(f"{where}, sources", entry, SOURCE_KEYS)
    if missing := [key for key in ("file", "format") if key not in entry]:
        raise WeightsError(f"{where}: a source without {' and '.join(missing)}")
    remote = RemoteFile.from_record(entry, beside)
    return WeightsSource(remote=remote, format=entry["format"], layout=entry.get("layout", ""))


def _read_metric(where: str, entry: Mapping[str, Any]) -> Metric:
    _check_keys(f"{where}, metrics", entry, [each.name for each in fields(Metric)])
    try:
        return Metric(**entry)
    except TypeError as error:
        raise WeightsError(f"{where}: a metric without its data or protocol") from error


def _check_keys(where: str, entry: Mapping[str, Any], known: Iterable[str]) -> None:
    known = sorted(known)
    if wrong := [key for key in entry if key not in known]:
        near = nearest(wrong[0], known, f"there are: {', '.join(known)}")
        raise WeightsError(f"{where} has no key {wrong[0]!r}{near}")

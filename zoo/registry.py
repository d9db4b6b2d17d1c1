"""From a network's name to its Family, through the entry points of installed packages.
The only module that knows them.

Nothing is imported before a name is asked for: the list of names comes from the
installed metadata alone.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from zoo.errors import PluginError, UnknownModelError, UsageError, note
from zoo.spec import Family, Variant

GROUP = "zoo.models"
OWN = "classic-zoo"  # this package's distribution


@dataclass(frozen=True)
class Entry:
    """One registered name and where it comes from."""

    name: str
    point: EntryPoint | None  # None: registered in this process
    distribution: str  # name and version
    rivals: tuple[str, ...] = ()  # other distributions that claim the same name

    @property
    def family(self) -> str:
        """The family's name: the module that holds it, e.g. `vgg`; known without
        importing it.
        """
        module = self.point.module if self.point else _registered[self.name].build.__module__
        return module.rpartition(".")[2]


_registered: dict[str, Family] = {}  # zoo.register


@cache
def _installed() -> dict[str, Entry]:
    claims: dict[str, list[tuple[bool, str, EntryPoint]]] = {}
    for point in entry_points(group=GROUP):
        dist = point.dist
        title = f"{dist.name} {dist.version}" if dist else "an unknown distribution"
        claims.setdefault(point.name, []).append((dist is None or dist.name != OWN, title, point))
    found = {}
    for name, offers in claims.items():
        (_, distribution, point), *others = sorted(
            offers, key=lambda offer: offer[:2]
        )  # our own name is never taken over
        found[name] = Entry(name, point, distribution, tuple(other[1] for other in others))
    return found


def entries() -> dict[str, Entry]:
    """Every name, in natural order (resnet50 before resnet101)."""
    found = _installed() | {name: Entry(name, None, "this process") for name in _registered}
    if not found:
        raise UsageError(
            f"no networks are registered: {OWN} is not installed; run `pip install -e .` where its sources lie"
        )
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sort key in which numbers count as numbers."""
    return [
        (int(part), "") if part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name.lower())
    ]


def entry(name: str) -> Entry:
    """The entry of `name`; a wrong name raises UnknownModelError with the nearest right
    ones.
    """
    if name not in _registered and name in (known := _installed()):
        return known[name]
    known = entries()
    if name not in known:
        raise UnknownModelError(
            f"there is no network {name!r}{nearest(name, known)}; `zoo list` shows all"
        )
    return known[name]


def nearest(word: str, known: Iterable[str]) -> str:
    """`: did you mean …?` with the nearest of the known words, or nothing when none is
    near.
    """
    near = difflib.get_close_matches(word.lower(), known, n=3, cutoff=0.6)
    return f": did you mean {' or '.join(near)}?" if near else ""


def family(name: str) -> Family:
    """Import and return the family of `name`; whatever a third party's module does
    wrong becomes one PluginError.
    """
    if name in _registered:
        return _registered[name]
    found = entry(name)
    point = found.point
    assert point is not None
    if found.rivals:
        _warn_of_rivals(found)
    source = f"{name!r} comes from {found.distribution} ({point.value})"
    try:
        loaded = point.load()
    except Exception as error:
        raise PluginError(
            f"{source}, which cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(loaded, Family):
        raise PluginError(f"{source}, which is a {type(loaded).__name__} and not a zoo.spec.Family")
    if name not in loaded.variants:
        raise PluginError(
            f"{source}, which has no row {name!r}; its rows: {', '.join(loaded.variants) or 'none'}"
        )
    return loaded


def _warn_of_rivals(found: Entry) -> None:
    if not found.distribution.startswith(OWN + " "):
        claimants = ", ".join([found.distribution, *found.rivals])
        raise PluginError(
            f"{found.name!r} is claimed by {claimants}: uninstall all but one of them"
        )
    note(
        f"{found.name!r} is the built-in network; {', '.join(found.rivals)} claims the name too and is ignored: rename it there"
    )


def variant(name: str) -> Variant:
    return family(name).variants[name]


def register(new: Family) -> None:
    """Add a family's networks for this process, as in a notebook; registering it again
    replaces it.

    Raises UsageError when a name belongs to an installed distribution.
    """
    for name in new.variants:
        if name in _installed():
            raise UsageError(
                f"{name!r} is already taken by {_installed()[name].distribution}: choose another name"
            )
    for name in new.variants:
        _registered[name] = new


def refresh() -> None:
    """Look at the installed distributions again, after one came or went while this
    process ran.
    """
    _installed.cache_clear()

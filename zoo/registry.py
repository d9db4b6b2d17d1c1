"""From a network's name to its Family, through the entry points of installed packages.
The only module that knows them.

Nothing is imported before a name is asked for: the list of names comes from the
installed metadata alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from zoo.errors import PluginError, UnknownModelError, UsageError, nearest, warn
from zoo.formatting import natural_key
from zoo.spec import Family, Variant

GROUP = "zoo.models"
OWN = "classic-zoo"  # this package's distribution


@dataclass(frozen=True)
class Entry:
    """One registered name and where it comes from."""

    name: str
    point: EntryPoint | None  # None: registered in this process
    distribution: str  # name and version
    conflicts: tuple[str, ...] = ()  # other distributions that claim the same name

    @property
    def own(self) -> bool:
        """Whether it is of this package."""
        return self.distribution.startswith(f"{OWN} ")

    @property
    def family(self) -> str:
        """The family's name: the module that holds it, e.g. `vgg`; known without
        importing it.
        """
        module = self.point.module if self.point else _registered[self.name].build.__module__
        return module.rpartition(".")[2]


_registered: dict[str, Family] = {}  # zoo.register_family


@cache
def _installed() -> dict[str, Entry]:
    claims: dict[str, list[tuple[bool, str, EntryPoint]]] = {}
    for point in entry_points(group=GROUP):
        dist = point.dist
        title = f"{dist.name} {dist.version}" if dist else "an unknown distribution"
        claims.setdefault(point.name, []).append((dist is None or dist.name != OWN, title, point))
    found = {}
    for name, offers in claims.items():
        # our own name is never taken over
        (_, distribution, point), *others = sorted(offers, key=lambda offer: offer[:2])
        found[name] = Entry(name, point, distribution, tuple(other[1] for other in others))
    return found


def entries() -> dict[str, Entry]:
    """Every name, in natural order (resnet50 before resnet101)."""
    found = _installed() | {name: Entry(name, None, "this process") for name in _registered}
    if not found:
        raise UsageError(
            f"no networks are registered: {OWN} is not installed; run `pip install -e .` "
            "where its sources lie"
        )
    return dict(sorted(found.items(), key=lambda item: natural_key(item[0])))


def entry(name: str) -> Entry:
    """The entry of `name`, as `meant` reads it."""
    if name not in _registered and name in (known := _installed()):
        return known[name]
    return entries()[meant(name)]


def meant(name: str) -> str:
    """The registered name that `name` means; UnknownModelError with the nearest names
    where it is none, or fits several.
    """
    found = fitting(name)
    if len(found) != 1:
        near = nearest(name, entries(), "`zoo list` shows all")
        raise UnknownModelError(f"there is no network {name!r}{near}")
    return found[0]


def fitting(name: str) -> list[str]:
    """The registered names that `name` may mean: itself, else those in any case, and
    with hyphens, blanks or dots where they have underscores or nothing (`VGG-16`,
    `ResNet 50`). Underscores stand for themselves.
    """
    known = entries()
    if name in known:
        return [name]
    letters = re.sub(r"[-\s.]+", "", name)
    pattern = re.compile("_?".join(map(re.escape, letters)), re.IGNORECASE)
    return [each for each in known if letters and pattern.fullmatch(each)]


def family(name: str) -> Family:
    """Import and return the family of `name`; whatever a third party's module does
    wrong becomes one PluginError.
    """
    if name in _registered:
        return _registered[name]
    found = entry(name)
    point = found.point
    assert point is not None
    if found.conflicts:
        _check_conflicts(found)
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


def _check_conflicts(found: Entry) -> None:
    if not found.own:
        claimants = ", ".join([found.distribution, *found.conflicts])
        raise PluginError(
            f"{found.name!r} is claimed by {claimants}: uninstall all but one of them"
        )
    warn(
        f"{found.name!r} is the built-in network; {', '.join(found.conflicts)} claims the name "
        "too and is ignored: rename it there"
    )


def lookup(name: str) -> tuple[Entry, Family]:
    """Where `name` comes from, and its family."""
    found = family(name)
    return (Entry(name, None, "this process") if name in _registered else entry(name)), found


def variant(name: str) -> Variant:
    return family(name).variants[name]


def is_registered(name: str) -> bool:
    return name in _registered or name in _installed()


def register_family(new: Family) -> None:
    """Add a family's networks for this process, as in a notebook; registering it again
    replaces it.

    Raises UsageError when a name belongs to an installed distribution.
    """
    for name in new.variants:
        if name in _installed():
            owner = _installed()[name].distribution
            raise UsageError(f"{name!r} is already taken by {owner}: choose another name")
    for name in new.variants:
        _registered[name] = new


def refresh() -> None:
    """Look at the installed distributions again, after one came or went while this
    process ran.
    """
    _installed.cache_clear()

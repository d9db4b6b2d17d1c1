"""Names of networks and of their weights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from zoo import registry
from zoo.api.records import weight_records
from zoo.errors import PluginError, UnknownModelError, warn

Patterns = str | Iterable[str]
WILDCARDS = "*?["


def list_models(
    filter: Patterns = (),
    *,
    exclude_filters: Patterns = (),
    family: Patterns = (),
    task: str = "",
    pretrained: bool = False,
) -> list[str]:
    """Names in natural order that match one of the shell patterns `filter` (none: all)
    and none of `exclude_filters`. A filter without wildcards that is no name stands for
    the names that contain it.

    `family` is the name of a model file (`vgg`); `pretrained` keeps names that have
    weights. Only `task` imports torch.
    """
    known = registry.entries()
    filters = [_widened(pattern) for pattern in _patterns(filter)]
    names = [name for name in known if matches(name, filters, empty=True)]
    names = [name for name in names if not matches(name, exclude_filters)]
    if families := _patterns(family):
        names = [name for name in names if matches(known[name].family, families)]
    if pretrained:
        names = [name for name in names if weight_records(name)]
    return [name for name in names if _has_task(name, task)] if task else names


def matches(name: str, patterns: Patterns, empty: bool = False) -> bool:
    """Whether a name matches one of the shell patterns; `empty` is the answer for no
    pattern.
    """
    patterns = _patterns(patterns)
    name = name.lower()
    return any(fnmatchcase(name, each.lower()) for each in patterns) if patterns else empty


def _widened(pattern: str) -> str:
    """A pattern as it is; of a word without wildcards the name that it means, else the
    pattern of the names that contain it.
    """
    if any(sign in pattern for sign in WILDCARDS):
        return pattern
    try:
        return registry.meant(pattern)
    except UnknownModelError:
        return "*" + re.sub(r"[-\s]+", "*", pattern) + "*"


def _patterns(patterns: Patterns) -> list[str]:
    if isinstance(patterns, str):
        return [patterns] if patterns else []
    return list(patterns)


def _has_task(name: str, task: str) -> bool:
    try:
        return registry.variant(name).task == task
    except PluginError as error:
        warn(f"left out of the list: {error}")
        return False


def is_model(name: str) -> bool:
    """Whether `name` (without a tag) is a registered network."""
    return name in registry.entries()


def list_pretrained(filter: Patterns = ()) -> list[str]:
    """`name.tag` of all weights whose network or full name matches."""
    found = []
    filters = [_widened(pattern) for pattern in _patterns(filter)]
    for name in registry.entries():
        whole = matches(name, filters, empty=True)
        found += [tagged for tagged in weight_records(name) if whole or matches(tagged, filters)]
    return found

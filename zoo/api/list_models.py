"""Names of networks and of their weights."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from zoo import registry
from zoo.api.source import weight_records
from zoo.errors import PluginError, warn

Patterns = str | Iterable[str]


def list_models(
    filter: Patterns = (),
    *,
    exclude_filters: Patterns = (),
    family: Patterns = (),
    task: str = "",
    pretrained: bool = False,
) -> list[str]:
    """Names in natural order that match one of the shell patterns `filter` (none: all)
    and none of `exclude_filters`.

    `family` is the name of a model file (`vgg`); `pretrained` keeps names that have
    weights. Only `task` imports torch.
    """
    known = registry.entries()
    names = [name for name in known if matches(name, filter, empty=True)]
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
    return any(fnmatchcase(name, pattern) for pattern in patterns) if patterns else empty


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
    for name in registry.entries():
        whole = matches(name, filter, empty=True)
        found += [tagged for tagged in weight_records(name) if whole or matches(tagged, filter)]
    return found

"""The records of published weights by a network's name, wherever its package keeps
them. Without torch, but for a third party's network.
"""

from __future__ import annotations

from pathlib import Path

from zoo import registry
from zoo.errors import PluginError, warn
from zoo.spec import Family
from zoo.weights import manifest
from zoo.weights.records import WeightsRecord


def weight_records(name: str, family: Family | None = None) -> dict[str, WeightsRecord]:
    """`name.tag` -> record of a network's weights; of a broken third party's module
    none, and it is named.
    """
    file = manifest_of(name, family)
    records = manifest.records(*file) if file else {}
    return {key: record for key, record in records.items() if key.partition(".")[0] == name}


def default_tag(name: str, family: Family | None = None) -> str:
    """The tag of the weights that a bare name takes; "" where it has none."""
    file = manifest_of(name, family)
    return manifest.default_tag(file[0], name, file[1]) if file else ""


def nearest_published(name: str, family: Family | None = None) -> str:
    """For a network that nobody publishes weights for, the nearest that has some, or
    "train here"; "" where nothing is said.
    """
    file = manifest_of(name, family)
    return manifest.nearest_published(file[0], name, file[1]) if file else ""


def manifest_of(name: str, family: Family | None) -> tuple[str, str | Path | None] | None:
    """Family and file of a network's weights; None where it has no file. A third
    party's module must be imported to know it.
    """
    entry = registry.entry(name)
    if entry.own:
        return entry.family, None
    try:
        path = (family or registry.family(name)).weights
    except PluginError as error:
        warn(f"its weights are left out: {error}")
        return None
    return (entry.family, path) if path else None

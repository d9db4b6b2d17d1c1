"""What the rows say of the networks, without importing their model files (and torch
with them): from a file that docs/catalogue.py writes, and a test holds to the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.api.info import Described, row_facts
from zoo.api.records import default_tag, nearest_published, weight_records
from zoo.errors import PluginError, UnknownModelError, warn
from zoo.paths import PACKAGE
from zoo.spec import Result
from zoo.tables.rows import first
from zoo.weights import manifest

FILE = PACKAGE / "catalogue.json"


@dataclass(frozen=True)
class Summary:
    """A network in a line: the paper's year, exact counts for one example of its own
    size, a result that the paper reports, and the tags of its weights, the default one
    first.
    """

    name: str
    year: int
    params: int
    macs: int
    result: Result | None
    tags: tuple[str, ...] = ()


def summaries(names: Iterable[str]) -> list[Summary]:
    """A line for each of these names; broken plug-ins are left out, which is said."""
    found = []
    for name in names:
        try:
            facts = _written()["networks"].get(name) if registry.entry(name).own else None
            facts = facts or summarise(name)
        except PluginError as error:
            warn(f"left out of the list: {error}")
            continue
        result = Result(**facts["result"]) if facts["result"] else None
        tags = dict.fromkeys([default_tag(name), *_tags(name)])
        found.append(
            Summary(
                name,
                facts["year"],
                facts["params"],
                facts["macs"],
                result,
                tuple(filter(None, tags)),
            )
        )
    return found


def _tags(name: str) -> list[str]:
    return [tagged.partition(".")[2] for tagged in weight_records(name)]


def described(what: str) -> Described | None:
    """What is shown of a network of this package, by its name or `name.tag`; None for
    anything else.
    """
    if Path(what).exists():
        return None
    name, _, tag = what.partition(".")
    try:
        name = registry.meant(name)
    except UnknownModelError:
        return None
    entry = registry.entry(name)
    if not entry.own or entry.conflicts:  # of which a note is to be given
        return None
    weights = weight_records(name)
    if tag and f"{name}.{tag}" not in weights:
        return None
    layouts = manifest.layouts(entry.family, name)
    return Described(
        name=name,
        family=entry.family,
        distribution=entry.distribution,
        row=_written()["networks"][name]["facts"],
        doc=_written()["docs"][entry.family],
        weights=weights,
        layouts={peer: dict(each.model_args) for peer, each in layouts.items()},
        named_by_peers=manifest.named_by_peers(entry.family, name),
        tag=tag,
        default_tag=default_tag(name),
        nearest=nearest_published(name),
    )


def summarise(name: str) -> dict[str, Any]:
    """What the file has of a network, read from its row."""
    family = registry.family(name)
    variant = family.variants[name]
    result = first(variant.results)
    return {
        "year": family.paper.year,
        "params": variant.claims.params,
        "macs": variant.claims.macs,
        "result": asdict(result) if result else None,
        "facts": row_facts(family.paper, variant),
    }


def written() -> dict[str, dict[str, Any]]:
    """What the file should hold: the networks of this package, and the head of each
    model file.
    """
    own = {name: entry for name, entry in registry.entries().items() if entry.own}
    docs = {entry.family: registry.family(name).doc for name, entry in own.items()}
    return {"networks": {name: summarise(name) for name in own}, "docs": docs}


@cache
def _written() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found

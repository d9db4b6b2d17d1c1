"""The networks in a line each, without importing their model files (and torch with
them): from a file that docs/catalogue.py writes, and a test holds to the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from zoo import registry
from zoo.api.records import default_tag, weight_records
from zoo.errors import PluginError, warn
from zoo.paths import PACKAGE
from zoo.spec import Result
from zoo.tables.rows import first

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
            facts = _written().get(name) if _is_own(name) else None
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
    }


def _is_own(name: str) -> bool:
    return registry.entry(name).own


@cache
def _written() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found

"""A comparison as one web page that needs nothing else: report.html with the data in
it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.formatting import figure
from zoo.spec import Result
from zoo.tables.evaluation_protocols import Protocol, accuracy, by_protocol, protocol
from zoo.tables.rows import LEFT, Layer, Row, cells, results, sort_key, text

TEMPLATE = Path(__file__).with_name("report.html")


def page(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """The HTML of a table of these columns, by their names with their titles."""
    protocols = by_protocol(results(rows))
    shown = list(titles.values())
    papers = list(dict.fromkeys((row.paper, row.doc, row.picture) for row in rows if row.paper))
    data = {
        "about": f"{len(rows)} network{'' if len(rows) == 1 else 's'}, written by zoo compare.",
        "titles": shown,
        "left": [shown.index(title) for title in LEFT if title in shown],
        "reported": list(titles).index("reported"),
        "protocols": [_protocol(which, found) for which, found in protocols.items()],
        "first": _first(rows, protocols),
        "years": sorted({row.year for row in rows if row.year}),
        "papers": [
            {"text": str(paper), "url": paper.url, "notes": notes(doc), "picture": picture}
            for paper, doc, picture in papers
        ],
        "rows": [
            _row(row, list(titles), protocols)
            | {"paper": papers.index((row.paper, row.doc, row.picture)) if row.paper else None}
            for row in rows
        ],
    }
    inside = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    inside = inside.replace("<", "\\u003c")  # no name can end the script
    return TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", inside)


def notes(doc: str) -> list[tuple[str, str]]:
    """The readings and departures at the end of a model file's head: headings ("h"),
    items of lists ("li") and paragraphs ("p"), each with its text in one line.
    """
    begin = re.search(r"^(Readings?|Departures?)\b.*$", doc, re.MULTILINE)
    found: list[tuple[str, str]] = []
    for line in doc[begin.start() :].splitlines() if begin else ():
        if re.fullmatch(r"(Readings?|Departures?)\b[\w ]*", line):
            found.append(("h", line))
        elif line.startswith("- "):
            found.append(("li", line.removeprefix("- ")))
        elif line.startswith("  ") and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        elif line and found[-1][0] == "p":
            found[-1] = ("p", f"{found[-1][1]} {line}")
        elif line:
            found.append(("p", line))
    return found


def _protocol(which: Protocol, found: Mapping[str, Result]) -> dict[str, str]:
    count = f"{len(found)} network{'' if len(found) == 1 else 's'}"
    return {"text": f"{which} – {count}", "kind": which.kind, "data": which.data}


def _first(rows: Sequence[Row], protocols: Mapping[Protocol, Any]) -> int:
    """The protocol that the page opens with: that of the table where it has but one,
    else the most shared.
    """
    shown = {protocol(row.result) for row in rows if row.result}
    places = [place for place, which in enumerate(protocols) if shown == {which}]
    return places[0] if places else 0


def _row(
    row: Row, columns: list[str], protocols: dict[Protocol, dict[str, Result]]
) -> dict[str, Any]:
    own = {
        place: found[row.name]
        for place, found in enumerate(protocols.values())
        if row.results and row.name in found
    }
    words = " ".join([row.name, str(row.year or ""), *map(text, row.results)])
    return {
        "name": row.name,
        "year": row.year,
        "params": row.params,
        "macs": row.macs,
        "flops": row.flops,
        "cells": cells(row, columns),
        "keys": [_key(row, column) for column in columns],
        "text": words.lower(),
        "accuracies": {place: accuracy(result) for place, result in own.items()},
        "reported": {place: f"{result.value} {result.metric}" for place, result in own.items()},
        "results": [f"{text(result)}, {result.source}" for result in row.results],
        "note": row.note,
        "layers": [_layer(layer) for layer in row.layers],
    }


def _layer(layer: Layer) -> tuple[Any, ...]:
    name, output = layer.path.rpartition(".")[2], figure(layer.output)
    return name, layer.level, layer.times, layer.kind, output, layer.params, layer.macs


def _key(row: Row, column: str) -> Any:
    """What the page sorts by: a number or a text."""
    if column == "name":
        return row.name
    if column == "reported":
        return " ".join(map(str, sort_key(row, column) or ()))
    return sort_key(row, column)

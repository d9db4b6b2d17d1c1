"""A comparison as one web page that needs nothing else: report.html with the data in
it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.formatting import figure
from zoo.spec import Result
from zoo.tables.evaluation_protocols import Protocol, accuracy, by_protocol
from zoo.tables.rows import LEFT, Layer, Row, cells, results, sort_key, text

TEMPLATE = Path(__file__).with_name("report.html")


def page(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """The HTML of a table of these columns, by their names with their titles."""
    protocols = by_protocol(results(rows))
    shown = list(titles.values())
    data = {
        "about": f"{len(rows)} networks, written by zoo compare.",
        "titles": shown,
        "left": [shown.index(title) for title in LEFT],
        "protocols": [f"{which} – {len(found)} networks" for which, found in protocols.items()],
        "kinds": [which.kind for which in protocols],
        "years": sorted({row.year for row in rows if row.year}),
        "rows": [_row(row, list(titles), protocols) for row in rows],
    }
    inside = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    inside = inside.replace("<", "\\u003c")  # no name can end the script
    return TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", inside)


def _row(
    row: Row, columns: list[str], protocols: dict[Protocol, dict[str, Result]]
) -> dict[str, Any]:
    return {
        "name": row.name,
        "year": row.year,
        "params": row.params,
        "macs": row.macs,
        "flops": row.flops,
        "cells": cells(row, columns),
        "keys": [_key(row, column) for column in columns],
        "text": f"{row.name} {row.year or ''} {row.reported}".lower(),
        "accuracies": {
            place: accuracy(found[row.name])
            for place, found in enumerate(protocols.values())
            if row.results and row.name in found
        },
        "results": [f"{text(result)}, {result.source}" for result in row.results],
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

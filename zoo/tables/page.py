"""A comparison as one web page that needs nothing else: report.html with the data in
it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoo.spec import Result
from zoo.tables.compare import LEFT, Comparison, Row, results, sort_key, text
from zoo.tables.protocols import Protocol, accuracy, by_protocol
from zoo.tables.text import figure

TEMPLATE = Path(__file__).with_name("report.html")


def page(table: Comparison) -> str:
    """The HTML."""
    protocols = by_protocol(results(table.rows))
    titles = list(table.titles.values())
    rows = [
        _row(row, cells, list(table.titles), protocols)
        for row, cells in zip(table.rows, table.cells(), strict=True)
    ]
    data = {
        "about": f"{len(rows)} networks, written by zoo compare.",
        "titles": titles,
        "left": [titles.index(title) for title in LEFT],
        "protocols": [f"{which} – {len(found)} networks" for which, found in protocols.items()],
        "kinds": [which.kind for which in protocols],
        "years": sorted({row.year for row in table.rows if row.year}),
        "rows": rows,
    }
    inside = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace(
        "<", "\\u003c"
    )  # no name can end the script
    return TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", inside)


def _row(
    row: Row, cells: list[str], columns: list[str], protocols: dict[Protocol, dict[str, Result]]
) -> dict[str, Any]:
    return {
        "name": row.name,
        "year": row.year,
        "params": row.params,
        "macs": row.macs,
        "flops": row.flops,
        "cells": cells,
        "keys": [_key(row, column) for column in columns],
        "text": f"{row.name} {row.year or ''} {row.reported}".lower(),
        "accuracies": {
            place: accuracy(found[row.name])
            for place, found in enumerate(protocols.values())
            if row.results and row.name in found
        },
        "results": [f"{text(result)}, {result.where}" for result in row.results],
        "layers": [
            (
                each.path.rpartition(".")[2],
                each.level,
                each.times,
                each.kind,
                figure(each.output),
                each.params,
                each.macs,
            )
            for each in row.layers
        ],
    }


def _key(row: Row, column: str) -> Any:
    """What the page sorts by: a number or a text."""
    if column in ("name", "reported"):
        return row.name if column == "name" else " ".join(map(str, sort_key(row, column) or ()))
    return sort_key(row, column)

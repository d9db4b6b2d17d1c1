"""The page of what benchmarks/gpu.py measured, from the files that it wrote."""

import json
from pathlib import Path
from typing import Any

from zoo.formatting import figure, markdown

GENERATED = "<!-- written by docs/build.py from the files in docs/data/gpu -->"
TITLES = {
    "training": "Training",
    "speed": "Images per second",
    "matrix": "Share of the chip's matrix rate",
    "memory": "Predicted memory",
    "batches": "Largest batches",
    "compiled": "Compiled",
    "probe": "Features for a probe",
    "tests": "Tests",
}


def gpu_page(folder: Path) -> str:
    """The sections in the order of the script; "" where there are none. Raises
    ValueError for a file of `--tiny`, whose figures mean nothing.
    """
    found = []
    for path in folder.glob("*.json"):
        found.append(json.loads(path.read_text(encoding="utf-8")))
        if found[-1]["tiny"]:
            raise ValueError(f"{path}: of --tiny, no measurement")
    if not found:
        return ""
    found.sort(key=lambda each: each["number"])
    head = (
        "Measured by `make gpu` (benchmarks/gpu.py), whose files are in [data/gpu](data/gpu); "
        "each section on the machine that it names, a process of its own."
    )
    parts = [part for each in found for part in section(each)]
    return "\n\n".join([GENERATED, "# On a GPU", head, *parts]) + "\n"


def section(found: dict[str, Any]) -> list[str]:
    rows = found["rows"]
    headers = list(rows[0]) if rows else []
    left = [name for name in headers if any(isinstance(row[name], str) for row in rows)]
    cells = [[figure(row[name]) for name in headers] for row in rows]
    end = "" if found["complete"] else "; it was stopped by its limit of time, and rows are missing"
    where = f"{found['device']}, torch {found['torch']}, {found['seconds']:.0f} s{end}."
    table = markdown(headers, cells, left=left) if rows else "Nothing was measured."
    return [f"## {TITLES[found['section']]}", found["about"], where, table]

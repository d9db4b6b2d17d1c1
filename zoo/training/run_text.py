"""A run as text: what was trained on what, and how it went."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.formatting import Section, Table
from zoo.training.metrics import PARTS

if TYPE_CHECKING:
    from zoo.training.run import Run


def run_sections(run: Run) -> list[Section]:
    """The network, the data and the best epoch's score, and the means of the best and
    the last epoch.
    """
    data = run.config.get("data", {})
    unit = _unit(run)
    counts = [
        f"{data[f'{part}_{unit}']:,} {unit} for {word}"
        for part, word in PARTS.items()
        if f"{part}_{unit}" in data
    ]
    facts = {
        "network": run.config.get("architecture") or run.config.get("module", ""),
        "data": ": ".join(filter(None, [data.get("source", ""), ", ".join(counts)])),
        **outcome(run),
    }
    found: list[Section] = [{label: text for label, text in facts.items() if text}]
    return [*found, _epochs(run)] if run.history else found


def run_title(config: Mapping[str, Any]) -> str:
    """The network and the data: `lenet5_modern on digits (scikit-learn)`."""
    name = config.get("architecture") or config.get("module", "")
    source = config.get("data", {}).get("source", "")
    if os.path.isabs(source):
        source = os.path.basename(source)
    return f"{name} on {source}" if name and source else name


def outcome(run: Run) -> dict[str, str]:
    """The best epoch's score and the run folder, by their labels."""
    folder = {"run folder": str(run.path)}
    if not run.history:
        return folder
    unit = _unit(run)
    value = f"{run.score * 100:.1f} %" if run.metric == "accuracy" else f"{run.score:.4f}"
    count = run.config.get("data", {}).get(f"val_{unit}")
    on = f"{count:,} validation {unit}" if count else "the validation data"
    epochs = f"epoch {run.best['epoch']} of {len(run.history)}"
    found = {run.metric: f"{value} of {on} ({epochs})"}
    report = run.report or {}
    if report.get("part") == "test" and "top1" in report:
        count = f"{report['images']:,} test {unit}"
        found["test accuracy"] = f"{report['top1']['accuracy']:.1f} % of {count}"
    elif report.get("selected"):
        found[run.metric] += f"; the {report['selected']} was chosen on the same {unit}"
    return {**found, **folder}


def _epochs(run: Run) -> Table:
    columns = {
        f"{word} {metric}": f"{part}_{metric}"
        for metric in dict.fromkeys(["loss", run.metric])
        for part, word in PARTS.items()
        if f"{part}_{metric}" in run.history[0]
    }
    rows = [
        [f"{which}: {record['epoch']}", *(f"{record[name]:.4f}" for name in columns.values())]
        for which, record in (("best", run.best), ("last", run.history[-1]))
    ]
    return Table(["epoch", *columns], rows, ["epoch"])


def _unit(run: Run) -> str:
    """What the data are counted in."""
    counted = (name for name in run.config.get("data", {}) if name.startswith("val_"))
    return next(counted, "val_examples").removeprefix("val_")

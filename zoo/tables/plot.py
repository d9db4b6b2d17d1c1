"""Pictures of a comparison, after A. Canziani, A. Paszke, E. Culurciello, *An Analysis
of Deep Neural Network Models for Practical Applications* (arXiv:1605.07678): accuracy
against operations with the parameters as area, accuracy per network, and parameters
against operations. The colour is the year.

Accuracies of different protocols are never in one panel; panels of one measure, such as
the top-5 accuracy on the same images, have the same axes.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence, Sized
from pathlib import Path

from zoo.errors import UsageError, check_choice, warn
from zoo.files import write
from zoo.formatting import some_of
from zoo.spec import Result
from zoo.tables.evaluation_protocols import Protocol, accuracy, choose, covering
from zoo.tables.panel_layout import MARGIN, Panel, Point
from zoo.tables.panels import STYLE, draw_panels
from zoo.tables.rows import Row, results

KINDS = ("operations", "accuracy", "parameters", "weights")
WEIGHTS_DATA = "ILSVRC-2012 val"  # that published weights are compared on
MOST_PANELS = 9
LETTERS = 15  # of the caption in an inch


def draw(rows: Sequence[Row], path: Path, kind: str, words: str) -> str:
    """Write the picture and return its caption; see `Comparison.plot`."""
    check_choice("Comparison.plot", "kind", kind, KINDS)
    form = path.suffix.lower().removeprefix(".")
    if form not in ("png", "svg"):
        raise UsageError(f"{path}: a picture is a .png or a .svg file")
    if kind == "parameters":
        panels, title, caption = _counted(rows, words)
    elif kind == "weights":
        panels, title, caption = _published(rows, words)
    else:
        panels, title, caption = _reported(rows, kind, words)

    import matplotlib as mpl

    out = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure, unnamed = draw_panels(panels, title, dots=kind == "accuracy")
        if unnamed:
            caption += f"; no room for {unnamed} names (give fewer networks)"
        width, height = figure.get_size_inches()
        text = textwrap.fill(caption, int(LETTERS * (width - 2 * MARGIN)))
        figure.text(MARGIN / width, MARGIN / height, text, fontsize=7.5)
        figure.savefig(out, format=form, metadata={"Date": None} if form == "svg" else None)
    write(path, out.getvalue())
    return caption


def _reported(rows: Sequence[Row], kind: str, words: str) -> tuple[list[Panel], str, str]:
    """The panels of reported accuracies, the picture's title and its caption."""
    known = results(rows)
    everything = covering(known) if not words else dict([choose(known, words)])
    if not everything:
        raise UsageError(
            "no error or accuracy is reported for these networks: the kind 'parameters' needs none"
        )
    chosen = _most_shared(everything)
    reporting = [row for row in rows if row.results]
    known_names, shown = set().union(*everything.values()), set().union(*chosen.values())
    silent = [row for row in rows if not (row.results and row.name in known_names)]
    rare = [row for row in reporting if row.name in known_names - shown]
    measures = {which.measure for which in chosen}
    panels = []
    for which, found in chosen.items():
        points = [
            Point(row, max(row.flops, 1), accuracy(found[row.name]))
            for row in reporting
            if row.name in found
        ]
        heading = [which.data, which.words] if len(measures) > 1 else [which.words]
        panels.append(Panel(points, heading, which.measure, f"{which.kind} accuracy, %"))
    what = next(iter(measures)) if len(measures) == 1 else "accuracy"
    title = what[0].upper() + what[1:]
    if kind == "operations":
        title += " against operations"
    caption = f"{_networks(shown)}, {what} as their papers report it"
    if len(chosen) == 1:
        caption += f" ({next(iter(chosen)).words})"
    else:
        caption += ": a panel per way of testing, as figures of different ones do not compare"
    return panels, title, caption + _left_out(silent, rare, next(iter(chosen)) if words else None)


def _published(rows: Sequence[Row], words: str) -> tuple[list[Panel], str, str]:
    """The panel of the accuracies of published weights, under one protocol."""
    known = {row.name: row.published for row in rows if row.published}
    if not known:
        raise UsageError("none of these networks has published weights with a known accuracy")
    which, found = choose(known, words or WEIGHTS_DATA)
    points = [
        Point(row, max(row.published_flops or row.flops, 1), accuracy(found[row.name]))
        for row in rows
        if row.name in found
    ]
    caption = (
        f"{_networks(found)}, {which.kind} accuracy of published weights on {which.data} as their "
        f"publishers report it ({which.words}, each with the preprocessing of its weights)"
    )
    if missing := [row.name for row in rows if row.name not in found]:
        caption += f"; left out: {len(missing)} without such weights"
        warn(f"left out, as no weights with {which} are published: {some_of(missing)}")
    panel = Panel(points, [], which.measure, f"{which.kind} accuracy, %")
    title = f"Published weights: {which.measure} against operations"
    return [panel], title, caption


def _networks(found: Sized) -> str:
    return f"{len(found)} network{'' if len(found) == 1 else 's'}"


def _most_shared(found: dict[Protocol, dict[str, Result]]) -> dict[Protocol, dict[str, Result]]:
    """As many panels as a picture has room for: those that add the most networks."""
    new: dict[Protocol, int] = {}
    seen: set[str] = set()
    for which, networks in found.items():
        new[which] = len(networks.keys() - seen)
        seen |= networks.keys()
    most = sorted(new, key=lambda which: -new[which])[:MOST_PANELS]
    return {which: networks for which, networks in found.items() if which in most}


def _left_out(silent: Sequence[Row], rare: Sequence[Row], which: Protocol | None) -> str:
    """The end of the caption, and a note with the names."""
    parts = []
    for rows, short, long in (
        (
            silent,
            "without a result of this protocol" if which else "without a reported accuracy",
            f"as their papers report no {which or 'accuracy'}",
        ),
        (rare, "of rarer protocols", "as only few share their protocols (give fewer networks)"),
    ):
        if rows:
            parts.append(f"{len(rows)} {short}")
            names = some_of([row.name for row in rows])
            warn(f"left out, {long}: {names}; kind 'parameters' shows all")
    return f"; left out: {', '.join(parts)}" if parts else ""


def _counted(rows: Sequence[Row], words: str) -> tuple[list[Panel], str, str]:
    """The panel of parameters against operations."""
    if words:
        _, found = choose(results(rows), words)
        rows = [row for row in rows if row.results and row.name in found]
    points = [Point(row, row.flops, row.params) for row in rows if row.flops and row.params]
    if not points:
        raise UsageError("none of these networks has parameters and operations to draw")
    caption = f"{_networks(points)}, each with one example of its own size"
    if missing := [row.name for row in rows if not (row.flops and row.params)]:
        caption += f"; left out: {len(missing)} without parameters or operations"
        warn(f"left out, as they have no parameters or no operations: {some_of(missing)}")
    panel = Panel(points, [], "parameters", "parameters", logarithmic=True)
    return [panel], "Parameters against operations", caption

"""The modules of one network as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from zoo.count.text import figure, markdown, mib, separated

if TYPE_CHECKING:
    from zoo.count.report import Profile, Row

LEFT = ("module", "kind")
OPTIONAL = (
    "kind",
    "FLOPs",
    "backward FLOPs",
    "backward other",
    "other",
    "parameters",
    "sees",
    "MiB kept",
    "output",
    "share",
)  # first to go
OPERATORS = ("operator", "status", "kind", "calls", "MACs", "other")
BAR = 8  # characters of a whole bar
EIGHTHS = " ▏▎▍▌▋▊▉"


def bar(share: float) -> str:
    """A share of 1 as a bar of BAR characters."""
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return f"{'█' * whole + EIGHTHS[eighths] * (whole < BAR):{BAR}}"


def columns(profile: Profile, bars: bool = False) -> dict[str, Callable[[Row], str]]:
    """The headers of the table with what makes a cell of a row; `bars`: with a bar
    beside each share of the MACs.
    """
    images = any(len(shape) > 2 for shape in profile.inputs)

    def share(row: Row) -> str:
        part = row.macs / profile.macs if profile.macs else 0
        return f"{bar(part)} {part:6.1%}" if bars else f"{part:.1%}"

    def sees(row: Row) -> str:
        return figure(row.receptive_field) or ("all" if images and row.calls else "")

    found: dict[str, Callable[[Row], str]] = {
        "module": lambda row: "  " * row.level + (row.path.rpartition(".")[2] or profile.name),
        "kind": lambda row: row.kind,
        "output": lambda row: figure(row.output),
        "parameters": lambda row: figure(row.params),
        "MACs": lambda row: figure(row.macs),
        "FLOPs": lambda row: figure(row.flops),
        "share": share,
        "other": lambda row: figure(row.other),
        "MiB kept": lambda row: mib(row.activation_bytes),
        "sees": sees,
    }
    if profile.mode == "train":
        found["backward MACs"] = lambda row: figure(row.backward_macs)
        found["backward FLOPs"] = lambda row: figure(row.backward_flops)
        found["backward other"] = lambda row: figure(row.backward_other)
    if any(row.mean is not None for row in profile.rows):
        found["mean"] = lambda row: "" if row.mean is None else f"{row.mean:.3g}"
        found["std"] = lambda row: "" if row.std is None else f"{row.std:.3g}"
        found["dead"] = lambda row: "" if row.dead is None else f"{row.dead:.1%}"
    return found


def shown(profile: Profile, depth: int | None = None) -> list[Row]:
    """The rows down to a level of the tree."""
    return [row for row in profile.rows if depth is None or row.level <= depth]


def cells(profile: Profile, depth: int | None = None, bars: bool = False) -> list[list[str]]:
    """The rows as text, a cell per column."""
    found = columns(profile, bars)
    return [[cell(row) for cell in found.values()] for row in shown(profile, depth)]


def to_markdown(profile: Profile, depth: int | None = None) -> str:
    rows = [
        [f"`{row.path or profile.name}`", *line[1:]]
        for row, line in zip(shown(profile, depth), cells(profile, depth), strict=True)
    ]
    return markdown(list(columns(profile)), rows, LEFT)


def to_csv(profile: Profile, depth: int | None = None) -> str:
    rows = [asdict(row) for row in shown(profile, depth)]
    return separated(rows[0], (row.values() for row in rows))


def operators(profile: Profile) -> list[list[str]]:
    """All operators that ran as text, a cell per entry of OPERATORS."""
    return [
        [
            each.name,
            each.status,
            each.kind.replace("free", ""),
            figure(each.calls),
            figure(each.macs),
            figure(each.other),
        ]
        for each in profile.operators
    ]


def totals(profile: Profile) -> list[str]:
    """What stands below the table, a line each."""
    lines = [str(profile), f"other operations: {kinds(profile.other)}"]
    if profile.mode == "train":
        lines.append(f"other operations of the backward pass: {kinds(profile.backward_other)}")
    lines.append(
        f"activations kept for a backward pass: {mib(profile.activation_bytes)} MiB ({profile.activation_bytes:,} bytes)"
    )
    status = [each.status for each in profile.operators]
    missing = "".join(
        f", {name} called {calls}x" for name, calls in profile.uncounted.items()
    ).removeprefix(", ")
    counts = f"{status.count('counted')} counted, {status.count('free')} free, {status.count('not counted')} not counted"
    return [*lines, f"operators: {counts}{f' ({missing})' * bool(missing)}"]


def kinds(other: Mapping[str, int]) -> str:
    """Operations by kind in one line."""
    parts = ", ".join(f"{kind} {count:,}" for kind, count in other.items())
    return f"{sum(other.values()):,} ({parts})" if other else "none"

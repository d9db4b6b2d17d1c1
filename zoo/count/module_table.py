"""The modules and the operators of one network as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from zoo.formatting import Printable, Table, figure, markdown, mib, separated

Shape = tuple[Any, ...]
Column = Callable[["Row"], str]

LEFT = ("module", "kind")
OPTIONAL = (  # first to go
    "kind",
    "FLOPs",
    "backward FLOPs",
    "backward other",
    "other",
    "parameters",
    "receptive field",
    "MiB saved",
    "output",
    "share",
)
OPERATORS = ("operator", "status", "kind", "calls", "MACs", "other")
OPERATORS_LEFT = ("operator", "status", "kind")
BAR = 8  # characters of a whole bar
EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True)
class Row:
    """One module. All numbers are those of the module and of all below it, in all
    calls.

    `activation_bytes`: made here and saved for a backward pass; views and in-place
    results once. `receptive_field`: pixels of the input that a value of the output
    depends on; None: all, or no image. `mean` and `std`: of the output's values over a
    batch of real numbers, None when not asked for; `dead`: the share of the ReLUs'
    units (of maps: channels) that gave 0 for all of that batch, None without ReLU.
    `gradient`: in training the norm of its parameters' gradient for that batch, and
    `update`: the norm of an optimizer's first step over that of the weights.
    """

    path: str  # "" is the whole network
    kind: str  # class name
    level: int  # in the tree; 0 is the whole network
    calls: int
    output: Shape  # of the last call, with the batch; of several tensors a tuple of shapes
    params: int  # shared ones once
    macs: int
    flops: int  # 2 x macs
    other: int  # operations that are no multiply-adds
    activation_bytes: int
    receptive_field: Shape | None
    backward_macs: int = 0
    backward_flops: int = 0
    backward_other: int = 0
    mean: float | None = None
    std: float | None = None
    dead: float | None = None
    gradient: float | None = None
    update: float | None = None


@dataclass(frozen=True)
class OperatorRow:
    """All calls of one operator. `kind` is that of its other operations, "free" for
    views and copies, "" when not counted.
    """

    name: str
    kind: str
    calls: int
    macs: int
    other: int

    @property
    def status(self) -> str:
        if not self.kind:
            return "not counted"
        return "free" if self.kind == "free" and not self.macs else "counted"


@dataclass(frozen=True, repr=False)
class ModuleTable(Printable):
    """Modules of one network, of which the first is the network itself.

    `images`: whether an input has more than a batch and a width; `backward` and
    `stats`: whether there are columns for them.
    """

    name: str
    rows: tuple[Row, ...]
    images: bool
    backward: bool
    stats: bool

    def columns(self, bars: bool = False) -> dict[str, Column]:
        """The headers with what makes a cell of a row; `bars`: with a bar beside each
        share of the MACs.
        """
        found: dict[str, Column] = {
            "module": lambda row: "  " * row.level + (row.path.rpartition(".")[2] or self.name),
            "kind": lambda row: row.kind,
            "output": lambda row: figure(row.output),
            "parameters": lambda row: figure(row.params),
            "MACs": lambda row: figure(row.macs),
            "FLOPs": lambda row: figure(row.flops),
            "share": lambda row: self._share(row, bars),
            "other": lambda row: figure(row.other),
            "MiB saved": lambda row: mib(row.activation_bytes),
            "receptive field": self._receptive_field,
        }
        if self.backward:
            found["backward MACs"] = lambda row: figure(row.backward_macs)
            found["backward FLOPs"] = lambda row: figure(row.backward_flops)
            found["backward other"] = lambda row: figure(row.backward_other)
        if self.stats:
            found["mean"] = lambda row: "" if row.mean is None else f"{row.mean:.3g}"
            found["std"] = lambda row: "" if row.std is None else f"{row.std:.3g}"
            found["dead"] = lambda row: "" if row.dead is None else f"{row.dead:.1%}"
        if self.stats and self.backward:
            found["gradient"] = lambda row: "" if row.gradient is None else f"{row.gradient:.3g}"
            found["update/weights"] = lambda row: "" if row.update is None else f"{row.update:.2g}"
        return found

    def _share(self, row: Row, bars: bool) -> str:
        whole = self.rows[0].macs
        share = row.macs / whole if whole else 0
        return f"{bar(share)} {share:6.1%}" if bars else f"{share:.1%}"

    def _receptive_field(self, row: Row) -> str:
        if row.receptive_field is None and self.images and row.calls:
            return "all"
        return figure(row.receptive_field)

    def cells(self, bars: bool = False) -> list[list[str]]:
        """The rows as text, a cell per column."""
        columns = self.columns(bars).values()
        return [[cell(row) for cell in columns] for row in self.rows]

    def sections(self, bars: bool = False) -> list[Table]:
        headers = list(self.columns())
        optional = [header for header in OPTIONAL if header in headers]
        return [Table(headers, self.cells(bars), LEFT, optional=optional)]

    def to_markdown(self) -> str:
        lines = [
            [f"`{row.path or self.name}`", *line[1:]]
            for row, line in zip(self.rows, self.cells(), strict=True)
        ]
        return markdown(list(self.columns()), lines, LEFT)

    def to_csv(self) -> str:
        """All fields of the rows: numbers without separators, shapes as 3x224x224."""
        names = [field.name for field in fields(Row)]
        return separated(names, (asdict(row).values() for row in self.rows))


@dataclass(frozen=True, repr=False)
class OperatorTable(Printable):
    """The operators that ran."""

    rows: tuple[OperatorRow, ...]

    def cells(self) -> list[list[str]]:
        """The rows as text, a cell per entry of OPERATORS."""
        return [
            [row.name, row.status, row.kind.replace("free", ""), *map(figure, numbers(row))]
            for row in self.rows
        ]

    def sections(self) -> list[Table]:
        return [Table(OPERATORS, self.cells(), OPERATORS_LEFT)]

    def to_markdown(self) -> str:
        return markdown(OPERATORS, self.cells(), OPERATORS_LEFT)

    def to_csv(self) -> str:
        records = ([row.name, row.status, row.kind, *numbers(row)] for row in self.rows)
        return separated(OPERATORS, records)


def numbers(row: OperatorRow) -> tuple[int, int, int]:
    return row.calls, row.macs, row.other


def bar(share: float) -> str:
    """A share of 1 as a bar of BAR characters."""
    whole, eighths = divmod(round(share * BAR * 8), 8)
    part = EIGHTHS[eighths] if whole < BAR else ""
    return f"{'█' * whole + part:{BAR}}"


def by_kind(other: Mapping[str, int]) -> str:
    """Operations by kind in one line."""
    parts = ", ".join(f"{kind} {count:,}" for kind, count in other.items())
    return f"{sum(other.values()):,} ({parts})" if other else "none"

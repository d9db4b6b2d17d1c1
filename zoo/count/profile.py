"""What was counted in one network, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from zoo.count.drop_path import disable_drop_path, expected_macs, keep_probabilities
from zoo.count.meta import shapes
from zoo.count.module_counts import Counts, ModuleCounts
from zoo.count.module_table import ModuleTable, OperatorRow, OperatorTable, Row, Shape, by_kind
from zoo.count.storage_log import StorageLog
from zoo.count.torch_internals import own_parameters
from zoo.count.tracker import Tracker
from zoo.count.workload import Workload, say_frozen, set_mode
from zoo.errors import warn
from zoo.formatting import Printable, Section, Table, figure, mib

DEPTH = 3  # levels of the module tree that are shown
STEPS_SHOWN = 12


@dataclass(frozen=True, repr=False)
class Profile(Printable):
    """Exact counts of one forward pass, or of a training step, for the whole batch.

    `macs`: multiply-adds of convolutions and matrix products, biases excluded; `flops`
    = 2 x `macs`; `other`: all other operations, by kind. The `backward_…` ones are 0
    unless mode is "train". `expected_macs`: of networks that leave parts out at random
    in training, the mean of a training step's forward pass, while all else counts every
    part as kept; None for others. `state_gradients`: of statistics of a training step,
    per recurrent module the norm of the gradient of its (last layer's) hidden state at
    each time step.
    `depth`: the most convolutions and matrix products on
    any path from input to output. `uncounted`: operators that nothing is known of, with
    their number of calls: the counts lack theirs.
    """

    name: str
    mode: str  # eval, or train: a forward and a backward pass
    inputs: tuple[Shape, ...]
    params: int
    macs: int
    flops: int
    other: Mapping[str, int]
    backward_macs: int
    backward_flops: int
    backward_other: Mapping[str, int]
    expected_macs: float | None
    activation_bytes: int  # that a backward pass needs; the input is not among them
    depth: int
    uncounted: Mapping[str, int]
    operators: tuple[OperatorRow, ...]
    rows: tuple[Row, ...]  # in tree order
    state_gradients: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self, depth: int | None = None) -> ModuleTable:
        """The modules, down to this level of the tree."""
        return ModuleTable(
            self.name,
            tuple(row for row in self.rows if depth is None or row.level <= depth),
            images=any(len(shape) > 2 for shape in self.inputs),
            backward=self.mode == "train",
            stats=any(row.mean is not None for row in self.rows),
        )

    def operator_table(self) -> OperatorTable:
        return OperatorTable(self.operators)

    def to_markdown(self, depth: int | None = None) -> str:
        """The modules as a table, down to this level of the tree."""
        return self.table(depth).to_markdown()

    def to_csv(self, depth: int | None = None) -> str:
        """All fields of the rows as comma-separated values: numbers without separators,
        shapes as 3x224x224.
        """
        return self.table(depth).to_csv()

    def totals(self) -> list[str]:
        """What stands below the table, a line each."""
        lines = [self.summary(), f"other operations: {by_kind(self.other)}"]
        if self.mode == "train":
            lines.append(f"other operations of the backward pass: {by_kind(self.backward_other)}")
        size = f"{mib(self.activation_bytes)} MiB ({self.activation_bytes:,} bytes)"
        lines.append(f"activations saved for a backward pass: {size}")
        status = [row.status for row in self.operators]
        kinds = ("counted", "free", "not counted")
        counts = ", ".join(f"{status.count(kind)} {kind}" for kind in kinds)
        missing = ", ".join(f"{name} called {calls}x" for name, calls in self.uncounted.items())
        return [*lines, f"operators: {counts}" + (f" ({missing})" if missing else "")]

    def sections(self, depth: int | None = None) -> list[Section]:
        """The modules down to this level of the tree, and the totals; by default three
        levels, and how many modules lie deeper.
        """
        lines = self.totals()
        if depth is None:
            depth = DEPTH
            deepest = max(row.level for row in self.rows)
            if hidden := sum(row.level > depth for row in self.rows):
                lines.append(f"{hidden} modules lie deeper: .table({deepest}) has them all")
        return [*self.table(depth).sections(), *self.step_tables(), "\n".join(lines)]

    def step_tables(self) -> list[Table]:
        """The gradient per time step, of long sequences at STEPS_SHOWN of them; a table
        per recurrent layer.
        """
        found = []
        for path, norms in self.state_gradients.items():
            last = len(norms) - 1
            shown = sorted({round(last * k / (STEPS_SHOWN - 1)) for k in range(STEPS_SHOWN)})
            rows = [[str(step + 1), f"{norms[step]:.3g}"] for step in shown]
            found.append(Table(["step", f"gradient of the state, {path or self.name}"], rows))
        return found

    def summary(self) -> str:
        """The totals in one line."""
        text = (
            f"{self.name}, input {', '.join(map(figure, self.inputs))}: {self.params:,} "
            f"parameters, {self.macs:,} MACs ({self.flops:,} FLOPs), "
            f"{self.depth} convolutions or matrix products deep"
        )
        if self.mode == "train":
            text += f"; backward pass: {self.backward_macs:,} MACs ({self.backward_flops:,} FLOPs)"
        if self.expected_macs is not None:
            text += f"; in training {self.expected_macs:,.0f} MACs on average, "
            text += "as parts are left out at random"
        return text


def profile_module(workload: Workload, mode: str = "eval") -> Profile:
    """Count a workload on the meta device. Its module is modified in place; pass a
    copy.

    `mode` "eval": one forward pass; "train": a training step, forward and backward,
    with every part that may be left out at random; see `set_mode`. Warns of operators
    that nothing is known of. Raises InputError when the module does not take the input.
    """
    model = workload.module
    say_frozen(workload.name, set_mode(model, mode))
    tracker = Tracker(model, workload.name, StorageLog())
    probabilities = keep_probabilities(tracker.modules)
    if mode == "train":
        disable_drop_path(model)
    tracker.register(workload.args, workload.kwargs)
    with torch.enable_grad():
        output = tracker.forward(workload.args, workload.kwargs)
        tracker.assign_saved()
        if mode == "train":
            trained = any(parameter.requires_grad for parameter in model.parameters())
            if not tracker.backward(output) and trained:
                warn(
                    f"{workload.name}: nothing in its output, a {type(output).__name__}, has a "
                    "gradient: there is no backward pass to count"
                )
    tracker.aggregate()
    sizes: dict[nn.Module, dict[int, int]] = {}
    rows = tuple(
        _row(counts, sum(_parameters(counts.module, sizes).values())) for counts in tracker.modules
    )
    whole, counts = rows[0], tracker.modules[0]
    operators = [
        OperatorRow(name, op.kind, op.calls, macs=op.macs, other=op.other)
        for name, op in tracker.operators.items()
    ]
    profile = Profile(
        name=workload.name,
        mode=mode,
        inputs=shapes((workload.args, dict(workload.kwargs))),
        params=whole.params,
        macs=whole.macs,
        flops=whole.flops,
        other=_ordered(counts.forward),
        backward_macs=whole.backward_macs,
        backward_flops=whole.backward_flops,
        backward_other=_ordered(counts.backward),
        expected_macs=expected_macs(tracker.modules, probabilities) if probabilities else None,
        activation_bytes=whole.activation_bytes,
        depth=tracker.depth,
        uncounted={row.name: row.calls for row in operators if not row.kind},
        operators=tuple(sorted(operators, key=lambda row: (-row.macs, -row.other, row.name))),
        rows=rows,
    )
    if profile.uncounted:
        missing = ", ".join(
            f"{name} (called {calls}x)" for name, calls in profile.uncounted.items()
        )
        warn(f"{profile.name}: the counts lack these operators, which are not known: {missing}")
    return profile


def _row(counts: ModuleCounts, params: int) -> Row:
    forward, backward = counts.forward, counts.backward
    return Row(
        path=counts.path,
        kind=type(counts.module).__name__,
        level=counts.level,
        calls=counts.calls,
        output=counts.output,
        params=params,
        macs=forward.macs,
        flops=2 * forward.macs,
        other=sum(forward.other.values()),
        activation_bytes=counts.saved,
        receptive_field=counts.receptive_field,
        backward_macs=backward.macs,
        backward_flops=2 * backward.macs,
        backward_other=sum(backward.other.values()),
    )


def _ordered(counts: Counts) -> dict[str, int]:
    """Other operations by kind, the most first."""
    return dict(sorted(counts.other.items(), key=lambda item: -item[1]))


def _parameters(module: nn.Module, known: dict[nn.Module, dict[int, int]]) -> dict[int, int]:
    """The parameters in a module and below it, by identity, with their numbers of
    values; `known` keeps them.
    """
    if module not in known:
        found = known[module] = {id(own): own.numel() for own in own_parameters(module)}
        for child in module.children():
            found |= _parameters(child, known)
    return known[module]

"""What was counted in one network, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn

from zoo.count import tree
from zoo.count.ledger import Ledger
from zoo.count.meta import shapes
from zoo.count.tracker import Counts, Node, Tracker

Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """One module. All numbers are those of the module and of all below it, in all
    calls.
    """

    path: str  # "" is the whole network
    kind: str  # class name
    level: int  # in the tree; 0 is the whole network
    calls: int
    output: Shape  # of the last call, with the batch; a tuple of shapes for several tensors; () when never called
    params: int  # shared ones once
    macs: int
    flops: int  # 2 x macs
    other: int  # operations that are no multiply-adds
    activation_bytes: int  # made here and kept for a backward pass; views and in-place results once
    receptive_field: (
        Shape | None
    )  # pixels of the input that one value of the output sees; None: all, or no image
    backward_macs: int = 0
    backward_flops: int = 0
    backward_other: int = 0
    mean: float | None = (
        None  # of the output's values over a batch of real numbers; None when not asked for
    )
    std: float | None = None
    dead: float | None = (
        None  # share of the ReLUs' units (of maps: channels) that gave 0 for all of that batch; None without ReLU
    )


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


@dataclass(frozen=True)
class Profile:
    """Exact counts of one forward pass, or of a training step, for the whole batch.

    `macs`: multiply-adds of convolutions and matrix products, biases excluded; `flops`
    = 2 x `macs`; `other`: all other operations, by kind. The `backward_…` ones are 0
    unless mode is "train". `expected_macs`: of networks that leave parts out at random
    in training, the mean of a training step's forward pass, while all else counts every
    part as kept; None for others. `depth`: the most convolutions and matrix products on
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
    operators: tuple[OperatorRow, ...] = field(repr=False)
    rows: tuple[Row, ...] = field(repr=False)  # in tree order

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def to_markdown(self, depth: int | None = None) -> str:
        """The modules as a table, down to this level of the tree."""
        return tree.to_markdown(self, depth)

    def to_csv(self, depth: int | None = None) -> str:
        """All fields of the rows as comma-separated values: numbers without separators,
        shapes as 3x224x224.
        """
        return tree.to_csv(self, depth)

    def __str__(self) -> str:
        sizes = ", ".join("x".join(map(str, shape)) for shape in self.inputs)
        text = (
            f"{self.name}, input {sizes}: {self.params:,} parameters, {self.macs:,} MACs ({self.flops:,} FLOPs), "
            f"{self.depth} convolutions or matrix products deep"
        )
        if self.mode == "train":
            text += f"; backward pass: {self.backward_macs:,} MACs ({self.backward_flops:,} FLOPs)"
        if self.expected_macs is not None:
            text += f"; in training {self.expected_macs:,.0f} MACs on average, as parts are left out at random"
        return text


def profile(
    model: nn.Module,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mode: str = "eval",
) -> Profile:
    """Count a model whose tensors and inputs are on the meta device and that is ours to
    use up.

    `mode` "eval": one forward pass; "train": a training step, forward and backward,
    with every part that may be left out at random. Raises InputError when the model
    does not take the input.
    """
    model.train(mode == "train")
    tracker = Tracker(model, name, Ledger())
    shares = training_shares(tracker.nodes)
    if mode == "train":
        keep_all(model)
    tracker.register(args, kwargs)
    with torch.enable_grad():
        output = tracker.forward(args, kwargs)
        tracker.keep()
        if mode == "train":
            tracker.backward(output)
    tracker.sum_up()
    sizes: dict[nn.Module, dict[int, int]] = {}
    rows = tuple(
        _row(node, sum(_parameters(node.module, sizes).values())) for node in tracker.nodes
    )
    whole, counts = rows[0], tracker.nodes[0]
    operators = [
        OperatorRow(name, op.kind, op.calls, op.macs, op.other)
        for name, op in tracker.operators.items()
    ]
    return Profile(
        name=name,
        mode=mode,
        inputs=shapes((args, dict(kwargs))),
        params=whole.params,
        macs=whole.macs,
        flops=whole.flops,
        other=ordered(counts.forward),
        backward_macs=whole.backward_macs,
        backward_flops=whole.backward_flops,
        backward_other=ordered(counts.backward),
        expected_macs=expected(tracker.nodes, shares) if shares else None,
        activation_bytes=whole.activation_bytes,
        depth=tracker.depth,
        uncounted={each.name: each.calls for each in operators if not each.kind},
        operators=tuple(sorted(operators, key=lambda each: (-each.macs, -each.other, each.name))),
        rows=rows,
    )


def _row(node: Node, params: int) -> Row:
    forward, backward = node.forward, node.backward
    return Row(
        path=node.path,
        kind=type(node.module).__name__,
        level=node.path.count(".") + 1 if node.path else 0,
        calls=node.calls,
        output=node.output,
        params=params,
        macs=forward.macs,
        flops=2 * forward.macs,
        other=sum(forward.other.values()),
        activation_bytes=node.kept,
        receptive_field=node.sees,
        backward_macs=backward.macs,
        backward_flops=2 * backward.macs,
        backward_other=sum(backward.other.values()),
    )


def ordered(counts: Counts) -> dict[str, int]:
    """Other operations by kind, the most first."""
    return dict(sorted(counts.other.items(), key=lambda item: -item[1]))


def keep_all(model: nn.Module) -> None:
    """Tell the layers that leave parts of the network out at random to leave out
    none.
    """
    for module in model.modules():
        if not isinstance(module, nn.Dropout) and callable(
            dropless := getattr(module, "dropless", None)
        ):
            dropless()


def training_shares(nodes: list[Node]) -> dict[str, float]:
    """Of parts that are left out at random in training: the share of the passes in
    which they run, by path.

    They come from the method `expected_shares` of the module that leaves them out, with
    paths from there.
    """
    shares: dict[str, float] = {}
    for node in nodes:
        if offered := getattr(node.module, "expected_shares", None):
            shares |= {
                f"{node.path}.{path}" if node.path else path: share
                for path, share in offered().items()
            }
    return shares


def expected(nodes: list[Node], shares: Mapping[str, float]) -> float:
    """The mean multiply-adds of a forward pass in training."""
    inside: dict[str, int] = {}
    for node in nodes[1:]:
        parent = node.path.rpartition(".")[0]
        inside[parent] = inside.get(parent, 0) + node.forward.macs
    weights = {"": 1.0}
    total = float(nodes[0].forward.macs - inside.get("", 0))
    for node in nodes[1:]:
        weights[node.path] = weights[node.path.rpartition(".")[0]] * shares.get(node.path, 1.0)
        total += weights[node.path] * (node.forward.macs - inside.get(node.path, 0))
    return total


def _parameters(module: nn.Module, known: dict[nn.Module, dict[int, int]]) -> dict[int, int]:
    """The parameters in a module and below it, by identity, with their numbers of
    values; `known` keeps them.
    """
    if module not in known:
        found = known[module] = {
            id(own): own.numel() for own in module._parameters.values() if own is not None
        }
        for child in module._modules.values():
            if child is not None:
                found |= _parameters(child, known)
    return known[module]

"""What was counted in one network, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from zoo.count.tracker import Tracker, shapes

Shape = tuple[Any, ...]


@dataclass(frozen=True)
class Row:
    """One module. `params`, `macs` and `flops` are those of the module and of all below it."""

    path: str  # "" is the whole network
    kind: str  # class name
    level: int  # in the tree; 0 is the whole network
    calls: int
    output: Shape  # of the last call, with the batch; a tuple of shapes for several tensors; () when never called
    params: int  # shared ones once
    macs: int  # of all calls
    flops: int


@dataclass(frozen=True)
class Profile:
    """Exact counts of one forward pass in evaluation mode, for the whole batch.

    `macs`: multiply-adds of convolutions and matrix products, biases excluded; `flops` = 2 x `macs`. `depth`: the most
    convolutions and matrix products on any path from input to output. `uncounted`: operators that ran and for which neither a
    formula nor the absence of multiply-adds is known, with their number of calls: `macs` lacks theirs.
    """

    name: str
    inputs: tuple[Shape, ...]
    params: int
    macs: int
    flops: int
    depth: int
    uncounted: Mapping[str, int]
    rows: tuple[Row, ...] = field(repr=False)  # in tree order

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        sizes = ", ".join("x".join(map(str, shape)) for shape in self.inputs)
        return (
            f"{self.name}, input {sizes}: {self.params:,} parameters, {self.macs:,} MACs ({self.flops:,} FLOPs), "
            f"{self.depth} convolutions or matrix products deep"
        )


def profile(model: nn.Module, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Profile:
    """Count one forward pass of a model whose tensors and inputs are on the meta device, in the mode that it is in.

    Raises InputError when the model does not take the input.
    """
    tracker = Tracker(model)
    tracker.run(name, args, kwargs)
    sizes: dict[nn.Module, dict[int, int]] = {}
    rows = tuple(
        Row(
            path=node.path,
            kind=type(node.module).__name__,
            level=node.path.count(".") + 1 if node.path else 0,
            calls=node.calls,
            output=node.output,
            params=sum(_parameters(node.module, sizes).values()),
            macs=node.macs,
            flops=2 * node.macs,
        )
        for node in tracker.nodes
    )
    inputs = shapes((args, dict(kwargs)))
    return Profile(name, inputs, rows[0].params, rows[0].macs, rows[0].flops, tracker.depth, dict(tracker.uncounted), rows)


def _parameters(module: nn.Module, known: dict[nn.Module, dict[int, int]]) -> dict[int, int]:
    """The parameters in a module and below it, by identity, with their numbers of values; `known` keeps them."""
    if module not in known:
        known[module] = {id(parameter): parameter.numel() for parameter in module.parameters(recurse=False)}
        for child in module.children():
            known[module] |= _parameters(child, known)
    return known[module]

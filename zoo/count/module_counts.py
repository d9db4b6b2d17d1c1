"""What was counted, by operator, by module and by call of a module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn


@dataclass(slots=True)
class Counts:
    """Operations of one pass: multiply-adds, and the others by kind."""

    macs: int = 0
    other: dict[str, int] = field(default_factory=dict)

    def add(self, macs: int, kind: str, other: int) -> None:
        self.macs += macs
        if other:
            self.other[kind] = self.other.get(kind, 0) + other

    def merge(self, counts: Counts) -> None:
        self.macs += counts.macs
        for kind, other in counts.other.items():
            self.other[kind] = self.other.get(kind, 0) + other


@dataclass(slots=True)
class OperatorCounts:
    """All calls of one operator, forwards and backwards. `kind` "": nothing is known of
    its cost.
    """

    kind: str
    calls: int = 0
    macs: int = 0
    other: int = 0


@dataclass(slots=True, eq=False)
class ModuleCall:
    """One call of a module. Its counts are its own until `aggregate`, then with those
    of the calls inside it.
    """

    owner: ModuleCounts  # of the module that is called
    parent: ModuleCall | None
    nested: bool = False  # inside another call of the same module
    forward: Counts = field(default_factory=Counts)
    backward: Counts = field(default_factory=Counts)
    saved: int = 0  # bytes


@dataclass(slots=True, eq=False)
class ModuleCounts:
    """What one module did in all its calls, with all that ran inside them; of a
    container that is never called, of its children.
    """

    path: str  # "" is the whole model
    module: nn.Module
    calls: int = 0
    running: int = 0  # calls of it that have not ended
    output: tuple[Any, ...] = ()  # shape, or shapes, of the last call
    receptive_field: tuple[int, ...] | None = None  # in pixels; None: all, or no image
    forward: Counts = field(default_factory=Counts)
    backward: Counts = field(default_factory=Counts)
    saved: int = 0  # bytes that the backward pass needs, of what was made here

    @property
    def level(self) -> int:
        """In the tree of modules; 0 is the whole model."""
        return self.path.count(".") + 1 if self.path else 0

    def merge(self, other: ModuleCounts | ModuleCall) -> None:
        self.forward.merge(other.forward)
        self.backward.merge(other.backward)
        self.saved += other.saved


def aggregate(modules: Sequence[ModuleCounts], calls: Sequence[ModuleCall]) -> None:
    """At the end of a pass: add to each call those inside it, and to each module its
    calls. Both come in the order in which they begin, from the outside in.
    """
    for call in reversed(calls):
        if call.parent:
            call.parent.forward.merge(call.forward)
            call.parent.backward.merge(call.backward)
            call.parent.saved += call.saved
        if not call.nested:
            call.owner.merge(call)
    known = {counts.module: counts for counts in modules}
    for counts in reversed(modules):
        if not counts.calls:  # lists of layers and the like are never called themselves
            for child in counts.module.children():
                if child in known:
                    counts.merge(known[child])

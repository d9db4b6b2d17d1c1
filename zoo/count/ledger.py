"""The life of every storage in a pass."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from zoo.count.tracker import Frame


@dataclass(slots=True, eq=False)
class Block:
    """One storage: its size in bytes, the call in which it was made, and in which
    phase; `alive` until it is freed.
    """

    size: int
    frame: Frame | None
    phase: str
    label: str = ""
    alive: bool = True


class Ledger:
    """The life of every storage: `events` in order, each a block and whether it is made
    (True) or freed.
    """

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.events: list[tuple[Block, bool]] = []
        self._known: dict[int, tuple[Block, Any]] = {}

    def see(self, tensor: Tensor, frame: Frame | None, phase: str, label: str = "") -> Block:
        """Enter the tensor's storage, unless it is known, and follow it from now on."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        known = self._known.get(address)
        if known:
            known[0].label = label or known[0].label
            return known[0]
        block = Block(storage.nbytes(), frame, phase, label)
        self.blocks.append(block)
        self.events.append((block, True))
        self._known[address] = block, weakref.ref(storage, partial(self._freed, address, block))
        return block

    def close(self) -> None:
        """Follow nothing any more. Without it everything seen, the model too, waits for
        Python's garbage collector, which is slow.
        """
        self._known.clear()

    def _freed(self, address: int, block: Block, _: Any) -> None:
        del self._known[address]
        block.alive = False
        self.events.append((block, False))

"""The life of every storage in a pass."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from zoo.count.torch_internals import storage_address, storages


@dataclass(slots=True, eq=False)
class StorageRecord:
    """One storage: its size in bytes, the call in which it was made (whatever object
    stands for one), and in which phase; `alive` until it is freed.
    """

    size: int
    call: Any
    phase: str
    label: str = ""
    alive: bool = True


class StorageLog:
    """The life of every storage: `events` in order, each a record and whether it is
    made (True) or freed.
    """

    def __init__(self) -> None:
        self.records: list[StorageRecord] = []
        self.events: list[tuple[StorageRecord, bool]] = []
        self._known: dict[int, tuple[StorageRecord, Any]] = {}

    def record(self, tensor: Tensor, call: Any, phase: str, label: str = "") -> None:
        """Enter a tensor's storages, unless they are known: several of a sparse one. A
        label replaces the one that they have.
        """
        for storage in storages(tensor):
            self._record(storage, call, phase, label)

    def _record(self, storage: Any, call: Any, phase: str, label: str) -> None:
        address = storage_address(storage)
        known = self._known.get(address)
        size, before = storage.nbytes(), None
        if known:
            before = known[0]
            before.label = label or before.label
            if before.size == size:
                return
        made = StorageRecord(size, call, phase, before.label if before else label)
        self.records.append(made)
        self.events.append((made, True))
        if before:  # resized: its bytes moved to where there is room
            self._freed(address, before, None)
        self._known[address] = made, weakref.ref(storage, partial(self._freed, address, made))

    def close(self) -> None:
        """Follow nothing any more. Without it everything recorded, the model too, waits
        for Python's garbage collector, which is slow.
        """
        self._known.clear()

    def _freed(self, address: int, record: StorageRecord, _: Any) -> None:
        del self._known[address]
        record.alive = False
        self.events.append((record, False))

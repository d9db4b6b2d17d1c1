"""torch's caching allocator of a GPU, as far as sizes are concerned: what it rounds up
to, and what it takes from the card.

The rules are those of c10/cuda/CUDACachingAllocator.cpp with its default settings:
blocks of up to 1 MiB come from segments of 2 MiB, blocks of up to 10 MiB from segments
of 20 MiB, larger ones from a segment of their own size in steps of 2 MiB; the smallest
free block that fits is taken, and what is left of it is split off; neighbours that are
both free become one.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MIB = 2**20
SMALL = MIB  # largest block of the small pool
ROUND = 512


def rounded(size: int, device: str) -> int:
    """Bytes that a storage takes."""
    return max(ROUND, -(-size // ROUND) * ROUND) if device == "cuda" and size else size


def replay(events: Iterable[tuple[Any, bool]], capacity: int | None = None) -> int | None:
    """The most bytes that the allocator takes from the card for storages that are made
    and freed; None when they do not fit into it.
    """
    allocator = Allocator(capacity)
    try:
        for storage, made in events:
            if storage.size and made:
                allocator.allocate(storage, storage.size)
            elif storage.size:
                allocator.free(storage)
    except OutOfMemory:
        return None
    return allocator.peak


@dataclass(slots=True, eq=False)
class Block:
    """A part of a segment."""

    size: int
    small: bool
    order: int  # in place of the address
    free: bool = True
    before: Block | None = None
    after: Block | None = None

    @property
    def key(self) -> tuple[int, int]:
        return self.size, self.order


class OutOfMemory(Exception):
    pass


class Allocator:
    """Follows storages through segments. `reserved`: bytes of all segments; `peak`: the
    most there were; `capacity`: the card's, or None.

    Raises OutOfMemory where a storage does not fit, even after the segments that are
    wholly free have been given back.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.reserved = 0
        self.peak = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._blocks: dict[int, Block] = {}
        self._used: dict[object, Block] = {}
        self._orders = 0

    def allocate(self, storage: object, size: int) -> None:
        size = rounded(size, "cuda")
        small = size <= SMALL
        pool = self._free[small]
        place = bisect_left(pool, (size, 0))
        cached = self._blocks[pool.pop(place)[1]] if place < len(pool) else None
        block = cached or self._segment(size, small)
        if block.size - size >= (ROUND if small else SMALL + 1):
            self._split(block, size)
        block.free = False
        self._used[storage] = block

    def free(self, storage: object) -> None:
        block = self._used.pop(storage)
        block.free = True
        for other in (block.before, block.after):
            if other and other.free:
                self._remove(other)
                first, second = (other, block) if other is block.before else (block, other)
                block = self.merge(first, second)
        insort(self._free[block.small], block.key)

    def _segment(self, size: int, small: bool) -> Block:
        wanted = 2 * MIB
        if not small:
            wanted = 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        if self.capacity is not None and self.reserved + wanted > self.capacity:
            self.release_cached_blocks()
            if self.reserved + wanted > self.capacity:
                raise OutOfMemory
        self.reserved += wanted
        self.peak = max(self.peak, self.reserved)
        return self._new_block(wanted, small)

    def _new_block(self, size: int, small: bool) -> Block:
        self._orders += 1
        block = self._blocks[self._orders] = Block(size, small, self._orders)
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = self._new_block(block.size - size, block.small)
        block.size = size
        rest.before, rest.after = block, block.after
        if block.after:
            block.after.before = rest
        block.after = rest
        insort(self._free[block.small], rest.key)

    def merge(self, first: Block, second: Block) -> Block:
        """Two free neighbours as one."""
        first.size += second.size
        first.free = True
        first.after = second.after
        if second.after:
            second.after.before = first
        del self._blocks[second.order]
        return first

    def _remove(self, block: Block) -> None:
        pool = self._free[block.small]
        del pool[bisect_left(pool, block.key)]

    def release_cached_blocks(self) -> None:
        """Give back the segments that are wholly free."""
        for pool in self._free.values():
            whole = [
                self._blocks[order]
                for _, order in pool
                if not self._blocks[order].before and not self._blocks[order].after
            ]
            for block in whole:
                self._remove(block)
                del self._blocks[block.order]
                self.reserved -= block.size

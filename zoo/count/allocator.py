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
    """The most bytes that the allocator takes from the card for blocks that are made
    and freed; None when they do not fit into it.
    """
    allocator = Allocator(capacity)
    try:
        for block, made in events:
            if block.size:
                allocator.allocate(block, block.size) if made else allocator.free(block)
    except OutOfMemory:
        return None
    return allocator.peak


@dataclass(slots=True, eq=False)
class Piece:
    """A part of a segment."""

    size: int
    small: bool
    order: int  # in place of the address
    free: bool = True
    before: Piece | None = None
    after: Piece | None = None

    @property
    def key(self) -> tuple[int, int]:
        return self.size, self.order


class OutOfMemory(Exception):
    pass


class Allocator:
    """Follows blocks through segments. `reserved`: bytes of all segments; `peak`: the
    most there were; `capacity`: the card's, or None.

    Raises OutOfMemory where a block does not fit, even after the segments that are
    wholly free have been given back.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.reserved = 0
        self.peak = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._pieces: dict[int, Piece] = {}
        self._used: dict[object, Piece] = {}
        self._orders = 0

    def allocate(self, block: object, size: int) -> None:
        size = rounded(size, "cuda")
        small = size <= SMALL
        pool = self._free[small]
        place = bisect_left(pool, (size, 0))
        piece = (
            self._pieces[pool.pop(place)[1]] if place < len(pool) else self._segment(size, small)
        )
        if piece.size - size >= (ROUND if small else SMALL + 1):
            self._split(piece, size)
        piece.free = False
        self._used[block] = piece

    def free(self, block: object) -> None:
        piece = self._used.pop(block)
        piece.free = True
        for other in (piece.before, piece.after):
            if other and other.free:
                self._remove(other)
                piece = (
                    self._join(other, piece) if other is piece.before else self._join(piece, other)
                )
        insort(self._free[piece.small], piece.key)

    def _segment(self, size: int, small: bool) -> Piece:
        wanted = (
            2 * MIB if small else 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB
        )
        if self.capacity is not None and self.reserved + wanted > self.capacity:
            self._give_back()
            if self.reserved + wanted > self.capacity:
                raise OutOfMemory
        self.reserved += wanted
        self.peak = max(self.peak, self.reserved)
        return self._piece(wanted, small)

    def _piece(self, size: int, small: bool) -> Piece:
        self._orders += 1
        piece = self._pieces[self._orders] = Piece(size, small, self._orders)
        return piece

    def _split(self, piece: Piece, size: int) -> None:
        rest = self._piece(piece.size - size, piece.small)
        piece.size = size
        rest.before, rest.after = piece, piece.after
        if piece.after:
            piece.after.before = rest
        piece.after = rest
        insort(self._free[piece.small], rest.key)

    def _join(self, first: Piece, second: Piece) -> Piece:
        first.size += second.size
        first.free = True
        first.after = second.after
        if second.after:
            second.after.before = first
        del self._pieces[second.order]
        return first

    def _remove(self, piece: Piece) -> None:
        pool = self._free[piece.small]
        del pool[bisect_left(pool, piece.key)]

    def _give_back(self) -> None:
        for pool in self._free.values():
            whole = [
                self._pieces[order]
                for _, order in pool
                if not self._pieces[order].before and not self._pieces[order].after
            ]
            for piece in whole:
                self._remove(piece)
                del self._pieces[piece.order]
                self.reserved -= piece.size

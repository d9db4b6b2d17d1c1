"""Just enough of protocol buffers to find tensors in a message: fields one after the
other, without a schema and without copying.

Wire types: 0 varint, 1 eight bytes, 2 bytes with their length, 5 four bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5


class Malformed(ValueError):
    """The bytes are no message."""


def fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of each field in order; a value of varying length is a
    view. Raises Malformed.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise Malformed("a field has the number 0")
        if kind == VARINT:
            value, place = varint(message, place)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, place = varint(message, place)
        elif kind in (EIGHT, FOUR):
            size = 8 if kind == EIGHT else 4
        else:
            raise Malformed(f"a field has the unknown type {kind}")
        if size > end - place:
            raise Malformed(f"a field claims {size:,} bytes, {end - place:,} are left")
        yield number, kind, message[place : place + size]
        place += size


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer of seven bits per byte, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, place
    raise Malformed("an integer has no end")


def integers(kind: int, value: int | memoryview) -> Iterator[int]:
    """The integers of a repeated field, packed or single."""
    if isinstance(value, int):
        yield value
    elif kind == BYTES:
        place = 0
        while place < len(value):
            number, place = varint(value, place)
            yield number


def text(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise Malformed("a name is a number")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise Malformed("a name is no text") from error


def submessage(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise Malformed("a message is a number")
    return value


def numbers(views: list[memoryview], dtype: torch.dtype) -> Tensor:
    """A tensor of its own of little-endian numbers that lie in pieces."""
    if len(views) == 1 and len(views[0]) % dtype.itemsize == 0:
        return torch.frombuffer(bytearray(views[0]), dtype=dtype) if views[0] else _none(dtype)
    joined = bytearray().join(views)
    if len(joined) % dtype.itemsize:
        raise Malformed(f"{len(joined):,} bytes are no numbers of {dtype.itemsize}")
    return torch.frombuffer(joined, dtype=dtype) if joined else _none(dtype)


def _none(dtype: torch.dtype) -> Tensor:
    return torch.empty(0, dtype=dtype)


@contextmanager
def mapped(path: Path, what: str) -> Iterator[memoryview]:
    """The file's bytes, as they are used; a fault in them becomes one WeightsError."""
    try:
        with path.open("rb") as file:  # the map ends with the last view of it
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise WeightsError(f"{path}: not a readable {what}: {error}") from error
    try:
        yield view
    except Malformed as error:
        raise WeightsError(f"{path}: not a readable {what}: {error}") from None

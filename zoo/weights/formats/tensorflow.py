"""A TensorFlow checkpoint (V2) without TensorFlow: a tar of its `.index`, a LevelDB
table of names, and its one `.data` file with the numbers.

A table ends in a footer of 48 bytes with the places of its blocks; a block has sorted
keys, each as what differs from the one before. BundleEntryProto: dtype 1, shape 2
(TensorShapeProto: dim 2, of which size 1), shard 3, offset 4, size 5.
"""

from __future__ import annotations

import math
import tarfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.formats.protobuf import Malformed, fields, integers, submessage, text, varint

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
FOOTER, TRAILER = 48, 5  # bytes; a block's trailer: kind of compression, checksum
DTYPES = {1: torch.float32, 2: torch.float64, 3: torch.int32, 9: torch.int64, 19: torch.float16}
OPTIMIZER = ("/Adam", "/Adam_1", "/Momentum", "/RMSProp", "/RMSProp_1", "/Adagrad")


def read_tf_checkpoint(path: Path) -> dict[str, Tensor]:
    """The variables by name, without the optimizer's and without single numbers, which
    count steps and the like. Raises WeightsError.
    """
    index, data = _files(path)
    found: dict[str, Tensor] = {}
    try:
        for name, entry in _table(memoryview(index)):
            if name and not name.endswith(OPTIMIZER):
                tensor = _tensor(name, entry, data)
                if tensor.ndim:
                    found[name] = tensor
    except Malformed as error:
        raise WeightsError(f"{path}: not a readable TensorFlow checkpoint: {error}") from None
    if not found:
        raise WeightsError(f"{path}: not a readable TensorFlow checkpoint: it has no variables")
    return found


def _files(path: Path) -> tuple[bytes, bytes]:
    try:
        with tarfile.open(path, "r:") as tar:
            members = {member.name: member for member in tar if member.isfile()}
            (index,) = [each for name, each in members.items() if name.endswith(".index")]
            (data,) = [each for name, each in members.items() if ".data-00000-of-00001" in name]
            opened = [tar.extractfile(each) for each in (index, data)]
            contents = [file.read() if file else b"" for file in opened]
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise WeightsError(
            f"{path}: not a tar of one checkpoint's .index and .data-00000-of-00001: {error}"
        ) from error
    return contents[0], contents[1]


def _table(table: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Keys and values of a table."""
    if len(table) < FOOTER or table[-8:] != MAGIC:
        raise Malformed("its index is no table")
    footer = table[-FOOTER:]
    _, place = _handle(footer, 0)  # of the metaindex, which is not needed
    index, _ = _handle(footer, place)
    for _, value in _block(table, index):
        block, _ = _handle(value, 0)
        for key, entry in _block(table, block):
            yield text(memoryview(key)), entry


def _handle(message: memoryview, place: int) -> tuple[tuple[int, int], int]:
    offset, place = varint(message, place)
    size, place = varint(message, place)
    return (offset, size), place


def _block(table: memoryview, handle: tuple[int, int]) -> Iterator[tuple[bytes, memoryview]]:
    offset, size = handle
    if offset + size + TRAILER > len(table):
        raise Malformed("its index points behind its end")
    if table[offset + size]:
        raise Malformed("its index is compressed")
    block = table[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end = size - 4 * (restarts + 1)
    if end < 0:
        raise Malformed("a block of its index is too short")
    place, key = 0, b""
    while place < end:
        shared, place = varint(block, place)
        own, place = varint(block, place)
        length, place = varint(block, place)
        if shared > len(key) or place + own + length > end:
            raise Malformed("an entry of its index is too long")
        key = key[:shared] + bytes(block[place : place + own])
        place += own
        yield key, block[place : place + length]
        place += length


def _tensor(name: str, entry: memoryview, data: bytes) -> Tensor:
    known: dict[int, int] = {}
    shape: list[int] = []
    for number, kind, value in fields(entry):
        if isinstance(value, int):
            known[number] = value
        elif number == 2:
            shape = [_size(submessage(dim)) for key, _, dim in fields(value) if key == 2]
        elif number == 7 and kind == 2:
            raise Malformed(f"{name!r} is kept in slices")
    dtype = DTYPES.get(known.get(1, 0))
    if dtype is None:
        raise Malformed(f"{name!r} has the type {known.get(1, 0)}, which no weights have")
    offset, size = known.get(4, 0), known.get(5, 0)
    if known.get(3) or offset + size > len(data) or math.prod(shape) * dtype.itemsize != size:
        raise Malformed(f"{name!r} has {size:,} bytes for the shape {shape}")
    if not size:
        return torch.empty(shape, dtype=dtype)
    piece = bytearray(data[offset : offset + size])
    return torch.frombuffer(piece, dtype=dtype).reshape(shape)


def _size(dim: memoryview) -> int:
    sizes = [each for key, kind, value in fields(dim) if key == 1 for each in integers(kind, value)]
    return sizes[0] if sizes else 0

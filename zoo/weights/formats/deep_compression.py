"""SqueezeNet v1.0 as Deep Compression packs it (Han et al. 2016): pruned, and each
weight one of 256 of its layer. Little endian, 26 layers in the order of the network:

1. 26 uint32: the number k of stored entries per layer;
2. per layer the 256 float32 of its codebook (entry 0: every weight that is not stored),
   its biases as float32, k uint8 (index into the codebook of each stored entry), and
   ceil(k / 2) uint8 of two gaps each, low half first: the stored entries lie at
   cumsum(gap + 1) - 1 of the flattened (out, in, y, x).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError

ENTRIES = 256


def layers() -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Name and shape (out, in, y, x) of each layer, as SqueezeNet v1.0 has them."""
    yield "conv1", (96, 3, 7, 7)
    inputs = 96
    for number, squeeze in zip(range(2, 10), (16, 16, 32, 32, 48, 48, 64, 64), strict=True):
        expand = 4 * squeeze
        yield f"fire{number}.squeeze1x1", (squeeze, inputs, 1, 1)
        yield f"fire{number}.expand1x1", (expand, squeeze, 1, 1)
        yield f"fire{number}.expand3x3", (expand, squeeze, 3, 3)
        inputs = 2 * expand
    yield "conv10", (1000, 512, 1, 1)


def read_deep_compression(path: Path) -> dict[str, Tensor]:
    """`<layer>.weight` and `<layer>.bias`. Raises WeightsError."""
    table = list(layers())
    try:
        content = bytearray(path.read_bytes())
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror or error}") from error
    reader = _Reader(path, content)
    counts = reader.take(len(table), torch.int32).tolist()
    for (name, shape), count in zip(table, counts, strict=True):
        if not 0 <= count <= math.prod(shape):
            raise reader.fault(f"{name} claims {count:,} entries of {math.prod(shape):,}")
    stored = sum(count + (count + 1) // 2 for count in counts)
    expected = stored + 4 * sum(ENTRIES + shape[0] for _, shape in table)
    if reader.left != expected:
        raise reader.fault(f"its layers take {expected:,} bytes, {reader.left:,} are there")
    found = {}
    for (name, shape), count in zip(table, counts, strict=True):
        size = math.prod(shape)
        codebook = reader.take(ENTRIES, torch.float32)
        found[f"{name}.bias"] = reader.take(shape[0], torch.float32)
        codes = reader.take(count, torch.uint8).long()
        packed = reader.take((count + 1) // 2, torch.uint8)
        gaps = torch.stack((packed & 15, packed >> 4), 1).flatten()[:count].long()
        places = (gaps + 1).cumsum(0) - 1
        if count and int(places[-1]) >= size:
            raise reader.fault(f"{name} has an entry behind its end")
        weight = codebook[0].repeat(size)
        weight[places] = codebook[codes]
        found[f"{name}.weight"] = weight.reshape(shape)
    return found


class _Reader:
    def __init__(self, path: Path, content: bytearray) -> None:
        self.path, self.content, self.place = path, content, 0

    @property
    def left(self) -> int:
        return len(self.content) - self.place

    def fault(self, words: str) -> WeightsError:
        return WeightsError(f"{self.path}: not a Deep Compression file of SqueezeNet: {words}")

    def take(self, count: int, dtype: torch.dtype) -> Tensor:
        size = count * dtype.itemsize
        if size > self.left:
            raise self.fault(f"it ends after {len(self.content):,} bytes")
        place, self.place = self.place, self.place + size
        if not count:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(self.content, dtype=dtype, count=count, offset=place).clone()

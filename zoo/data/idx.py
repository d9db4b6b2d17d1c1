"""The IDX files of MNIST and of the sets made like it: a header of big-endian numbers,
then the bytes (LeCun, Cortes and Burges).
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import DataError

BYTES = 8  # the kind of data that these sets have


def read_idx(path: Path) -> Tensor:
    """The uint8 tensor in a file, or in the one with `.gz` beside it. Raises
    DataError.
    """
    packed = path.with_name(f"{path.name}.gz")
    try:
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', '') or error}") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != BYTES:
        raise DataError(f"{path} is no IDX file of bytes")
    count = content[3]
    shape = [int.from_bytes(content[4 + 4 * n : 8 + 4 * n], "big") for n in range(count)]
    start = 4 + 4 * count
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path} is damaged: {len(content) - start:,} bytes for {'x'.join(map(str, shape))}"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).view(shape)

"""Raw little-endian float32, a file per tensor, packed as a tar: `<layer>_<which>.bin`.

There are no shapes in it: a layout says them.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError

SUFFIX = ".bin"
LARGEST = 1 << 31  # bytes of one tensor
END = 1024  # zeros that a tar ends with, at least


def read_raw_float32(path: Path) -> dict[str, Tensor]:
    """One-dimensional tensors by the name of their file, below the folder `weights`,
    without `.bin`. Raises WeightsError.
    """
    found: dict[str, Tensor] = {}
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - END))
            if any(file.read()):
                raise ValueError("it ends too early")
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = member.name.partition("/weights/")[2]
                if not name.endswith(SUFFIX) or not member.isfile():
                    continue
                if member.size % 4 or member.size > min(size, LARGEST):
                    raise ValueError(f"{name} has {member.size:,} bytes")
                content = tar.extractfile(member)
                read = content.read() if content else b""
                if len(read) != member.size or not read:
                    raise ValueError(f"{name} ends too early")
                found[name.removesuffix(SUFFIX)] = torch.frombuffer(
                    bytearray(read), dtype=torch.float32
                )
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise WeightsError(f"{path}: not a readable tar of raw weights: {error}") from error
    if not found:
        raise WeightsError(f"{path}: not a readable tar of raw weights: no weights/*.bin in it")
    return found

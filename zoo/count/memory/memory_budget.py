"""How many bytes a step may take."""

from __future__ import annotations

import os
import re

import torch

from zoo.errors import UsageError, warn

UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
# Of a card's memory: assumptions, as both differ from card to card.
DRIVER_RESERVE = 640 * 2**20  # for the driver's context
LIBRARY_RESERVE = 160 * 2**20  # for workspaces of cuBLAS and cuDNN


MAX_GIB = 4096  # a number without a unit: up to here GiB, as no card has so few bytes


def available_bytes(memory: str | float, device: str) -> int:
    """Bytes for tensors in a memory of this size ("24GiB", "80GB", a number of bytes,
    or of GiB where it is no larger than MAX_GIB, which is said), or in what is free now
    ("auto").

    Raises UsageError for what is no size, and for "auto" without a GPU.
    """
    if memory == "auto":
        return _free_now(device)
    size = _bytes(memory)
    return size - DRIVER_RESERVE - LIBRARY_RESERVE if device == "cuda" else size


def _free_now(device: str) -> int:
    if device == "cpu":
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return int(0.8 * free)  # the rest is for the data and the system
    if not torch.cuda.is_available():
        raise UsageError(
            "memory='auto' asks the GPU, and there is none: give its size, as in memory='24GiB', "
            "or device='cpu'"
        )
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return torch.cuda.mem_get_info()[0] + cached - LIBRARY_RESERVE


def _bytes(memory: str | float) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(memory))
    if not found or (found[2] and found[2].upper() not in UNITS) or not float(found[1]):
        raise UsageError(f"memory={memory!r}: give a size such as '24GiB' or '80GB', or 'auto'")
    number, unit = float(found[1]), found[2].upper()
    if not unit and number <= MAX_GIB:
        warn(f"memory={memory!r} is taken as {found[1]} GiB")
        unit = "GIB"
    return int(number * UNITS[unit or "B"])

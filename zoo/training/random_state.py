"""The random state of a process, as a checkpoint holds it."""

from __future__ import annotations

import random
from typing import Any

import torch

State = dict[str, Any]


def random_state() -> State:
    """That of torch on the CPU and the GPUs, of Python and of numpy, as tensors and
    numbers.
    """
    import numpy

    drawn: Any = numpy.random.get_state(legacy=True)
    kind, keys, place, has_gauss, gauss = drawn
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(words), next_gauss],
        "numpy": [kind, torch.tensor(keys.astype(numpy.int64)), place, has_gauss, gauss],
    }


def set_random_state(state: State) -> None:
    """Go on drawing where `random_state` was taken."""
    import numpy

    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    version, words, next_gauss = state["python"]
    random.setstate((version, tuple(words), next_gauss))
    kind, keys, place, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype(numpy.uint32), place, has_gauss, gauss))

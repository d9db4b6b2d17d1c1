"""To try a network before it is trained, without a trace."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from zoo.training.environment import seeded


@contextmanager
def as_before(batches: Any) -> Iterator[None]:
    """Every generator that a pass over the data and the network may draw from is
    afterwards as before, a DataLoader's own included; inside, torch's begins at 0.
    """
    numpy = sys.modules.get("numpy.random")
    states = random.getstate(), numpy.get_state() if numpy else None
    found = getattr(batches, "generator", None)  # of a DataLoader
    own = found if isinstance(found, torch.Generator) else torch.Generator()
    kept = own.get_state()
    try:
        with seeded(0):
            yield
    finally:
        random.setstate(states[0])
        if numpy:
            numpy.set_state(states[1])
        own.set_state(kept)

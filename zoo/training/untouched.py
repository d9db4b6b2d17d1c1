"""To try a network before it is trained, without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from zoo.training.random_state import random_state, set_random_state


@contextmanager
def as_before(batches: Any) -> Iterator[None]:
    """Every generator that a pass over the data and the network may draw from is
    afterwards as before, a DataLoader's own included; inside, torch's begins at 0.
    """
    state = random_state()
    found = getattr(batches, "generator", None)  # of a DataLoader
    own = found if isinstance(found, torch.Generator) else torch.Generator()
    kept = own.get_state()
    try:
        torch.manual_seed(0)
        yield
    finally:
        set_random_state(state)
        own.set_state(kept)

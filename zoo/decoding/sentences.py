"""What decoding gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sentences:
    """`tokens` (N, T) without the end, PAD behind it; `scores` (N,), the sum of the
    log-probabilities, the end's included; `attention` (N, T, L) of each token, where
    the network has one.
    """

    tokens: Tensor
    scores: Tensor
    attention: Tensor | None = None

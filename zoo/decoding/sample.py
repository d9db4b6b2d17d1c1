"""Drawing sentences of whole batches at random, on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.sentences import Sentences
from zoo.errors import InputError
from zoo.inputs import PAD


@torch.no_grad()
def sample(
    model: Any,
    memory: Any,
    *,
    end: int | None,
    max_length: int = 20,
    temperature: float = 1.0,
    top_k: int = 0,
    generator: torch.Generator | None = None,
    each: Callable[[Tensor], None] = lambda tokens: None,
) -> Sentences:
    """Words drawn by their probabilities, the logits over `temperature`, of the `top_k`
    likeliest only (0: of all). `each(tokens)` is called with every step's (N,).
    """
    if temperature <= 0 or top_k < 0:
        raise InputError(f"temperature={temperature}, top_k={top_k}: need numbers above 0")
    logits, state = model.start(memory)
    going = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    score = logits.new_zeros(len(logits))
    said = []
    for length in range(1, max_length + 1):
        cut = logits / temperature
        if top_k:
            least = cut.topk(min(top_k, cut.shape[1]), 1).values[:, -1:]
            cut = cut.masked_fill(cut < least, -math.inf)
        words = torch.multinomial(cut.softmax(1), 1, generator=generator)[:, 0]
        score += logits.log_softmax(1).gather(1, words[:, None])[:, 0] * going
        going = going & (words != end) if end is not None else going
        said.append(words.masked_fill(~going, PAD))
        each(said[-1])
        if length == max_length or not going.any():
            break
        logits, state = model.step(words, state)
    tokens = torch.stack(said, 1)
    longest = int((tokens != PAD).sum(1).max())
    return Sentences(tokens[:, :longest], score)

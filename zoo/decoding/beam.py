"""Beam search of whole batches, on the device."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zoo.decoding.sentences import Sentences
from zoo.errors import InputError
from zoo.inputs import PAD


@torch.no_grad()
def beam_search(
    model: Any,
    memory: Any,
    *,
    end: int,
    width: int = 3,
    max_length: int = 20,
    length_power: float = 0.0,
) -> Sentences:
    """The best of `width` hypotheses of each row of `memory`. One that has ended leaves
    the beam, which is then narrower (Xu et al. 2015, released code); what has not ended
    after `max_length` tokens counts as it is. Chosen is by the score over the number of
    tokens, the end included, to the power `length_power`. `width` 1 is greedy.
    """
    if width < 1 or max_length < 1:
        raise InputError(f"width={width}, max_length={max_length}: need whole numbers from 1 on")
    logits, state = model.start(memory)
    count, vocabulary = logits.shape
    device = logits.device
    rows = torch.arange(count, device=device)
    state = model.select(state, rows.repeat_interleave(width))
    log_p = logits.log_softmax(1)[:, None].expand(-1, width, -1)  # (N, k, V)
    alive = torch.full((count, width), -math.inf, device=device, dtype=log_p.dtype)
    alive[:, 0] = 0
    tokens = torch.full((count, width, 0), PAD, device=device)
    looked = _attention(state, count, width)
    ended = _Ended(count, max_length, length_power, log_p, looked)
    for length in range(1, max_length + 1):
        room = width - ended.number  # (N,), hypotheses that have not ended
        scores = (alive[..., None] + log_p).flatten(1)  # (N, k V)
        best, places = scores.topk(min(width, scores.shape[1]), 1)  # (N, k)
        if best.shape[1] < width:
            missing = width - best.shape[1]
            best = torch.nn.functional.pad(best, (0, missing), value=-math.inf)
            places = torch.nn.functional.pad(places, (0, missing))
        best = best.masked_fill(torch.arange(width, device=device) >= room[:, None], -math.inf)
        parents, words = places // vocabulary, places % vocabulary
        tokens = torch.cat([_chosen(tokens, parents), words[..., None]], 2)  # (N, k, length)
        if looked is not None:
            looked = _chosen(looked, parents)
        stops = (words == end) & best.isfinite()
        ended.add(stops, best, tokens, looked, length)
        alive = best.masked_fill(words == end, -math.inf)
        if length == max_length or not alive.isfinite().any():
            break
        state = model.select(state, (parents + width * rows[:, None]).flatten())
        logits, state = model.step(words.flatten(), state)
        log_p = logits.log_softmax(1).view(count, width, vocabulary)
        if looked is not None:
            looked = torch.cat([looked, _attention(state, count, width)], 2)  # type: ignore[list-item]
    ended.add(alive.isfinite(), alive, tokens, looked, tokens.shape[2], whole=False)
    return ended.best()


def _attention(state: Any, count: int, width: int) -> Tensor | None:
    """Of the last step, (N, k, 1, L)."""
    found = getattr(state, "attention", None)
    return None if found is None else found.view(count, width, 1, -1)


def _chosen(each: Tensor, parents: Tensor) -> Tensor:
    """Of (N, k, …) the rows of these hypotheses (N, k)."""
    index = parents.view(*parents.shape, *[1] * (each.ndim - 2)).expand(-1, -1, *each.shape[2:])
    return each.gather(1, index)


class _Ended:
    """The best hypothesis so far of each image."""

    def __init__(
        self, count: int, length: int, power: float, like: Tensor, looked: Tensor | None
    ) -> None:
        device = like.device
        self.power = power
        self.number = torch.zeros(count, dtype=torch.long, device=device)
        self.value = torch.full((count,), -math.inf, device=device, dtype=like.dtype)
        self.score = self.value.clone()
        self.tokens = torch.full((count, length), PAD, device=device)
        self.looked = None
        if looked is not None:
            self.looked = looked.new_zeros(count, length, looked.shape[3])

    def add(
        self,
        which: Tensor,
        scores: Tensor,
        tokens: Tensor,
        looked: Tensor | None,
        length: int,
        whole: bool = True,
    ) -> None:
        """Hypotheses (N, k) that have ended; `whole`: with the end as last token."""
        self.number += which.sum(1)
        values = (scores / length**self.power).masked_fill(~which, -math.inf)
        value, place = values.max(1)
        better = value > self.value
        rows, chosen = better.nonzero()[:, 0], place[better]
        said = length - 1 if whole else length
        self.value[rows], self.score[rows] = value[rows], scores[rows, chosen]
        self.tokens[rows] = PAD
        self.tokens[rows, :said] = tokens[rows, chosen, :said]
        if self.looked is not None and looked is not None:
            self.looked[rows] = 0
            self.looked[rows, :said] = looked[rows, chosen, :said]

    def best(self) -> Sentences:
        longest = int((self.tokens != PAD).sum(1).max()) if self.tokens.numel() else 0
        looked = None if self.looked is None else self.looked[:, :longest]
        return Sentences(self.tokens[:, :longest], self.score, looked)

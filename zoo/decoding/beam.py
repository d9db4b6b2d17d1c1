"""Beam search of whole batches, on the device.

A state has a row per hypothesis. Rows are packed when a quarter of them has ended, and
only what the steps change is carried from hypothesis to hypothesis: the memory is the
same for all of an image. The host waits for the device once per step.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.decoding.sentences import Sentences
from zoo.errors import InputError
from zoo.inputs import PAD

USED = 0.75  # of the rows: with fewer they are packed


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
    after `max_length` tokens, the end included, counts as it is. Chosen is by the score
    over the number of tokens, the end included, to the power `length_power`. `width` 1
    is greedy. Of equal hypotheses the one that ended first is chosen, then that of the
    better parent.

    Raises InputError for numbers that make no search, and for logits that are NaN.
    """
    if width < 1 or max_length < 1 or not length_power >= 0:
        raise InputError(
            f"width={width}, max_length={max_length}, length_power={length_power}: expected whole "
            "numbers from 1 on, and a power from 0 on"
        )
    logits, state = model.start(memory)
    count, device = len(logits), logits.device
    dtype = torch.promote_types(logits.dtype, torch.float32)
    slots = width * torch.arange(count, device=device)  # (M,), of the rows: width * image + rank
    scores = torch.zeros(count, width, dtype=dtype, device=device)
    best = _Best(scores, length_power)
    kept = set(state._fields)  # parts that no step has changed
    steps: list[_Step] = []
    for length in range(1, max_length + 1):
        step = _continued(logits.log_softmax(1, dtype), scores, slots, width - best.ended, end)
        looked = getattr(state, "attention", None)
        steps.append(step if looked is None else step._replace(looked=looked[step.rows]))
        best.update(step.scores.masked_fill(~step.stops, -math.inf), length, step.stops.sum(1))
        scores = step.scores.masked_fill(step.stops, -math.inf)
        if length == max_length:
            best.update(scores, length)
            break
        # Scores only fall: an image is done when nothing that goes on can be the best.
        hopeless = scores[:, :1] / max_length**length_power <= best.values[:, None]
        scores = scores.masked_fill(hopeless, -math.inf)
        going = scores.isfinite().flatten()
        wanted, held = torch.stack([going.sum(), going[slots].sum()]).tolist()  # the host waits
        if not wanted:
            break
        if held < wanted or wanted < USED * len(slots):
            slots = going.nonzero()[:, 0]
            state = model.select(state, step.rows.flatten()[slots])
        elif len(kept) < len(state):
            moved = model.select(state._replace(**dict.fromkeys(kept)), step.rows.flatten()[slots])
            state = moved._replace(**{name: getattr(state, name) for name in kept})
        logits, after = model.step(step.words.flatten()[slots], state)  # (M, V)
        kept = {name for name in kept if getattr(after, name) is getattr(state, name)}
        state = after
    return best.sentences(steps, end)


class _Step(NamedTuple):
    """The hypotheses of one length, those that go on first, then by falling score."""

    scores: Tensor  # (N, k), -inf where there is none
    words: Tensor  # (N, k), the last ones
    parents: Tensor  # (N, k), ranks a step before
    rows: Tensor  # (N, k), of the parents in the state
    stops: Tensor  # (N, k), whether the last word is the end
    looked: Tensor | None = None  # (N, k, L), attention of the last word


def _continued(log_p: Tensor, scores: Tensor, slots: Tensor, room: Tensor, end: int) -> _Step:
    """The best hypotheses with one word more, `room` (N,) many, from log_p (M, V)."""
    count, width = scores.shape
    rows = slots.new_zeros(count * width)  # of each slot
    rows[slots] = torch.arange(len(slots), device=slots.device)
    offered = min(width, log_p.shape[1])  # words of each row
    # max, not topk: of equal words the first, as argmax
    gains, words = log_p.max(1, keepdim=True) if offered == 1 else log_p.topk(offered, 1)
    sums = scores.new_full((count * width, offered), -math.inf)
    sums[slots] = scores.flatten()[slots, None] + gains
    sums, places = sums.view(count, width * offered).sort(dim=1, descending=True, stable=True)
    sums, places = sums[:, :width], places[:, :width]  # (N, k)
    ranks = torch.arange(width, device=slots.device)
    sums = sums.masked_fill(ranks >= room[:, None], -math.inf)
    parents = places // offered
    sources = rows.view(count, width).gather(1, parents)
    chosen = words[sources, places % offered]
    stops = (chosen == end) & sums.isfinite()
    order = stops.int().argsort(dim=1, stable=True)
    return _Step(*(each.gather(1, order) for each in (sums, chosen, parents, sources, stops)))


class _Best:
    """The best whole hypothesis so far of each image: its length, and its rank among
    those of that length.
    """

    def __init__(self, scores: Tensor, power: float) -> None:
        self.power = power
        self.values = torch.full_like(scores[:, 0], -math.inf)  # (N,), by which it is chosen
        self.scores = self.values.clone()
        self.ended = torch.zeros_like(self.values, dtype=torch.long)  # hypotheses of each image
        self.lengths, self.ranks = self.ended.clone(), self.ended.clone()

    def update(self, scores: Tensor, length: int, ended: Tensor | int = 0) -> None:
        """Scores (N, k) of hypotheses of `length` tokens, -inf of those that go on."""
        self.ended += ended
        values, ranks = (scores / length**self.power).max(1)
        better = values > self.values
        self.values = torch.where(better, values, self.values)
        self.scores = torch.where(better, scores.gather(1, ranks[:, None])[:, 0], self.scores)
        self.lengths = self.lengths.masked_fill(better, length)
        self.ranks = torch.where(better, ranks, self.ranks)

    def sentences(self, steps: list[_Step], end: int) -> Sentences:
        """What each best one says, read from its last word to the first."""
        for row in torch.stack([step.scores.isnan().any(1) for step in steps]).any(0).nonzero():
            raise InputError(
                f"beam search: the logits of row {int(row)} of the batch are NaN: look for NaN in "
                "its features and in the weights"
            )
        words, looked = [], []
        ranks = self.ranks[:, None]  # (N, 1)
        for length in range(len(steps), 0, -1):
            step, inside = steps[length - 1], length <= self.lengths[:, None]
            last = step.words.gather(1, ranks)
            said = inside & (last != end)
            words.append(last.masked_fill(~said, PAD))
            if step.looked is not None:
                own = step.looked[torch.arange(len(ranks), device=ranks.device), ranks[:, 0]]
                looked.append(own * said)
            ranks = torch.where(inside, step.parents.gather(1, ranks), ranks)
        tokens = torch.cat(words[::-1], 1)  # (N, T)
        longest = int((tokens != PAD).sum(1).max()) if len(tokens) else 0
        attention = torch.stack(looked[::-1], 1)[:, :longest] if looked else None
        return Sentences(tokens[:, :longest], self.scores, attention)

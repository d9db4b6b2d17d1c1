"""The average of the weights over the last steps."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of all floating-point parameters and buffers, in a
    network of its own, `module`. The first steps count more: the decay is at most
    (1 + n) / (10 + n) after n of them, or the random initial weights would stay.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.module = deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mean, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), share)
            else:
                mean.copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"steps": self.steps, "module": self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]

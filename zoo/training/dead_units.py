"""ReLUs that give 0 for every example: seen through the hooks of ReLU modules."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class DeadUnits:
    """Watches the ReLU modules of a network from now on until `remove`. A module that
    is called several times in a pass has the units of each call.
    """

    def __init__(self, model: nn.Module) -> None:
        self._alive: dict[str, list[Tensor]] = {}  # by path, a mask of units per call
        self._calls: dict[str, int] = {}
        self._signal = any(isinstance(module, nn.Conv1d) for module in model.modules())
        self._handles = [model.register_forward_pre_hook(self._begin)]
        for path, module in model.named_modules():
            if isinstance(module, (nn.ReLU, nn.ReLU6)):
                self._handles.append(module.register_forward_hook(partial(self._see, path)))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def shares(self) -> dict[str, float]:
        """The share of dead units (of maps: channels) per module, in the order in which
        they were called.
        """
        masks = {path: torch.cat(each) for path, each in self._alive.items()}
        return {path: 1 - int(alive.sum()) / len(alive) for path, alive in masks.items()}

    def _begin(self, module: nn.Module, args: Any) -> None:
        self._calls.clear()

    def _see(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor) or output.ndim < 2:
            return
        unit = -1 if output.ndim == 3 and not self._signal else 1
        alive = output.detach().ne(0).movedim(unit, 0).flatten(1).any(1)
        call = self._calls[path] = self._calls.get(path, -1) + 1
        masks = self._alive.setdefault(path, [])
        if call == len(masks):
            masks.append(alive)
        elif len(masks[call]) == len(alive):
            masks[call] = masks[call] | alive

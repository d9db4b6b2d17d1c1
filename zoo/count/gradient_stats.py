"""What a training step does to a network's numbers: the norm of each module's
gradient, how far an optimizer's first step moves its weights, and the gradient of the
hidden state at each time step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from zoo.count.memory.predict import default_loss
from zoo.count.module_table import Row
from zoo.count.profile import Profile
from zoo.errors import warn
from zoo.formatting import some_of

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


class StateGradients:
    """Keeps the hidden states of a network's recurrent layers, one per time step, for
    their gradients. It runs torch's layers step by step in place of the whole sequence.
    """

    def __init__(self, model: nn.Module) -> None:
        self.steps: dict[str, list[list[Tensor]]] = {}  # by path; a step's tensors
        self.left_out: dict[str, None] = {}
        for path, module in model.named_modules():
            if isinstance(module, nn.RNNBase) and module.bidirectional:
                self.left_out[path] = None
            elif isinstance(module, nn.RNNBase):
                whole = partial(self._by_steps, path, module, module.forward)
                module.forward = whole
            elif isinstance(module, nn.RNNCellBase):
                module.register_forward_hook(partial(self._see_cell, path))

    def norms(self) -> dict[str, tuple[float, ...]]:
        """After the backward pass: the norm per step, over the batch."""
        return {path: tuple(map(_norm_of_step, steps)) for path, steps in self.steps.items()}

    def say_left_out(self, name: str) -> None:
        if self.left_out:
            paths = some_of([path or name for path in self.left_out])
            warn(
                f"{name}: no gradient per time step of {paths}: bidirectional layers and packed "
                "sequences are not run step by step"
            )

    def _by_steps(
        self,
        path: str,
        module: nn.RNNBase,
        forward: Callable[..., Any],
        given: Any,
        state: Any = None,
    ) -> Any:
        if isinstance(given, PackedSequence):
            self.left_out[path] = None
            return forward(given, state)
        time = 1 if module.batch_first and given.ndim == 3 else 0
        outputs = []
        for part in given.split(1, time):
            output, state = forward(part, state)
            outputs.append(output)
            self._keep(path, [state[0] if isinstance(state, tuple) else state, output])
        return torch.cat(outputs, time), state

    def _see_cell(self, path: str, module: nn.Module, args: Any, output: Any) -> None:
        self._keep(path, [output[0] if isinstance(output, tuple) else output])

    def _keep(self, path: str, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if tensor.requires_grad:
                tensor.retain_grad()
        self.steps.setdefault(path, []).append(tensors)


def _norm_of_step(tensors: list[Tensor]) -> float:
    """Of the last layer's hidden state, which is the output, too: the two are one
    value, and their gradients add up. Lower layers' go on inside a call, unseen.
    """
    state, *output = tensors
    total = torch.zeros_like(state) if state.grad is None else state.grad
    if not output:
        return float(total.norm())
    own = output[0].grad
    last = total[-1] if own is None else total[-1] + own.view_as(total[-1])
    return float(last.norm())


def with_gradients(
    profile: Profile,
    model: nn.Module,
    output: Any,
    states: StateGradients,
    loss: Callable[[Any], Tensor] | None,
    make_optimizer: MakeOptimizer,
) -> Profile:
    """The profile with `gradient` and `update` of every row that has parameters, from
    the backward pass of `output` and a step of the optimizer, which changes the model.
    """
    objective = (loss or default_loss)(output)
    trained = [each for each in model.parameters() if each.requires_grad]
    if objective is None or not objective.requires_grad:
        return profile
    objective.backward()  # type: ignore[no-untyped-call]
    states.say_left_out(profile.name)
    profile = replace(profile, state_gradients=states.norms())
    if not trained:
        return profile
    before = {id(each): each.detach().clone() for each in trained}
    make_optimizer(model).step()
    modules = dict(model.named_modules())
    rows = (_row(row, modules.get(row.path), before) for row in profile.rows)
    return replace(profile, rows=tuple(rows))


def _row(row: Row, module: nn.Module | None, before: Mapping[int, Tensor]) -> Row:
    own = [each for each in module.parameters() if id(each) in before] if module else []
    if not own:
        return row
    weights = _norm(before[id(each)] for each in own)
    moved = _norm(each.detach() - before[id(each)] for each in own)
    return replace(
        row,
        gradient=_norm(each.grad for each in own if each.grad is not None),
        update=moved / weights if weights else None,
    )


def _norm(tensors: Iterable[Tensor]) -> float:
    return sqrt(sum(float(each.double().square().sum()) for each in tensors))

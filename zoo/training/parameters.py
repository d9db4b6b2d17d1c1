"""Which parameters are trained, and how."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.errors import InputError


def decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weights, which decay, and the rest, which does not: biases, batch norms, and what
    the network's `no_weight_decay()` names. Raises InputError without any parameter
    that requires a gradient.
    """
    spared: set[str] = getattr(model, "no_weight_decay", set)()
    decaying: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and name not in spared
            (decaying if decays else rest).append(parameter)
    if not decaying and not rest:
        raise InputError(
            f"{type(model).__name__} has no parameter that requires a gradient: "
            "nothing can be trained"
        )
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": rest, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]

"""What an optimizer trains: rates by layer group, and no decay of biases and norms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from zoo.count.meta import unwrapped
from zoo.errors import InputError
from zoo.optimizers import OPTIMIZERS, check_rates, make_optimizer
from zoo.training.recipe import Recipe
from zoo.transfer.groups import layer_groups

TRAINED_RATE = 0.2  # of an optimizer's own rate, for weights that are trained already
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def param_groups(
    model: nn.Module,
    lr: float | None = None,
    lr_decay: float | None = None,
    weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Parameters for an optimizer; see `zoo.param_groups`."""
    check_rates("adamw", lr, weight_decay, lr_decay)
    if lr_decay is not None and lr is None:
        raise InputError(f"lr_decay={lr_decay} lowers a rate: give lr=…, that of the head, too")
    model = unwrapped(model)
    if not any(each.requires_grad for each in model.parameters()):
        raise InputError(
            f"{type(model).__name__} has no parameter that requires a gradient: "
            "nothing can be trained"
        )
    spared = _without_decay(model)
    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    found: list[dict[str, Any]] = []
    for rate, group in _rates(model, lr, lr_decay):
        trained = [each for each in group.parameters() if each.requires_grad]
        decaying = [each for each in trained if id(each) not in spared]
        rest = [each for each in trained if id(each) in spared]
        found += [
            {"params": decaying, **rate, **decay},
            {"params": rest, **rate, "weight_decay": 0.0},
        ]
    return [group for group in found if group["params"]]


def at_its_rate(recipe: Recipe, trained: bool) -> Recipe:
    """The recipe with the rate of its optimizer where it names none, of which weights
    that are `trained` already get a part.
    """
    if recipe.lr is not None or not trained:
        return recipe
    return replace(recipe, lr=TRAINED_RATE * OPTIMIZERS[recipe.optimizer].lr)


def recipe_optimizer(recipe: Recipe, model: nn.Module, **options: Any) -> torch.optim.Optimizer:
    """The optimizer of a recipe for what is trained of a network; `options` (`lr`,
    `weight_decay`, …) take the place of the recipe's.
    """
    lr = options.pop("lr", recipe.lr) or OPTIMIZERS[recipe.optimizer].lr
    decay = options.pop("weight_decay", recipe.weight_decay)
    groups = param_groups(model, lr, recipe.lr_decay)
    return make_optimizer(
        recipe.optimizer, groups, lr, decay, **{**recipe.optimizer_options(), **options}
    )


def _rates(
    model: nn.Module, lr: float | None, lr_decay: float | None
) -> list[tuple[dict[str, Any], nn.Module]]:
    """What is trained at one rate, with what its parameter groups say of it."""
    if lr is None or lr_decay is None:
        return [({} if lr is None else {"lr": lr}, model)]
    groups = layer_groups(model)
    return [
        ({"name": name, "lr": lr * lr_decay**depth}, group)
        for depth, (name, group) in enumerate(reversed(groups.items()))
    ]


def _without_decay(model: nn.Module) -> set[int]:
    """The identities of biases, norms and what networks spare: their
    `no_weight_decay()`, as ours and timm's have it.
    """
    spared = {id(each) for each in model.parameters() if each.ndim < 2}
    for module in model.modules():
        own = getattr(module, "no_weight_decay", None)
        named = set(own()) if callable(own) else set()
        norm = isinstance(module, NORMS)
        spared |= {id(each) for name, each in module.named_parameters() if norm or name in named}
    return spared

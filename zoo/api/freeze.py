"""Freezing a part of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from zoo.api.source import require_module

if TYPE_CHECKING:
    from torch import nn

Module = TypeVar("Module", bound="nn.Module")


def freeze(model: Module, until: str | None = None, *, last: int | None = None) -> Module:
    """Freeze the layer groups of a module up to and including `until`, or all but the
    `last` N (the head counts as one); by default the whole body, all but the head.
    Returns the module, which is changed in place.

    `model`: a network of zoo, timm or torchvision, or any module; `zoo.layer_groups`
    names its groups. Its frozen parameters require no gradient. All that comes before
    the first layer that is trained is in evaluation mode and stays so when `.train()`
    is called: batch norms keep their statistics, dropout is off, and an image has the
    same features each time. The head is never frozen, auxiliary heads neither.

    What is frozen already stays so; `zoo.unfreeze` takes all of it back. Wrap for
    several processes afterwards. A state dict does not hold what is frozen.

    Raises UsageError for a group that there is not, with the nearest names, and where
    the groups cannot be told.
    """
    from zoo.transfer.freeze import freeze_groups

    freeze_groups(require_module(model, "freeze"), until, last)
    return model


def unfreeze(model: Module) -> Module:
    """Take back every `zoo.freeze` of a module: its parameters require gradients again
    where they did before, and its modules follow `.train()`. Returns the module.
    """
    from zoo.transfer.freeze import unfreeze_groups

    unfreeze_groups(require_module(model, "unfreeze"))
    return model

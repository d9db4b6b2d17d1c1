"""The layer groups of a network, and an optimizer's rates by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.api.source import require_module

if TYPE_CHECKING:
    from torch import nn


def layer_groups(model: nn.Module) -> dict[str, nn.Module]:
    """The parts of a module that `zoo.freeze`, learning rates by group and
    `zoo.features` go by: names and modules in order from input to head, each parameter
    in exactly one.

    The groups of timm's and torchvision's networks are their stages, those of any other
    module its own `layer_groups()`, or its children in the order in which they were
    registered. Several modules that make one group are in a ModuleList. The last group
    is "head" where there is one; it has the auxiliary heads, too. A norm behind a stage
    belongs to it.

    Raises UsageError where the order cannot be told, and for a parameter that two
    groups share.
    """
    from zoo.transfer.groups import layer_groups

    return layer_groups(require_module(model, "layer_groups"))


def param_groups(
    model: nn.Module,
    lr: float | None = None,
    *,
    lr_decay: float | None = None,
    weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer of torch: no weight decay on biases, norms and
    what the network's `no_weight_decay()` names; frozen parameters are left out.

    `lr_decay`, above 0 and up to 1: the rate of a layer group over that of the one
    after it. The head, first in the list, has the rate `lr`; each group says its `name`
    and `lr`. Without it there is one rate. What is None is the optimizer's own.

    Raises InputError for other values, without any parameter that requires a gradient,
    and where `lr_decay` has no `lr`; UsageError where the layer groups cannot be told.
    """
    from zoo.transfer.param_groups import param_groups

    return param_groups(require_module(model, "param_groups"), lr, lr_decay, weight_decay)

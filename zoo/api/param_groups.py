"""The layer groups of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

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

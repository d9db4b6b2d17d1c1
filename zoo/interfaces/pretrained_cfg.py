"""timm's description of a network, under the names that its readers ask for."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zoo.spec import Preprocessing

if TYPE_CHECKING:
    from zoo.interfaces.classifier import Classifier


def pretrained_cfg(model: Classifier) -> dict[str, Any]:
    """The input, head and first convolution of a network that `zoo.create` made; {} for
    another one. `url` is that of its published weights, under their publisher's key
    names; None where it has none.
    """
    if model.origin is None or model.image is None or model.preprocessing is None:
        return {}
    first = (name for name, each in model.named_modules() if isinstance(each, nn.Conv2d))
    smallest = model.image.min_size
    return {
        **model.preprocessing.to_dict(),
        "url": None,
        **model.origin.published,
        "architecture": model.origin.architecture,
        "tag": model.origin.tag,
        "num_classes": model.num_classes,
        "min_input_size": (model.in_chans, smallest, smallest),
        "fixed_input_size": model.image.fixed,
        "pool_size": model.last_map_size,  # what a global pool covers
        "first_conv": next(first, None),
        "classifier": "head",
    }


@torch.no_grad()
def last_map_size(
    features: nn.Module, preprocessing: Preprocessing | None
) -> tuple[int, int] | None:
    """Height and width of the last map for an image of the default size, by a copy
    without numbers; None where the size or a copy is not to be had.
    """
    if preprocessing is None:
        return None
    held = [*features.parameters(), *features.buffers()]
    try:
        copied = copy.deepcopy(features, {id(each): each.to("meta") for each in held}).eval()
    except RuntimeError:  # a tensor that torch does not copy, as of an old weight norm
        return None
    for module in copied.modules():  # hooks of the user are not for shapes
        module._forward_pre_hooks.clear()
        module._forward_hooks.clear()
    x = torch.empty(1, *preprocessing.input_size, device="meta", dtype=held[0].dtype)
    height, width = copied(x).shape[2:]
    return int(height), int(width)

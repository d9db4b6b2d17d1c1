"""A new last layer for other classes, and what input a network takes: for any
module.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError, UsageError

DEFAULT_INPUT = {  # of a module that says nothing: ImageNet's, as in torchvision and timm
    "input_size": (3, 224, 224),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bilinear",
}


def input_config(model: nn.Module, size: int | tuple[int, ...] | None = None) -> dict[str, Any]:
    """The input that a network takes, as in timm's `pretrained_cfg`: `input_size` (C,
    H, W), `mean`, `std`, crop and interpolation.

    `size` overrides height and width (an int or (H, W)), or all three (C, H, W).
    Channels are those of the first convolution.
    """
    known = getattr(model, "pretrained_cfg", None) or {}
    cfg = {key: known.get(key, default) for key, default in DEFAULT_INPUT.items()}
    channels, *own = cfg["input_size"]
    wanted = (size, size) if isinstance(size, int) else tuple(size or own)
    if len(wanted) == 3:
        channels = wanted[0]
    elif first := next(
        (module for module in model.modules() if isinstance(module, nn.Conv2d)), None
    ):
        channels = first.in_channels
    if not 2 <= len(wanted) <= 3 or min(wanted) < 1:
        raise InputError(
            f"input_size={size}: needs a number of pixels, (height, width) or (channels, height, width)"
        )
    if channels != len(cfg["mean"]):
        cfg["mean"], cfg["std"] = (
            (sum(cfg[key]) / len(cfg[key]),) * channels for key in ("mean", "std")
        )
    return cfg | {"input_size": (channels, *wanted[-2:])}


def fit_head(model: nn.Module, num_classes: int, images: Tensor) -> nn.Module:
    """Give the network `num_classes` outputs: by its own `reset_classifier`, else by a
    new last layer; one that fits stays.

    `images` (N, C, H, W) is a batch to try it on. Returns the network, which is another
    module only where it is itself the last layer. Raises UsageError when the output is
    no (N, num_classes) afterwards.
    """
    if hasattr(model, "reset_classifier"):
        if getattr(model, "num_classes", None) != num_classes:
            model.reset_classifier(num_classes)  # type: ignore[operator]
    elif output_shape(model, images)[1:] != (num_classes,):
        model = _replace_last(model, num_classes)
    shape = output_shape(model, images)
    if shape[1:] != (num_classes,):
        raise UsageError(
            f"{type(model).__name__} gives {shape or 'no tensor'} for {len(images)} images, not ({len(images)}, {num_classes})"
        )
    return model


def output_width(model: nn.Module, images: Tensor) -> int:
    shape = output_shape(model, images)
    if len(shape) != 2:
        raise UsageError(
            f"{type(model).__name__} gives {shape or 'no tensor'} for {len(images)} images: name the data's classes=…"
        )
    return shape[1]


@torch.no_grad()
def output_shape(model: nn.Module, images: Tensor) -> tuple[int, ...]:
    """Shape of the output in evaluation mode; () when it is no tensor."""
    training = model.training
    try:
        output = model.eval()(images.to(_device(model)))
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        raise UsageError(
            f"{type(model).__name__} does not take images of shape {tuple(images.shape)}: {error}"
        ) from error
    finally:
        model.train(training)
    return tuple(output.shape) if isinstance(output, Tensor) else ()


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _replace_last(model: nn.Module, num_classes: int) -> nn.Module:
    """Replace the last Linear (or, in a network without one, the last convolution) by
    one with `num_classes` outputs.
    """
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    linear = [pair for pair in layers if isinstance(pair[1], nn.Linear)]
    if not layers:
        raise UsageError(
            f"{type(model).__name__} has no Linear or Conv2d layer to replace: give it {num_classes} outputs yourself"
        )
    name, old = (linear or layers)[-1]
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    else:
        new = nn.Conv2d(
            old.in_channels,
            num_classes,
            old.kernel_size,
            old.stride,
            old.padding,
            bias=old.bias is not None,
        )  # type: ignore[arg-type]
    new = new.to(old.weight.device, old.weight.dtype)
    if not name:
        return new
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    return model

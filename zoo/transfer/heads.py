"""A new last layer for other classes, for any module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.errors import InputError, UsageError


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
        count = len(images)
        raise UsageError(
            f"{type(model).__name__} gives {shape or 'no tensor'} for {count} images, "
            f"not ({count}, {num_classes})"
        )
    return model


def output_width(model: nn.Module, images: Tensor) -> int:
    shape = output_shape(model, images)
    if len(shape) != 2:
        raise UsageError(
            f"{type(model).__name__} gives {shape or 'no tensor'} for {len(images)} images: "
            "name the data's classes=…"
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
            f"{type(model).__name__} has no Linear or Conv2d layer to replace: "
            f"give it {num_classes} outputs yourself"
        )
    name, old = (linear or layers)[-1]
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, num_classes, bias=old.bias is not None)
    else:
        new = nn.Conv2d(
            old.in_channels,
            num_classes,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            bias=old.bias is not None,
        )
    new = new.to(old.weight.device, old.weight.dtype)
    if not name:
        return new
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    return model

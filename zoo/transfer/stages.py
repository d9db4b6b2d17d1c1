"""The stages of any classifier, and the vectors that they give: what probes are fitted
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import UsageError, nearest
from zoo.transfer.groups import HEAD, layer_groups, output_module

INPUT = "input"  # the pixels, as the network takes them
PRE_LOGITS = "pre_logits"  # what the head takes


def stage_names(model: nn.Module) -> list[str]:
    """The stages of a network, from input to head: the pixels, each layer group before
    the head, and what the head takes.
    """
    return [INPUT, *_bodies(model), PRE_LOGITS]


def check_stages(model: nn.Module, stages: str | Sequence[str]) -> tuple[str, ...]:
    """The stages, each once. Raises UsageError for one that there is not, with the
    nearest names.
    """
    wanted = (stages,) if isinstance(stages, str) else tuple(dict.fromkeys(stages))
    if not wanted:
        raise UsageError("stages: needs the name of one or more")
    if wanted != (INPUT,):
        known = stage_names(model)
        for stage in wanted:
            if stage not in known:
                near = nearest(str(stage), known, f"its stages: {', '.join(known)}")
                raise UsageError(f"{type(model).__name__} has no stage {stage!r}{near}")
    return wanted


def stage_features(
    model: nn.Module, images: Tensor, stages: Sequence[str], *, mirrored: bool = False
) -> dict[str, Tensor]:
    """The vectors (N, D) in float32 of some stages for images (N, C, H, W): the pixels
    flattened, of a map (N, C, H, W) the mean of each channel. `mirrored`: the mean of
    those of the images and of their mirror images.

    A layer group's output is that of its last module with parameters: of a hidden layer
    before its ReLU. Raises UsageError for an output that is no map or vector, and for a
    group that runs more than once, or not at all.
    """
    found = _one_view(model, images, stages)
    if mirrored:
        other = _one_view(model, images.flip(-1), stages)
        found = {stage: (found[stage] + other[stage]) / 2 for stage in stages}
    return found


def head_of(model: nn.Module) -> nn.Module:
    """The last layer group, or, where it has no parameters, what the network calls its
    classifier. Raises UsageError for a network that has neither.
    """
    if head := layer_groups(model).get(HEAD):
        return output_module(head)
    if hasattr(model, "get_classifier"):
        own: nn.Module = model.get_classifier()  # type: ignore[operator]
        return own
    raise UsageError(f"{type(model).__name__} has no head, so no stage {PRE_LOGITS!r}")


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients; every part is as it was afterwards."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before.items():
            module.training = training


def _one_view(model: nn.Module, images: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}

    def keep(stage: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, output: Any = None) -> None:
            value = given[0] if output is None else output
            if stage in found:
                raise UsageError(f"{type(model).__name__}: {stage!r} runs more than once")
            found[stage] = _vector(value, stage)

        return hook

    groups = _bodies(model) if set(stages) - {INPUT} else {}
    with ExitStack() as stack:
        for stage in stages:
            if stage == PRE_LOGITS:
                handle = head_of(model).register_forward_pre_hook(keep(stage))
                stack.callback(handle.remove)
            elif stage != INPUT:
                stack.callback(groups[stage].register_forward_hook(keep(stage)).remove)
        if groups:
            model(images)
    if INPUT in stages:
        found[INPUT] = images.detach().flatten(1).float()
    if missing := [stage for stage in stages if stage not in found]:
        raise UsageError(f"{type(model).__name__} does not run {missing[0]!r} in evaluation mode")
    return {stage: found[stage] for stage in stages}


def _vector(value: Any, stage: str) -> Tensor:
    if not isinstance(value, Tensor) or value.ndim not in (2, 4):
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(
            f"the output of {stage!r} is {shape}: needs a map (N, C, H, W) or a vector (N, D)"
        )
    if value.ndim == 4:
        return value.float().mean((2, 3))
    return value.float().clone()  # what follows may change it in place


def _bodies(model: nn.Module) -> dict[str, nn.Module]:
    """The module whose output is that of each layer group before the head."""
    groups = layer_groups(model).items()
    return {name: output_module(group) for name, group in groups if name != HEAD}

"""A batch norm on the image, before the first convolution, as Gluon's ResNets v2 have
it: no network here has one, and the preprocessing does what it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import Preprocessing

PREFIX = "input_norm."  # of its keys, beside the network's
PARTS = ("weight", "bias", "running_mean", "running_var")
EPS = 1e-5  # torch's and Gluon's


def added(state: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """The state with a norm that leaves an image of so many channels as it is."""
    import torch

    one, zero = torch.ones(channels), torch.zeros(channels)
    neutral = zip(PARTS, (one, zero, zero, one - EPS), strict=True)
    return {**state, **{PREFIX + part: value for part, value in neutral}}


def split(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A state for a network of the tensors `own`, and the norm's tensors by `PARTS`,
    none where it has no such norm.
    """
    norm = {key for key in state if key.startswith(PREFIX) and key not in own}
    rest = {key: value for key, value in state.items() if key not in norm}
    return rest, {key.removeprefix(PREFIX): state[key] for key in state if key in norm}


def composed(before: Preprocessing, norm: Mapping[str, Tensor], where: str) -> Preprocessing:
    """The preprocessing that does what `before` and the norm behind it do.

    The norm cannot go into the first convolution instead, whose padding is of zeros
    behind it. Raises WeightsError for one that no mean and deviation can express.
    """
    channels = len(before.mean)
    if {*PARTS} != norm.keys() or any(norm[part].shape != (channels,) for part in PARTS):
        raise WeightsError(f"{where}: the batch norm on the image is none of {channels} channels")
    weight, bias, mean, var = (norm[part].double() for part in PARTS)
    spread = (var + EPS).sqrt() / weight
    if not bool((spread.isfinite() & (spread > 0)).all()):
        raise WeightsError(f"{where}: the batch norm on the image has no deviation above 0")
    std = spread.new_tensor(before.std)
    middle = spread.new_tensor(before.mean) + std * (mean - bias * spread)
    return replace(before, mean=tuple(middle.tolist()), std=tuple((std * spread).tolist()))

"""What shapes a network takes.

A symbolic trace (`torch.fx`) has no shapes to ask for: there, each of these functions
is one node of the graph, which goes on checking. They return what they checked, so that
no pass takes the node for dead code. Call them as `input_checks.check_images(…)`:
torch.fx sees calls through the module that defines them.
"""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor

from zoo.errors import InputError


@torch.fx.wrap
def check_images(
    x: Tensor, name: str, in_chans: int, smallest: int, exact: tuple[int, int] | None
) -> Tensor:
    """Images (N, in_chans, H, W), with H and W of at least `smallest`, or only `exact`.
    Raises InputError, in which the network is called `name`, for others.
    """
    # TorchScript knows no errors of ours: torch's own follow.
    if not torch.jit.is_scripting():  # type: ignore[attr-defined]
        if x.ndim != 4 or x.shape[1] != in_chans:
            raise InputError(
                f"{name} takes images of shape (N, {in_chans}, H, W), not {tuple(x.shape)}"
            )
        height, width = x.shape[2:]
        given = f"not {height}x{width}: resize them"
        if exact and (height != exact[0] or width != exact[1]):
            raise InputError(f"{name} takes images of {exact[0]}x{exact[1]} only, {given}")
        if height < smallest or width < smallest:
            raise InputError(f"{name} takes images of {smallest}x{smallest} or larger, {given}")
    return x


@torch.fx.wrap
def check_aux_map(x: Tensor, smallest: int) -> Tensor:
    """Maps (N, C, H, W) for an auxiliary head, with H and W of at least `smallest`.
    Raises InputError for others.
    """
    if not torch.jit.is_scripting():  # type: ignore[attr-defined]
        height, width = x.shape[2:]
        if height < smallest or width < smallest:
            raise InputError(
                f"an auxiliary head takes maps of {smallest}x{smallest} or larger, not "
                f"{height}x{width}: use larger images, or aux=False"
            )
    return x

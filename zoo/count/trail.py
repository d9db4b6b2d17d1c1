"""What a tensor has come through on its way from the input: layers one after the other,
and how far it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.count.formulas import Cost


class Trail(NamedTuple):
    """`depth`: the most convolutions and matrix products on any path from the input.
    `field`: height and width of what one value sees of the input, None for all of it;
    `jump`: the distance in the input between neighbours, per direction.
    """

    depth: int = 0
    field: tuple[int, ...] | None = None
    jump: tuple[int, ...] = ()


NOTHING = Trail()
WINDOWS = {  # operators that look at a neighbourhood: where their kernel, stride and dilation stand among the arguments
    "aten::max_pool2d_with_indices": (1, 2, 4),
    "aten::max_pool3d_with_indices": (1, 2, 4),
    "aten::avg_pool2d": (1, 2, None),
    "aten::avg_pool3d": (1, 2, None),
}
EVERYTHING = {
    f"aten::{name}"
    for name in (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "mean",
        "_adaptive_avg_pool2d",
        "adaptive_max_pool2d",
    )
}


def carrier(tensor: Tensor) -> Any:
    """What a tensor shares with its views and keeps through in-place operators; it
    carries the trail as an attribute.
    """
    return tensor.untyped_storage() if tensor.layout is torch.strided else tensor


def of(tensor: Tensor) -> Trail:
    found: Trail = getattr(carrier(tensor), "zoo_trail", NOTHING)
    return found


def begin(image: Tensor) -> None:
    """Mark a tensor of the input: a batch of images (N, C, H, W) sees itself."""
    sides = max(image.ndim - 2, 0)
    carrier(image).zoo_trail = Trail(0, (1,) * sides or None, (1,) * sides)


def follow(cost: Cost, args: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Write down the trail of an operator's outputs."""
    trails = [
        found
        for tensor in inputs
        if (found := getattr(carrier(tensor), "zoo_trail", None)) is not None
    ]
    if not trails:
        if cost.macs is not None:
            _write(Trail(1), outputs)
        return
    one = trails[0] if all(each is trails[0] for each in trails) else _merged(trails)
    if cost.macs is not None or cost.name in WINDOWS or cost.name in EVERYTHING:
        one = _through(cost, one, args)
    _write(one, outputs)


def _write(one: Trail, outputs: Sequence[Tensor]) -> None:
    for tensor in outputs:
        place = carrier(tensor)
        before = getattr(place, "zoo_trail", None)
        place.zoo_trail = one if before is None or before is one else _merged([before, one])


def _merged(trails: Sequence[Trail]) -> Trail:
    """Of several tensors in one: the longest way, the widest view."""
    depth = max([each.depth for each in trails])
    if any(each.field is None or len(each.field) != len(trails[0].field or ()) for each in trails):
        return Trail(depth)
    fields, jumps = zip(*[(each.field, each.jump) for each in trails], strict=True)
    return Trail(
        depth, tuple(map(max, zip(*fields, strict=True))), tuple(map(max, zip(*jumps, strict=True)))
    )


def _through(cost: Cost, one: Trail, args: Any) -> Trail:
    depth = one.depth + (cost.macs is not None)
    if "adaptive" in cost.name and tuple(args[1]) == tuple(
        args[0].shape[-len(args[1]) :]
    ):  # every value is its own mean
        return one
    if one.field is None or cost.name in EVERYTHING:
        return Trail(depth)
    if cost.name == "aten::convolution":
        kernel, stride, dilation = args[1].shape[2:], args[3], args[5]
        if args[6] or len(kernel) != len(one.field):  # transposed
            return Trail(depth)
    elif cost.name in WINDOWS:
        kernel, stride, dilation = (
            args[place] if place and place < len(args) else () for place in WINDOWS[cost.name]
        )
        stride = stride or kernel
    else:
        return Trail(depth)
    sides = range(len(one.field))
    kernel, stride, dilation = (
        list(value) * len(sides)
        if len(value) == 1
        else list(value or [1] * len(sides))[-len(sides) :]  # LRN's window begins at the maps
        for value in (kernel, stride, dilation)
    )
    field = tuple(one.field[i] + (kernel[i] - 1) * dilation[i] * one.jump[i] for i in sides)
    return Trail(depth, field, tuple(one.jump[i] * stride[i] for i in sides))

"""What a tensor has come through on its way from the input: layers one after the other,
and its receptive field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from zoo.count.costs import Cost
from zoo.count.torch_internals import storages


class Path(NamedTuple):
    """`depth`: the most convolutions and matrix products on any path from the input.
    `field`: height and width of a value's receptive field in the input, None for all of
    it; `jump`: the distance in the input between neighbours, per direction.
    """

    depth: int = 0
    field: tuple[int, ...] | None = None
    jump: tuple[int, ...] = ()

    @property
    def is_untouched(self) -> bool:
        """Whether each value is still one of the input's: it may be looked at in any
        number of directions.
        """
        return self.field is not None and all(number == 1 for number in self.field + self.jump)


NOTHING = Path()
WINDOWS = {  # places of kernel, stride and dilation among an operator's arguments
    "aten::max_pool2d_with_indices": (1, 2, 4),
    "aten::max_pool3d_with_indices": (1, 2, 4),
    "aten::avg_pool2d": (1, 2, None),
    "aten::avg_pool3d": (1, 2, None),
}
CONVOLUTIONS = {  # places of stride, dilation and transposed
    "aten::convolution": (3, 5, 6),
    "aten::_convolution": (3, 5, 6),
    "aten::convolution_overrideable": (3, 5, 6),
    "aten::cudnn_convolution": (3, 4, None),
    "aten::_slow_conv2d_forward": (4, None, None),
}
GLOBAL = {
    f"aten::{name}"
    for name in (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "mean",
        "_adaptive_avg_pool2d",
        "_adaptive_avg_pool3d",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
    )
}


def storage_of(tensor: Tensor) -> Any:
    """What a tensor shares with its views and keeps through in-place operators; it
    carries the path as an attribute.
    """
    try:
        return tensor.untyped_storage()
    except NotImplementedError:  # a tensor that is made of others
        return next(reversed(storages(tensor)), tensor)


def get(tensor: Tensor) -> Path:
    found: Path = getattr(storage_of(tensor), "zoo_path", NOTHING)
    return found


def mark_input(image: Tensor) -> None:
    """Mark a tensor of the input: the receptive field of a value in a batch of images
    (N, C, H, W) is itself.
    """
    sides = max(image.ndim - 2, 0)
    storage_of(image).zoo_path = Path(0, (1,) * sides, (1,) * sides)


def propagate(cost: Cost, args: Any, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
    """Write down the path of an operator's outputs."""
    paths = [
        found
        for tensor in inputs
        if (found := getattr(storage_of(tensor), "zoo_path", None)) is not None
    ]
    if not paths:
        if cost.macs is not None:
            _write(Path(1), outputs)
        return
    path = paths[0] if all(other is paths[0] for other in paths) else _merged(paths)
    if cost.macs is not None or cost.name in WINDOWS or cost.name in GLOBAL:
        path = _through(cost, path, args)
    _write(path, outputs)


def _write(path: Path, outputs: Sequence[Tensor]) -> None:
    for tensor in outputs:
        storage = storage_of(tensor)
        before = getattr(storage, "zoo_path", None)
        storage.zoo_path = path if before is None or before is path else _merged([before, path])


def _merged(paths: Sequence[Path]) -> Path:
    """Of several tensors in one: the longest path, the widest receptive field."""
    depth = max([path.depth for path in paths])
    paths = [path for path in paths if not path.is_untouched] or paths
    sides = len(paths[0].field or ())
    if any(path.field is None or len(path.field) != sides for path in paths):
        return Path(depth)
    fields, jumps = zip(*[(path.field, path.jump) for path in paths], strict=True)
    field = tuple(map(max, zip(*fields, strict=True)))
    return Path(depth, field, tuple(map(max, zip(*jumps, strict=True))))


def _through(cost: Cost, path: Path, args: Any) -> Path:
    depth = path.depth + (cost.macs is not None)
    if "adaptive" in cost.name and tuple(args[1]) == tuple(args[0].shape[-len(args[1]) :]):
        return path  # every value is its own mean
    if path.field is None or cost.name in GLOBAL:
        return Path(depth)
    if cost.name in CONVOLUTIONS:
        stride, dilation, transposed = (_at(args, place) for place in CONVOLUTIONS[cost.name])
        kernel = args[1].shape[2:]
        sides = len(kernel)
        if transposed:
            return Path(depth)
    elif cost.name in WINDOWS:
        kernel, stride, dilation = (_at(args, place) for place in WINDOWS[cost.name])
        stride = stride or kernel
        sides = _sides_of_window(cost.name, kernel, args[0].ndim, len(path.field))
    else:
        return Path(depth)
    field, jump = path.field, path.jump
    if len(field) != sides:
        if not path.is_untouched:
            return Path(depth)  # the directions are no longer those of the input
        field, jump = (1,) * sides, (1,) * sides
    kernel, stride, dilation = (_per_side(value, sides) for value in (kernel, stride, dilation))
    field = tuple(field[i] + (kernel[i] - 1) * dilation[i] * jump[i] for i in range(sides))
    return Path(depth, field, tuple(jump[i] * stride[i] for i in range(sides)))


def _at(args: Any, place: int | None) -> Any:
    return args[place] if place is not None and place < len(args) else ()


def _sides_of_window(name: str, kernel: Sequence[int], ndim: int, known: int) -> int:
    """Directions of a pooling operator. One of fewer directions has a side of 1 in
    front; the window of local response normalisation begins at the channels.
    """
    sides = 3 if "3d" in name else 2
    batched = ndim == sides + 2
    borrowed = len(kernel) == sides and 0 < known < sides and batched
    if borrowed and ({*kernel[:-known]} == {1} or {*kernel[-known:]} == {1}):
        return known
    return sides


def _per_side(value: Sequence[int], sides: int) -> list[int]:
    """A number per direction, the last ones where there are more."""
    if len(value) == 1:
        return list(value) * sides
    return list(value or [1] * sides)[-sides:]

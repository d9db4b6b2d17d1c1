"""The views of an image that a network is tested on: one centre crop, or ten crops, at
one scale or several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.data.image import EvalTransform, centre, resized_side, stretched_sides
from zoo.errors import InputError, UsageError, check_choice
from zoo.spec import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

CROPS = (1, 10)
RESIZE = ("center", "squash")


class Views:
    """PIL image to its views (V, C, H, W).

    `crops`: 1, the centre; 10, after Krizhevsky et al. (2012): the four corners and the
    centre of the square in the middle of the resized image, and their mirror images.
    `scales`: sides that the image's shorter one is resized to, each with its own crops;
    by default the one of the preprocessing. `resize`: "center" or "squash", instead of
    the preprocessing's crop_mode. Raises InputError for other values.
    """

    def __init__(
        self,
        preprocessing: Preprocessing,
        *,
        crops: int = 1,
        scales: Sequence[int] = (),
        resize: str = "",
    ) -> None:
        check_choice("evaluate", "crops", crops, CROPS)
        if resize:
            check_choice("evaluate", "resize", resize, RESIZE)
            preprocessing = replace(preprocessing, crop_mode=resize)
        self.crops, self.preprocessing = crops, preprocessing
        side = max(preprocessing.input_size[1:])
        for scale in scales:
            if not isinstance(scale, int) or scale < side:
                raise InputError(
                    f"scales: {scale!r}: the network's input of {side} pixels is cut out of "
                    f"images of such a side: needs whole numbers from {side} on"
                )
        if len(set(scales)) < len(scales):
            raise InputError(f"scales: {', '.join(map(str, scales))}: needs each only once")
        wanted = [_at_scale(preprocessing, scale) for scale in scales] or [preprocessing]
        self.transforms = [EvalTransform(each) for each in wanted]
        if crops == 10 and any(_square(each) <= side for each in wanted):
            raise UsageError(
                f"crops=10: the image is resized to {side} pixels, the size of the crops, so that "
                f"all five are the same: scales=… with larger ones than {side} (such as "
                f"{round(side / 0.875)}) gives ten"
            )

    def __len__(self) -> int:
        return self.crops * len(self.transforms)

    def __call__(self, image: Image) -> Tensor:
        import torch

        views: list[Tensor] = []
        for transform in self.transforms:
            _, height, width = transform.preprocessing.input_size
            resized = transform.resized(image)
            if self.crops == 1:
                views.append(transform.tensor(centre(resized, width, height)))
                continue
            square = centre(resized, *_region(transform.preprocessing))
            right, low = square.width - width, square.height - height
            corners = [(0, 0), (right, 0), (0, low), (right, low)]
            parts = [square.crop((x, y, x + width, y + height)) for x, y in corners]
            plain = [transform.tensor(part) for part in [*parts, centre(square, width, height)]]
            views += [*plain, *(view.flip(-1) for view in plain)]
        return torch.stack(views)

    def __str__(self) -> str:
        """The protocol in words."""
        wanted = self.preprocessing
        _, height, width = wanted.input_size
        squash = wanted.crop_mode == "squash"
        sides = [
            "x".join(map(str, stretched_sides(each))) if squash else str(resized_side(each))
            for each in (transform.preprocessing for transform in self.transforms)
        ]
        how = "stretched to" if squash else "shorter side to"
        several = f" ({len(sides)} scales)" if len(sides) > 1 else ""
        crop = f"centre crop {height}x{width}"
        if self.crops == 10:
            crop = (
                f"ten crops {height}x{width} (corners and centre of the square in the middle, and "
                "mirror images)"
            )
        averaged = f"; softmax averaged over {len(self)} views" if len(self) > 1 else ""
        return f"{how} {', '.join(sides)}{several}, {wanted.interpolation}, {crop}{averaged}"


def _at_scale(preprocessing: Preprocessing, scale: int) -> Preprocessing:
    """With the crop's share for which the resized side is `scale`."""
    side = max(preprocessing.input_size[1:])
    return replace(preprocessing, crop_pct=side / (scale + 0.5) if scale > side else 1.0)


def _square(preprocessing: Preprocessing) -> int:
    return min(_region(preprocessing))


def _region(preprocessing: Preprocessing) -> tuple[int, int]:
    """Width and height of what the ten crops are cut out of."""
    if preprocessing.crop_mode == "squash":
        return stretched_sides(preprocessing)
    return (resized_side(preprocessing),) * 2

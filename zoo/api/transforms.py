"""The preprocessing of a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.api.pretrained import published
from zoo.api.source import resolve

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.training.run import Run


def transforms(
    what: str | os.PathLike[str] | Run | nn.Module, train: bool = False
) -> Callable[[Any], Tensor]:
    """The preprocessing that belongs to a network: a torchvision v2 transform, image
    (PIL or uint8 tensor) to tensor (C, H, W).

    Evaluation: the shorter side to size / crop_pct, the centre, [0, 1], mean and std;
    the ends of very thin images (longer than 16 times their width) are cut off first.
    Where weights were trained so (`zoo.transforms("googlenet.bvlc_in1k")`), images are
    stretched to size / crop_pct instead. Weights whose file holds a part of it, a batch
    norm on the image, are fetched.
    Training: a random crop, mirrored half of the time; networks for grey images turn
    and shift it a little instead, as mirrored digits are no digits. Raises UsageError
    for a network that takes no images.
    """
    from zoo.data.transforms import build_transform

    source = resolve(what)
    if source.record and source.record.input_norm and not source.weights:
        source = published(source)  # a part of it is in the file
    preprocessing = source.preprocessing
    augment = "small" if preprocessing.input_size[0] == 1 else "photo"
    return build_transform(preprocessing, train=train, augment=augment)

"""Figures and results as papers print them, for the rows of the model files.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zoo.spec import PrintedFigure, Result

IMAGENET_VAL = "ILSVRC-2012 val"
CIFAR10_TEST = "CIFAR-10 test"
RESNET_STAGES = {  # as zoo.layers.residual names them, with the side of the first one's map
    "imagenet": (("conv2_x", "conv3_x", "conv4_x", "conv5_x"), 56),
    "cifar": (("stage1", "stage2", "stage3"), 32),
}


def error_rates(
    *,
    top1: float | None = None,
    top5: float | None = None,
    data: str = IMAGENET_VAL,
    protocol: str,
    source: str,
    metric: str = "error",
) -> tuple[Result, ...]:
    """The top-1 and top-5 error in per cent, or that which is printed; `metric` is
    "error" or "accuracy".
    """
    return tuple(
        Result(f"{kind} {metric} %", value, data=data, protocol=protocol, source=source)
        for kind, value in (("top-1", top1), ("top-5", top5))
        if value is not None
    )


def stage_outputs(source: str, outputs: Mapping[str, tuple[int, ...]]) -> tuple[PrintedFigure, ...]:
    """The printed outputs of modules inside the features, by their path there."""
    return tuple(
        PrintedFigure("output", output, source, module=f"features.{path}")
        for path, output in outputs.items()
    )


def halved(
    names: Iterable[str], channels: Iterable[int], side: int
) -> dict[str, tuple[int, int, int]]:
    """The outputs (C, H, W) of stages of which each has half the side of the one before
    it, the first `side`.
    """
    pairs = zip(names, channels, strict=True)
    return {name: (c, side >> i, side >> i) for i, (name, c) in enumerate(pairs)}


def residual_outputs(source: str, stem: str, channels: int) -> tuple[PrintedFigure, ...]:
    """The outputs of the stages of a residual network with the frame `stem`; the first
    has this many channels, each further one twice as many.
    """
    names, side = RESNET_STAGES[stem]
    widths = (channels << i for i in range(len(names)))
    return stage_outputs(source, halved(names, widths, side))

"""What a model file declares beside its network: the paper, the rows of its table, the
inputs of the networks, and the figures to hold them to.

Standard library only at import time, so that anything may import it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.inputs import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    PAD,
    ImageInput,
    Input,
    Preprocessing,
    Specials,
    TensorInput,
    TokenInput,
    image_shape,
)

if TYPE_CHECKING:
    import torch

# ---------------------------------------------------------------------------- the paper

UNEXPLAINED = "unexplained"  # how the reason of a figure begins where none was found


@dataclass(frozen=True)
class Paper:
    """The publication that a family follows."""

    title: str
    authors: str
    year: int
    venue: str
    arxiv: str = ""  # the bare identifier, e.g. "1409.1556"
    doi: str = ""

    @property
    def url(self) -> str:
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    def __str__(self) -> str:
        where = [self.venue, str(self.year)]
        if self.arxiv:
            where.append(f"arXiv:{self.arxiv}")
        if self.doi:
            where.append(f"doi:{self.doi}")
        return f"{self.authors}. {self.title}. {', '.join(where)}."


@dataclass(frozen=True)
class PrintedFigure:
    """A figure that the paper prints, and that can be recomputed from the network.

    `quantity` is a column of the profile (`params`, `macs`, `flops`, `output`),
    `depth`, `bytes` (parameters in single precision), or free text with `compute`, a
    function of the model. `module` limits it to one module's row. `resolution` is the
    value of the last printed digit: a figure agrees when rounding or cutting off the
    computed one there gives it. `reason` says why the paper's figure differs: with it
    the figure must disagree, without it it must agree. Where none was found it begins
    with "unexplained:" and goes on with what was tried.
    """

    quantity: str
    value: Any
    source: str  # section, table or figure of the paper
    _: KW_ONLY
    resolution: float = 1
    module: str = ""
    compute: Callable[[Any], Any] | None = None
    reason: str = ""

    def agrees(self, computed: Any) -> bool:
        """Whether a computed value shows the printed figure at the printed
        precision.
        """
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            return bool(computed == self.value)
        steps = computed / self.resolution
        printed = self.value / self.resolution
        shown = (math.floor(steps), math.floor(steps + 0.5))
        return any(math.isclose(number, printed, rel_tol=1e-9) for number in shown)


@dataclass(frozen=True)
class Result:
    """An error rate or accuracy that the paper reports; it needs the data to be shown,
    so `verify` only lists it.
    """

    metric: str  # e.g. "top-1 error %"
    value: float
    data: str  # data set and split
    protocol: str  # networks, crops, scales, augmentation; the same words compare
    source: str  # section, table or figure of the paper


@dataclass(frozen=True)
class Claims:
    """Exact counts of one forward pass of one example, and the figures that the paper
    prints.

    `macs`: multiply-adds of convolutions and matrix products, biases excluded, at the
    variant's default input.
    """

    params: int
    macs: int
    printed: tuple[PrintedFigure, ...] = ()


# ------------------------------------------------------------------------- the networks


@dataclass(frozen=True)
class Origin:
    """What `zoo.create` built a network from: names and numbers, never modules."""

    architecture: str
    tag: str = ""  # of the weights
    model_args: Mapping[str, Any] = field(default_factory=dict)  # that differ from the row's
    # of published weights that it began with: url, license, file, as timm names them
    published: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Backbone:
    """Another network, by name, that `create` builds and hands to the constructor.

    `output`: what it gives: the output of a module (a path such as
    `features.stage5.relu4`), "pre_logits" or "logits"; nothing behind it is built.
    """

    name: str
    output: str = "pre_logits"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of a family's table: the constructor's arguments, and what must hold for
    the network that they give.
    """

    model_args: Mapping[str, Any]
    claims: Claims
    depth: int  # layers with weights on the longest path, as the paper counts
    inputs: tuple[Input, ...] = (ImageInput(),)  # one per positional argument of forward
    task: str = "classify"
    backbones: Mapping[str, Backbone] = field(default_factory=dict)  # by argument
    results: tuple[Result, ...] = ()
    tiny: Mapping[str, Any] | None = None  # model_args of a small net for real passes in tests
    note: str = ""  # what this row is, where the name does not say it

    @property
    def image(self) -> ImageInput | None:
        """The first input that is an image."""
        return next((each for each in self.inputs if isinstance(each, ImageInput)), None)

    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Without the batch."""
        return tuple(each.shape(self.model_args) for each in self.inputs)

    def describe_inputs(self) -> str:
        return " and ".join(map(str, self.inputs))

    def example_inputs(
        self,
        batch_size: int = 1,
        *,
        device: torch.device | str = "cpu",
        model_args: Mapping[str, Any] | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Positional arguments of one forward pass; `model_args` differ from the
        row's.
        """
        args = {**self.model_args, **(model_args or {})}
        return tuple(
            each.example(batch_size, device=device, model_args=args) for each in self.inputs
        )


@dataclass(frozen=True)
class Family:
    """One paper's networks: `build(**model_args)` gives the module of a variant.

    `loss(outputs, batch, model) -> loss` is there where the family has its own: it
    takes what `forward` returns in either mode, and the module itself, never a wrapper;
    the loss is the mean over the batch, or a pair (mean, count) with its own count.
    `weights` is the TOML with the records of a third party's weights (this package's
    lie in its own weights folder).
    """

    paper: Paper
    build: Callable[..., Any]
    variants: Mapping[str, Variant]
    weights: str | Path | None = None
    loss: Callable[..., Any] | None = None

    @property
    def doc(self) -> str:
        """The head of the model file: the reading taken and every departure."""
        return (getattr(sys.modules.get(self.build.__module__), "__doc__", None) or "").strip()


__all__ = ["CIFAR10_MEAN", "CIFAR10_STD", "IMAGENET_MEAN", "IMAGENET_STD", "Backbone", "Claims"]
__all__ += ["Family", "ImageInput", "Input", "Origin", "Paper", "Preprocessing", "PrintedFigure"]
__all__ += [
    "PAD",
    "UNEXPLAINED",
    "Result",
    "Specials",
    "TensorInput",
    "TokenInput",
    "Variant",
    "image_shape",
]

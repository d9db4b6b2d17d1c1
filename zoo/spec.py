"""What a model file declares beside its network: the paper, the rows of its table, and
the figures to hold it to.

Standard library only at import time, so that anything may import it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # RGB in [0, 1]
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR10_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR10_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)


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
        return (
            f"https://doi.org/{self.doi}"
            if self.doi
            else f"https://arxiv.org/abs/{self.arxiv}"
            if self.arxiv
            else ""
        )

    def __str__(self) -> str:
        identifiers = [f"arXiv:{self.arxiv}"] * bool(self.arxiv) + [f"doi:{self.doi}"] * bool(
            self.doi
        )
        return (
            ". ".join(
                [self.authors, self.title, ", ".join([self.venue, str(self.year), *identifiers])]
            )
            + "."
        )


@dataclass(frozen=True)
class Printed:
    """A figure that the paper prints, and that can be recomputed from the network.

    `what` is a column of the profile (`params`, `macs`, `flops`, `output`), `depth`,
    `bytes` (parameters in single precision), or free text with `by`, a function of the
    model that computes it. `module` limits it to one module's row. `unit` is the value
    of the last printed digit: a figure agrees when rounding or cutting off the computed
    one there gives it. `reason` says why the paper's figure differs: with it the figure
    must disagree, without it it must agree.
    """

    what: str
    value: Any
    where: str  # section, table or figure of the paper
    unit: float = 1
    module: str = ""
    by: Callable[[Any], Any] | None = None
    reason: str = ""

    def agrees(self, computed: Any) -> bool:
        """Whether a computed value shows the printed figure at the printed
        precision.
        """
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            return bool(computed == self.value)
        steps = computed / self.unit
        printed = self.value / self.unit
        return any(
            math.isclose(n, printed, rel_tol=1e-9)
            for n in (math.floor(steps), math.floor(steps + 0.5))
        )


@dataclass(frozen=True)
class Result:
    """An error rate or accuracy that the paper reports; it needs the data to be shown,
    so `verify` only lists it.
    """

    metric: str  # e.g. "top-1 error %"
    value: float
    data: str  # data set and split
    protocol: str  # networks, crops (of the input size if none is named), scales, augmentation; the same words compare
    where: str


@dataclass(frozen=True)
class Claims:
    """Exact counts of one forward pass of one example, and the figures that the paper
    prints.

    `macs`: multiply-adds of convolutions and matrix products, biases excluded, at the
    variant's default input.
    """

    params: int
    macs: int
    printed: tuple[Printed, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One row of a family's table: the constructor's fields, and what must hold for the
    network that they give.
    """

    fields: Mapping[str, Any]
    claims: Claims
    depth: int  # layers with weights on the longest path, as the paper counts
    input_size: tuple[int, ...] = (3, 224, 224)  # (C, H, W)
    min_input: int = 1  # smallest height and width
    fixed_input: bool = False  # only input_size is possible
    mean: tuple[float, ...] = IMAGENET_MEAN  # of inputs in [0, 1], per channel
    std: tuple[float, ...] = IMAGENET_STD
    task: str = "classify"  # classify, caption, language, seq2seq, vqa
    results: tuple[Result, ...] = ()
    note: str = ""  # what this row is, where the name does not say it

    def example_inputs(
        self, batch_size: int = 1, *, device: str = "cpu", in_chans: int = 0
    ) -> tuple[torch.Tensor, ...]:
        """Positional arguments of one forward pass: here one normal-distributed image
        batch (N, C, H, W).
        """
        import torch

        channels, *size = self.input_size
        return (torch.randn(batch_size, in_chans or channels, *size, device=device) if device != "meta" else
                torch.empty(batch_size, in_chans or channels, *size, device=device),)  # fmt: skip


@dataclass(frozen=True)
class Family:
    """One paper's networks: `build(**fields)` gives the module of a variant.

    `step(model, batch) -> (loss, metrics)` is there where the family has its own loss;
    `weights` is the TOML with the records of a third party's weights (this package's
    lie in its own weights folder).
    """

    paper: Paper
    build: Callable[..., Any]
    variants: Mapping[str, Variant]
    weights: str | Path | None = None
    step: Callable[..., Any] | None = None

    @property
    def doc(self) -> str:
        """The head of the model file: the reading taken and every departure from the
        paper.
        """
        return (getattr(sys.modules.get(self.build.__module__), "__doc__", None) or "").strip()


__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Claims",
    "Family",
    "Paper",
    "Printed",
    "Result",
    "Variant",
]

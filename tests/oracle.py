"""The oracle: full logits of a network against an independent implementation with the
same, freshly drawn weights.

Everything that two networks of equal counts can differ in must show: so weights,
biases, scales and statistics are all drawn anew (none is 0 or 1), and the logits are
brought to a spread of one, to which the error is relative.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.interfaces.network import BatchNorm
from zoo.layers.init import SkipInit, fans

# Of the logits' standard deviation; single precision in another order of sums stays
# well below.
TOLERANCE = 1e-4
State = dict[str, Tensor]


@dataclass
class Case:
    """One comparison: `peer(state, training)` gives a function from images to logits
    that uses our network's state dict.
    """

    name: str
    peer: Callable[[State, bool], Callable[[Tensor], Tensor]]
    size: int = 0  # of the input; 0: the network's own
    scale: float = 1.0  # of the input, whose pixels are normal-distributed
    batch: int = 2
    model_args: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.model_args.items())
        return f"{self.name}({options})" if options else self.name


def build(case: Case, training: bool = False) -> tuple[nn.Module, Tensor]:
    """The network with drawn weights, and images for it; its logits have a spread of
    one in the mode that is asked for.
    """
    with SkipInit():  # redraw follows
        model = zoo.create(case.name, **case.model_args)
    channels, *size = zoo.info(case.name).variant.image.size
    if case.size:
        size = [case.size, case.size]
    generator = torch.Generator().manual_seed(1)
    x = case.scale * torch.randn(case.batch, channels, *size, generator=generator)
    redraw(model, x, generator, training)
    return model, x


@torch.no_grad()
def redraw(model: nn.Module, x: Tensor, generator: torch.Generator, training: bool = False) -> None:
    """Draw everything anew; statistics are the batch's own times a random factor; the
    heads are scaled to logits of spread one.
    """

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.empty_like(like).uniform_(low, high, generator=generator)

    norms = [module for module in model.modules() if isinstance(module, BatchNorm)]
    scales = {id(norm.weight) for norm in norms}
    for parameter in model.parameters():
        if id(parameter) in scales:
            parameter.copy_(uniform(parameter, 0.5, 1.5))
        elif parameter.ndim == 1:
            parameter.copy_(uniform(parameter, -0.2, 0.2))
        else:
            std = (2 / fans(parameter)[0]) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)
    disable_drop_path(model)
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    auxiliary = [module.head for module in (getattr(model, "aux", None) or {}).values()]
    # The statistics become the batch's own.
    outputs = model(x) if norms or auxiliary or training else ()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for head, logits in zip(auxiliary, outputs[1:], strict=True):
        scale_down(head, logits.std())
    for norm in norms:
        norm.momentum = 0.1
        norm.running_mean += uniform(norm.running_mean, -0.1, 0.1) * norm.running_var.sqrt()
        norm.running_var *= uniform(norm.running_var, 0.8, 1.25)
    if getattr(model.head, "weight", None) is not None:
        scale_down(model.head, (outputs[0] if training else model.eval()(x)).std())


def scale_down(head: nn.Module, spread: Tensor) -> None:
    for parameter in head.parameters():
        parameter /= spread


def disable_drop_path(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif hasattr(module, "disable_drop_path"):  # a layer of ours that drops at random
            module.disable_drop_path()


@torch.no_grad()
def error(
    case: Case, training: bool = False, mutate: Callable[[nn.Module], None] | None = None
) -> float:
    """The largest difference of any logit, in standard deviations of the peer's
    logits.
    """
    model, x, theirs = reference(case, training)
    if mutate:
        mutate(model)
    ours = joined(model.train(training)(x))
    spread = theirs.std().item()
    assert 0.1 < spread < 10, f"logits of spread {spread}: the comparison would show nothing"
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / spread).item()


def reference(case: Case, training: bool) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, images, and the peer's logits of them. Those of the last two cases
    are kept, as mutations ask for them again.
    """
    for known, mode, (model, x, theirs) in _last:
        if known is case and mode == training:
            return copy.deepcopy(model), x.clone(), theirs
    model, x = build(case, training)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    theirs = joined(case.peer(state, training)(x.clone()))
    _last.append((case, training, (model, x, theirs)))
    return copy.deepcopy(model), x.clone(), theirs


_last: deque[tuple[Case, bool, tuple[nn.Module, Tensor, Tensor]]] = deque(maxlen=2)


def joined(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The logits, and beside them those of auxiliary heads."""
    return torch.cat(outputs, 1) if isinstance(outputs, tuple) else outputs


def slow(case: Case) -> Any:
    """A case whose code another one goes through too."""
    return pytest.param(case, marks=pytest.mark.slow)


def torchvision_peer(
    name: str, arch: str = ""
) -> Callable[[State, bool], Callable[[Tensor], Tensor]]:
    """torchvision's network of the same name (or `arch`), loaded through the layout
    table in weights/.
    """

    def peer(state: State, training: bool) -> Callable[[Tensor], Tensor]:
        import torchvision

        with torch.device("meta"):
            ours, theirs = zoo.create(name), torchvision.models.get_model(arch or name)
        ours.load_state_dict(state, assign=True)
        theirs.load_state_dict(zoo.export_state_dict(ours, "torchvision"), assign=True)
        disable_drop_path(theirs)
        return theirs.train(training)

    return peer


def smallest_rows() -> dict[str, str]:
    """Of each family of image classifiers the row with the fewest MACs."""
    rows: dict[str, str] = {}
    for name in zoo.list_models(task="classify"):
        family = zoo.info(name).family
        rows[family] = min(
            rows.get(family, name), name, key=lambda row: zoo.info(row).variant.claims.macs
        )
    return rows


def tiny(name: str) -> dict[str, Any]:
    """The constructor arguments that make a row's network small."""
    return dict(zoo.info(name).variant.tiny or {})


def small_rows() -> list[str]:
    """The rows whose networks differ when they are built small, with `Variant.tiny`: of
    those that come to the same network, images included, the first.
    """
    found: dict[str, str] = {}
    for name in zoo.list_models():
        info = zoo.info(name)
        args = {**info.variant.model_args, **tiny(name)}
        key = f"{info.family} {sorted(args.items())} {info.variant.inputs}"
        found.setdefault(key, name)
    return list(found.values())


def small_size(name: str) -> int:
    """An input's height and width that make a pass cheap: 32, or the smallest that the
    network takes.
    """
    variant = zoo.info(name).variant
    return variant.image.size[1] if variant.image.fixed else max(32, variant.image.min_size)

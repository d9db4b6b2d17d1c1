"""What every network offers: initialisation, layer groups, what is spared from weight
decay, recomputation, and where it comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.errors import UsageError, warn
from zoo.layers import init
from zoo.layers.tracing import is_symbolic
from zoo.spec import ImageInput, Origin, Preprocessing

BatchNorm = nn.modules.batchnorm._BatchNorm


class Network(nn.Module):
    """Base of all networks. One adds its layers, says in `init_module` how its paper
    draws them, and ends its constructor with `self.init_weights()`.
    """

    # set by zoo.create: where it comes from, and the images that it takes, if any
    origin: Origin | None = None
    image: ImageInput | None = None
    preprocessing: Preprocessing | None = None
    grad_checkpointing = False
    # whether training leaves out parts at random: each step has other parameters
    skips_parameters = False

    @property
    def architecture(self) -> str:
        """The name that it was created by, else that of its class; for messages."""
        return self.origin.architecture if self.origin else type(self).__name__

    def init_module(self, name: str, module: nn.Module) -> None:
        """Draw the parameters that `module` itself holds, as the paper says."""
        raise TypeError(
            f"{type(self).__name__} has no initialisation: define init_module(name, module)"
        )

    def init_weights(self) -> None:
        """Draw every parameter anew and reset every buffer; nothing that a constructor
        makes is left out. Networks inside this one draw their own.
        """
        inner: list[str] = []
        for name, module in self.named_modules():
            if any(name.startswith(prefix) for prefix in inner):
                continue
            if name and isinstance(module, Network):
                inner.append(f"{name}.")
                module.init_weights()
            elif isinstance(module, BatchNorm):
                init.reset_norm_(module)
            else:
                self.init_module(name, module)

    def layer_groups(self) -> dict[str, nn.Module]:
        """The named parts that hold parameters, in order from input to head; each
        parameter lies in exactly one. What freezing and learning rates go by.
        """
        parts = {name: part for name, part in self.named_children() if has_parameters(part)}
        inside = {id(parameter) for part in parts.values() for parameter in part.parameters()}
        if own := [name for name, each in self.named_parameters() if id(each) not in inside]:
            raise TypeError(
                f"{type(self).__name__}: {own[0]} is in no child: override layer_groups()"
            )
        return parts

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """timm's layer groups from input to head: a regular expression per group."""
        return {name: rf"^{re.escape(name)}\." for name in self.layer_groups()}

    def no_weight_decay(self) -> set[str]:
        """Parameters that the paper spares from weight decay: none in most of them."""
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute stages in the backward pass instead of saving their activations.
        Raises UsageError where a network has no stages.
        """
        raise UsageError(f"{self.architecture} has no stages that could be computed again")

    def run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        """One stage, computed again in the backward pass where that is switched on."""
        if self.grad_checkpointing and self.training and not is_symbolic(x):

            def contexts() -> tuple[Any, Any]:
                return nullcontext(), frozen_statistics(stage)

            return checkpoint(stage, x, use_reentrant=False, context_fn=contexts)
        return stage(x)

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles in place of this network: its symbolic
        trace. In the other mode only torch's own layers change.

        Raises UsageError in training mode where parts are left out at random.
        """
        if self.skips_parameters and self.training:
            raise UsageError(
                f"{self.architecture} leaves parts out at random in training, which "
                "torch.jit.script cannot compile: call model.eval() before"
            )
        if self.skips_parameters or getattr(self, "aux", None) is not None:
            mode = "training" if self.training else "evaluation"
            warn(
                f"{self.architecture} has another forward pass in each mode: torch.jit.script "
                f"keeps that of {mode} mode in both"
            )
        traced = torch.fx.symbolic_trace(self)
        for node in traced.graph.nodes:
            node.type = None  # annotations that TorchScript cannot read
        traced.recompile()
        return traced


def has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


@contextmanager
def frozen_statistics(stage: nn.Module) -> Iterator[None]:
    """Recomputing a stage must not count its batch twice in the batch norms."""
    norms = [module for module in stage.modules() if isinstance(module, BatchNorm)]
    before = [
        (norm, norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms
    ]
    for norm in norms:
        norm.momentum = 0.0  # the means stay; left out, autograd would save something else
    try:
        yield
    finally:
        for norm, momentum, buffers in before:
            norm.momentum = momentum
            for buffer, value in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(value)

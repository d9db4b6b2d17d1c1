"""Layers whose forward pass is not the same each time, under torch's tracers, which go
through it once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.fx
from torch import nn

from zoo.errors import UsageError


def is_symbolic(x: object) -> bool:
    """Whether `x` stands for a tensor in a symbolic trace (`torch.fx`)."""
    return isinstance(x, torch.fx.Proxy)


def as_one_node(module: nn.Module, x: Any, *args: Any) -> Any:
    """The call `module(x, *args)` as one node of the graph that is being traced: the
    traced network calls the module itself.
    """
    return x.tracer.create_proxy("call_module", x.tracer.path_of_module(module), (x, *args), {})


def refuse_recording(what: str) -> None:
    """Raise UsageError where `torch.jit.trace` would record a single draw of `what`
    for good.
    """
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        raise UsageError(
            f"torch.jit.trace would record one draw of {what} for good: call model.eval() before"
        )

"""What is said of a network that cannot be counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from torch import nn

from zoo.count.host_values import NeedsValues
from zoo.count.isolation import first_line
from zoo.count.torch_internals import hooks_of, schema
from zoo.errors import InputError

# What torch says, and what is true of it.
REASONS = (
    (
        r"HigherOrderOperator '?(\w+)|HigherOrderOperator, (\w+)|higher_order\.(\w+)",
        "torch's higher-order operator {} is not followed: call one of its functions directly",
    ),
    (
        "FlexAttention",
        "flex_attention has no form for tensors without numbers: count it with "
        "scaled_dot_product_attention in its place",
    ),
    (
        r"Sparse\w*Meta|[Ss]parse",
        "what an operator on a sparse tensor costs depends on which values are stored, which "
        "shapes do not say",
    ),
)
ASKS = ("meta tensor", "Meta", "meta device", "register_meta", "data-dependent", "item()")


def refusal(
    name: str, place: str, error: BaseException, module: nn.Module, operator: Any, sizes: Any
) -> InputError:
    """Of an exception in a forward pass: the network's `name`, the `place` and the
    module there, the operator that was running, None for none, and the input's shapes.
    """
    text = str(error)
    where = f"in {place}{_hook(error, module)}"
    for pattern, reason in REASONS:
        if match := re.search(pattern, text):
            found = next(filter(None, match.groups()), "")
            return InputError(f"{name} cannot be counted: {where} {reason.format(found)}")
    if (depends := _on_data(error, operator)) is not None:
        return InputError(
            f"{name} cannot be counted without numbers: {where} a shape or a branch depends on "
            f"data ({depends}): count its other modules one by one"
        )
    given = ", ".join("x".join(map(str, size)) for size in sizes)
    return InputError(f"{name} does not take the input {given}: {where}: {first_line(error)}")


def later_refusal(name: str, stage: str, error: BaseException, operator: Any) -> InputError:
    """Of an exception after the forward pass, in `stage`: "the loss", "the backward
    pass".
    """
    if (depends := _on_data(error, operator)) is not None:
        return InputError(
            f"{name}: {stage} cannot be counted without numbers: a shape or a branch depends on "
            f"data ({depends}): count the forward pass alone, in mode 'eval'"
        )
    return InputError(f"{name}: {stage} fails: {first_line(error)}")


def _on_data(error: BaseException, operator: Any) -> str | None:
    """What asks for values; None where torch refused something else."""
    if isinstance(error, NeedsValues):
        return str(error)
    if not any(sign in str(error) for sign in ASKS):
        return None
    said = first_line(error).partition(". ")[0]
    return f"{schema(operator).name}: {said}" if operator is not None else said


def _hook(error: BaseException, module: nn.Module) -> str:
    """` in its hook NAME` where the exception arose in a hook of the module."""
    codes = set(_codes(error.__traceback__))
    for hook in hooks_of(module):
        if getattr(hook, "__code__", None) in codes:
            return f", in its hook {hook.__name__},"
    return ""


def _codes(trace: TracebackType | None) -> Iterable[Any]:
    while trace:
        yield trace.tb_frame.f_code
        trace = trace.tb_next

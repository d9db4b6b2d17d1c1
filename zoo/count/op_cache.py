"""What is known of an operator once it has run on tensors of given shapes: its cost,
and how to make its output anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo.count.costs import Cost
from zoo.count.meta import META, tensors
from zoo.count.receptive_field import storage_of
from zoo.count.torch_internals import schema


@dataclass(frozen=True, slots=True)
class CachedOp:
    """What an operator costs on given shapes, and how its output is made anew: torch's
    meta kernels take longer than all else here.
    """

    cost: Cost
    macs: int
    other: int
    replay: Any  # a function of the operator's arguments; None where it is not safe


CACHE: dict[Any, CachedOp] = {}  # over all passes of a process
MAX_ENTRIES = 50_000


def cache_op(cost: Cost, func: Any, arguments: Any, output: Any, *, key: Any) -> CachedOp:
    """What is known of an operator that has just run with `arguments`, positional and
    keyword ones, cached under its `key`, a signature, where that is safe.
    """
    args, kwargs = arguments
    op = CachedOp(cost, *cost.of(args, kwargs, output), _replayer(func, args, kwargs, output))
    if key is not None and op.replay:
        if len(CACHE) > MAX_ENTRIES:
            CACHE.clear()
        CACHE[key] = op
    return op


def signature(values: Iterable[Any], found: list[Tensor]) -> tuple[Any, ...]:
    """All of some arguments that an output's shape depends on; their tensors are added
    to `found`.

    Most of the counters' own time is spent here: hence the order of the questions.
    """
    key: list[Any] = []
    for value in values:
        kind = type(value)
        if value is None or kind is int:
            key.append(value)
        elif kind is Tensor or kind is nn.Parameter or isinstance(value, Tensor):
            if value.layout is not torch.strided:
                raise TypeError(f"a tensor of layout {value.layout} has no strides")
            found.append(value)
            key += value.shape, value.stride(), value.dtype, value.is_meta
        elif kind is list or kind is tuple:
            key.append(tuple(value) if value and type(value[0]) is int else signature(value, found))
        else:
            key += kind, value  # 1 and 1.0 are equal, but give outputs of different types
    return tuple(key)


def _replayer(func: Any, args: Any, kwargs: Any, output: Any) -> Callable[[Any], Any] | None:
    """A function of an operator's arguments that makes the same output again, where
    that is safe: new tensors on the meta device, or the first argument that an
    elementwise operator changed in place.
    """
    if schema(func).is_mutable:
        unchanged = (
            args and output is args[0] and output.is_meta and torch.Tag.pointwise in func.tags
        )
        return (lambda args: args[0]) if unchanged else None
    parts = output if isinstance(output, (tuple, list)) else (output,)
    if not all(
        isinstance(part, Tensor) and part.is_meta and part.layout is torch.strided for part in parts
    ):
        return None
    given = [storage_of(tensor) for tensor in tensors((args, kwargs))]
    if any(storage_of(part) is storage for part in parts for storage in given):
        return None  # a view, whatever its schema says
    plans = [
        partial(torch.empty_strided, part.shape, part.stride(), dtype=part.dtype, device=META)
        for part in parts
    ]
    if isinstance(output, Tensor):
        return lambda _: plans[0]()
    if isinstance(output, tuple):
        return lambda _: tuple([plan() for plan in plans])
    return lambda _: [plan() for plan in plans]

"""Sums of gradients, as autograd's engine makes them where no dispatch mode looks
on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count.meta import META
from zoo.count.torch_internals import reference_counts

ADD = torch.ops.aten.add.Tensor
CLONE = torch.ops.aten.clone.default


def adds_in_place(a: Any, b: Any) -> bool:
    """Whether autograd's engine, which adds up the gradients that meet in one tensor,
    would add `b` to `a` itself: as it does when nothing else holds `a`, but never under
    a dispatch mode.
    """
    if not (
        isinstance(b, Tensor)
        and a.is_meta
        and a.shape == b.shape
        and a.dtype == b.dtype
        and a.is_contiguous()
    ):
        return False
    pairs = zip(reference_counts(a), engine_refcounts(), strict=True)
    return all(here <= there for here, there in pairs)


def kept_sparse(gradient: Tensor) -> Tensor:
    """A sparse gradient as the engine keeps it, with the parts that it has; under a
    dispatch mode it would clone it, which on the meta device loses its values.
    """
    return torch.sparse_coo_tensor(
        gradient._indices(), gradient._values(), gradient.shape, check_invariants=False
    )


@cache
def engine_refcounts() -> tuple[int, int]:
    """References to a gradient, and to its storage, that only the engine has, as they
    are seen in a dispatch mode.
    """
    seen = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is ADD:
                seen.append(reference_counts(args[0]))
            return func(*args, **(kwargs or {}))

    with torch.enable_grad(), torch.inference_mode(False):
        x = torch.empty(2, device=META, requires_grad=True) * 2
        y = torch.mul(x * 3, x.exp())
    with Watch():  # type: ignore[no-untyped-call]
        torch.autograd.backward(y, torch.empty_like(y))
    return seen[0]

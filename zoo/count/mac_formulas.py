"""Multiply-adds of convolutions, products, attention and recurrent layers, each as a
function of an operator's arguments and its output.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from torch import Tensor

COMPLEX = 3  # real multiply-adds in a complex one, as torch's convolutions compute it
Formula = Callable[..., int]  # (arguments of the operator, output=its output) -> operations


def numel_of_first(values: Any) -> int:
    """The number of values of the first tensor."""
    if isinstance(values, Tensor):
        return values.numel()
    parts = [part for part in values or () if isinstance(part, (Tensor, tuple, list))]
    return next(filter(None, map(numel_of_first, parts)), 0)


def convolution(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *_: Any,
    output: Any,
) -> int:
    """Each output position (transposed: each input position) meets one kernel per map;
    weight (out, in / groups, *kernel).
    """
    return (x if transposed else output).numel() * prod(weight.shape[1:])


def convolution_backward(
    grad: Any,
    x: Any,
    weight: Any,
    sizes: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    out_padding: Any,
    groups: int,
    mask: Any,
    *,
    output: Any,
) -> int:
    """As much as the forward pass for the input's gradient, and again for the weight's,
    where they are asked for.
    """
    return (mask[0] + mask[1]) * (x if transposed else grad).numel() * prod(weight.shape[1:])


def plain_convolution(x: Any, weight: Any, *_: Any, output: Any, **__: Any) -> int:
    """A library's own convolution that is never transposed."""
    return numel_of_first(output) * prod(weight.shape[1:])


def product(a: Any, b: Any, *_: Any, output: Any, **__: Any) -> int:
    """(…, n, m) @ (…, m, p), or a matrix or vector with a vector."""
    return a.numel() * (b.shape[-1] if b.ndim > 1 else 1) * (COMPLEX if a.is_complex() else 1)


def add_product(bias: Any, a: Any, b: Any, *_: Any, output: Any, **__: Any) -> int:
    return product(a, b, output=output)


def outer_product(bias: Any, a: Any, b: Any, *_: Any, output: Any, **__: Any) -> int:
    return int(output.numel()) * (COMPLEX if a.is_complex() else 1)


def trilinear(
    a: Any,
    b: Any,
    c: Any,
    missing_a: Any,
    missing_b: Any,
    missing_c: Any,
    summed: Any,
    *_: Any,
    output: Any,
    **__: Any,
) -> int:
    """Three tensors in one space of indices, of which each misses some: the product of
    the first two, summed over what the third misses, then that with the third.
    """
    sizes: dict[int, int] = {}
    for tensor, missing in ((a, missing_a), (b, missing_b), (c, missing_c)):
        dims = [dim for dim in range(tensor.ndim + len(missing)) if dim not in missing]
        sizes |= dict(zip(dims, tensor.shape, strict=True))
    first = [size for dim, size in sizes.items() if dim not in missing_a or dim not in missing_b]
    then = [size for dim, size in sizes.items() if dim not in summed or dim not in missing_c]
    return (prod(first) + prod(then)) * (COMPLEX if a.is_complex() else 1)


def distances(x: Any, *_: Any, output: Any, **__: Any) -> int:
    """One for each coordinate of each pair, whatever the power."""
    return output.numel() * x.shape[-1]


def distances_backward(grad: Any, x: Any, *_: Any, output: Any, **__: Any) -> int:
    return grad.numel() * x.shape[-1]


def pairs_backward(grad: Any, x: Any, *_: Any, output: Any, **__: Any) -> int:
    """Each pair's gradient goes to both of its ends."""
    return 2 * grad.numel() * x.shape[-1]


def attention(query: Any, key: Any, value: Any, *_: Any, output: Any, **__: Any) -> int:
    """query (N, H, L, E) @ key (N, H, S, E)ᵀ, then (N, H, L, S) @ value (N, H, S, V); a
    causal mask saves nothing here.
    """
    return prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def attention_backward(
    grad: Any, query: Any, key: Any, value: Any, *_: Any, output: Any, **__: Any
) -> int:
    """The scores again, the gradients of value and scores, and from the latter those of
    query and key.
    """
    return prod(query.shape[:-1]) * key.shape[-2] * (3 * query.shape[-1] + 2 * value.shape[-1])


def pairs(query: Any, key: Any, ends: Any, length: int, keys: int) -> int:
    """Pairs of a query and a key, heads included: query (N, L, H, E), key (N, S, H, E).

    With `ends` the sequences stand one behind the other, and only their greatest
    lengths are known: it is counted where all are as long.
    """
    if ends is None:
        return prod(query.shape[:-1]) * key.shape[-3]
    sequences = ends.numel() - 1
    if sequences * length != query.shape[-3] or sequences * keys != key.shape[-3]:
        raise ValueError("the sequences differ in length, and by how much depends on data")
    return sequences * length * keys * query.shape[-2]


def flash(
    query: Any,
    key: Any,
    value: Any,
    ends: Any,
    _: Any,
    length: int,
    keys: int,
    *__: Any,
    **___: Any,
) -> int:
    return pairs(query, key, ends, length, keys) * (query.shape[-1] + value.shape[-1])


def flash_backward(
    grad: Any,
    query: Any,
    key: Any,
    value: Any,
    out: Any,
    sums: Any,
    ends: Any,
    _: Any,
    length: int,
    keys: int,
    *__: Any,
    **___: Any,
) -> int:
    # at this level "no ends" is an empty tensor or none at all
    given = None if ends is None or not ends.numel() else ends
    return pairs(query, key, given, length, keys) * (3 * query.shape[-1] + 2 * value.shape[-1])


def efficient(query: Any, key: Any, value: Any, bias: Any, *rest: Any, **options: Any) -> int:
    return flash(query, key, value, *rest, **options)


def efficient_backward(
    grad: Any, query: Any, key: Any, value: Any, bias: Any, out: Any, *rest: Any, **options: Any
) -> int:
    return flash_backward(grad, query, key, value, out, None, *rest, **options)


def lstm_backward(
    x: Any, w1: Any, w2: Any, w3: Any, w4: Any, *_: Any, output: Any, **__: Any
) -> int:
    return 2 * prod(x.shape[:2]) * (w1.numel() + w2.numel())


def lstm(x: Any, weight: Any, recurrent: Any, *_: Any, output: Any, **__: Any) -> int:
    """One layer in one direction over a sequence (T, N, inputs): every step multiplies
    with both weights.
    """
    return prod(x.shape[:2]) * (weight.numel() + recurrent.numel())

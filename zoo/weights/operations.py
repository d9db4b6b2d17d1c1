"""What a layout does to tensors beyond their names, by the names that weights/*.toml
uses. Each works on a state dict under our keys, `own` being the network's tensors
(perhaps on the meta device), and has its inverse, which raises WeightsError where there
is none.

A tensor that an operation does not concern stays the same object.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import WeightsError
from zoo.weights import input_norm, recurrent

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
MEAN, VAR = ".running_mean", ".running_var"


@dataclass(frozen=True)
class Operation:
    """`read(state, own, argument)` from a publisher's tensors to ours, `write(state,
    argument)` back.
    """

    read: Callable[[State, Mapping[str, Tensor], Any], State]
    write: Callable[[State, Any], State]


Step = str | Mapping[str, Any]  # in a TOML: a name, or {name = argument}


def read_steps(steps: Sequence[Step], state: State, own: Mapping[str, Tensor]) -> State:
    """A publisher's tensors as ours, one operation after the other."""
    for name, argument in map(_named, steps):
        state = _operation(name).read(state, own, argument)
    return state


def write_steps(steps: Sequence[Step], state: State) -> State:
    """Our tensors as a publisher's. Raises WeightsError where that is not possible."""
    for name, argument in reversed([*map(_named, steps)]):
        state = _operation(name).write(state, argument)
    return state


def _named(step: Step) -> tuple[str, Any]:
    if isinstance(step, str):
        return step, {}
    ((name, argument),) = step.items()
    return name, argument


def _operation(name: str) -> Operation:
    if name not in OPERATIONS:
        raise WeightsError(f"the operation {name!r} is not known: {', '.join(OPERATIONS)} are")
    return OPERATIONS[name]


# ---------------------------------------------------------------- the first convolution


def flip_input(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """BGR to RGB, and back: the input channels of the first convolution reversed."""
    first = next((key for key, tensor in own.items() if tensor.ndim == 4), None)
    return {
        key: value.flip(1) if key == first and value.ndim == 4 else value
        for key, value in state.items()
    }


def flip_output(state: State, argument: Any) -> State:
    return flip_input(state, state, argument)


# ------------------------------------------------------------------------------- shapes


def from_oyxi(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """Flat tensors in the network's shapes; convolutions are stored as (out, y, x,
    in).
    """

    def shaped(key: str, value: Tensor) -> Tensor:
        shape = tuple(own[key].shape) if key in own else ()
        if value.ndim != 1 or len(shape) < 2 or value.numel() % math.prod(shape[1:]):
            return value
        if len(shape) == 4:
            _, channels, height, width = shape
            return value.reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()
        return value.reshape(-1, *shape[1:])

    return {key: shaped(key, value) for key, value in state.items()}


def to_oyxi(state: State, _: Any) -> State:
    return {
        key: (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).flatten()
        for key, value in state.items()
    }


def as_own_shape(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """Tensors of another number of dimensions in the network's shapes, in the same
    order: a convolution as the linear layer that it equals on a map of its kernel's
    size, a flattened kernel, a bias of four dimensions.
    """

    def shaped(key: str, value: Tensor) -> Tensor:
        shape = tuple(own[key].shape) if key in own else ()
        if value.ndim == len(shape) or not shape or value.numel() % math.prod(shape[1:]):
            return value
        return value.reshape(-1, *shape[1:])

    return {key: shaped(key, value) for key, value in state.items()}


def as_convolutions(state: State, kernels: Mapping[str, int]) -> State:
    """The linear layers `kernels` as convolutions of these kernel sizes."""
    sizes = {f"{layer}.weight": size for layer, size in kernels.items()}
    return {
        key: value.reshape(len(value), -1, sizes[key], sizes[key]) if key in sizes else value
        for key, value in state.items()
    }


# -------------------------------------------------------------------------- batch norms


def unit_statistics(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """Batch norms that only scale and shift normalise by mean 0 and variance 1."""
    import torch

    if any(key.endswith((MEAN, VAR)) for key in state):
        return state
    means = {key: torch.zeros(tensor.shape) for key, tensor in own.items() if key.endswith(MEAN)}
    ones = {key: torch.ones(tensor.shape) for key, tensor in own.items() if key.endswith(VAR)}
    return {**state, **means, **ones}


def no_statistics(state: State, _: Any) -> State:
    import torch

    for key, value in state.items():
        neutral = torch.zeros_like(value) if key.endswith(MEAN) else torch.ones_like(value)
        if key.endswith((MEAN, VAR)) and not torch.equal(value, neutral):
            raise WeightsError(
                f"{key} is not neutral: batch norms of this layout have no statistics, so that "
                "these weights cannot be written in it"
            )
    return {key: value for key, value in state.items() if not key.endswith((MEAN, VAR))}


FACTOR, INPUT_BIAS = ".running_factor", ".input_bias"  # beside a norm's own tensors


def divide_statistics(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """Caffe's batch norms: sums of means and of variances, and the `running_factor`
    that both are divided by (0: there are none yet).
    """

    def divided(key: str, value: Tensor) -> Tensor:
        factor = state.get(key.rpartition(".")[0] + FACTOR)
        if factor is None or not key.endswith((MEAN, VAR)):
            return value
        return value / factor if factor else value * 0

    return {key: divided(key, value) for key, value in state.items() if not key.endswith(FACTOR)}


def with_factors(state: State, _: Any) -> State:
    factors = {
        key.removesuffix(MEAN) + FACTOR: value.new_ones(1)
        for key, value in state.items()
        if key.endswith(MEAN)
    }
    return {**state, **factors}


def fold_biases(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """The biases of convolutions before batch norms, by the norm's name `input_bias`:
    into its mean.
    """

    def folded(key: str, value: Tensor) -> Tensor:
        bias = state.get(key.removesuffix(MEAN) + INPUT_BIAS) if key.endswith(MEAN) else None
        return value if bias is None else value - bias

    return {key: folded(key, value) for key, value in state.items() if not key.endswith(INPUT_BIAS)}


def zero_biases(state: State, norms: Sequence[str]) -> State:
    """Biases of zero before the norms of these names."""
    biases = {
        key.removesuffix(MEAN) + INPUT_BIAS: value * 0
        for key, value in state.items()
        if key.endswith(MEAN) and key.removesuffix(MEAN).rpartition(".")[2] in norms
    }
    return {**state, **biases}


INNER_WEIGHT, INNER_BIAS = ".inner_weight", ".inner_bias"  # beside a norm's own tensors


def merge_scales(state: State, own: Mapping[str, Tensor], _: Any) -> State:
    """Caffe2's batch norms, which scale and shift themselves, before the layer that
    Caffe has for it: both in one.
    """
    result = {key: state[key] for key in state if not key.endswith((INNER_WEIGHT, INNER_BIAS))}
    for key in result:
        norm = key.rpartition(".")[0]
        outer = state.get(f"{norm}.weight")
        if key.endswith(".bias") and outer is not None and (inner := norm + INNER_BIAS) in state:
            result[key] = state[key] + outer * state[inner]
        elif key.endswith(".weight") and (inner := norm + INNER_WEIGHT) in state:
            result[key] = state[key] * state[inner]
    return result


def with_inner_scales(state: State, _: Any) -> State:
    inner: State = {}
    for key, value in state.items():
        if key.endswith(MEAN):
            inner[key.removesuffix(MEAN) + INNER_WEIGHT] = value * 0 + 1
            inner[key.removesuffix(MEAN) + INNER_BIAS] = value * 0
    return {**state, **inner}


def keep_input_norm(state: State, own: Mapping[str, Tensor], channels: int) -> State:
    """A batch norm on the image, which no network here has, stays beside its tensors:
    who loads them takes it for the preprocessing.
    """
    return state


OPERATIONS = {
    "flip_input": Operation(flip_input, flip_output),
    "oyxi": Operation(from_oyxi, to_oyxi),
    "reshape": Operation(as_own_shape, as_convolutions),
    "unit_statistics": Operation(unit_statistics, no_statistics),
    "divide_statistics": Operation(divide_statistics, with_factors),
    "fold_biases": Operation(fold_biases, zero_biases),
    "merge_scales": Operation(merge_scales, with_inner_scales),
    "lstm_cells": Operation(recurrent.from_cells, recurrent.to_cells),
    "transpose": Operation(recurrent.transposed, recurrent.transposed_back),
    "input_norm": Operation(keep_input_norm, input_norm.added),
}

"""Recurrent layers and linear ones as TensorFlow stores them.

A cell has one `kernel` (inputs + hidden, 4 hidden) and one bias for both matrices, its
gates in the order input, candidate, forget, output; torch has two matrices, outputs
first, and the order input, forget, candidate, output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]
KERNEL, BIAS = "kernel_l", "bias_l"  # behind a layer's name, before the number
SWAPPED = (0, 2, 1, 3)  # their gates in our order, and ours in theirs


def from_cells(state: State, own: Mapping[str, Tensor], layers: Sequence[str]) -> State:
    """The cells of the LSTMs `layers` as torch's; a second bias is 0."""
    import torch

    result = dict(state)
    for key in state:
        for layer in layers:
            if key.startswith(f"{layer}.{KERNEL}"):
                number = key.removeprefix(f"{layer}.{KERNEL}")
                kernel = result.pop(key)
                hidden = kernel.shape[1] // 4
                both = _swapped(kernel.T)
                result[f"{layer}.weight_ih_l{number}"] = both[:, :-hidden].contiguous()
                result[f"{layer}.weight_hh_l{number}"] = both[:, -hidden:].contiguous()
            elif key.startswith(f"{layer}.{BIAS}"):
                number = key.removeprefix(f"{layer}.{BIAS}")
                bias = _swapped(result.pop(key))
                result[f"{layer}.bias_ih_l{number}"] = bias
                result[f"{layer}.bias_hh_l{number}"] = torch.zeros_like(bias)
    return result


def to_cells(state: State, layers: Sequence[str]) -> State:
    """Raises WeightsError for a second bias that is not 0."""
    import torch

    result = dict(state)
    for key in state:
        layer, _, name = key.rpartition(".")
        if layer not in layers:
            continue
        number = name.rpartition("_l")[2]
        if name.startswith("weight_ih_l"):
            parts = [result.pop(f"{layer}.weight_{kind}_l{number}") for kind in ("ih", "hh")]
            result[f"{layer}.{KERNEL}{number}"] = _swapped(torch.cat(parts, 1)).T.contiguous()
        elif name.startswith("bias_ih_l"):
            if result.pop(f"{layer}.bias_hh_l{number}").any():
                raise WeightsError(
                    f"{layer}.bias_hh_l{number} is not 0: this layout has one bias per gate, so "
                    "that these weights cannot be written in it"
                )
            result[f"{layer}.{BIAS}{number}"] = _swapped(result.pop(key))
    return result


def _swapped(gates: Tensor) -> Tensor:
    """(4 hidden, …) with the gates in the other order."""
    import torch

    parts = gates.chunk(4)
    return torch.cat([parts[place] for place in SWAPPED])


def transposed(state: State, own: Mapping[str, Tensor], layers: Sequence[str]) -> State:
    """The matrices of these linear layers, (inputs, outputs), as torch's."""
    keys = {f"{layer}.weight" for layer in layers}
    return {
        key: value.T.contiguous() if key in keys and value.ndim == 2 else value
        for key, value in state.items()
    }


def transposed_back(state: State, layers: Sequence[str]) -> State:
    return transposed(state, state, layers)

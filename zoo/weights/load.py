"""Weights from files and state dicts into a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from zoo.errors import WeightsError


def read_file(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file or a torch.save file (tensors only: nothing
    in it is executed).

    A dict with the key `state_dict` or `model` is opened, and a `module.` prefix of all
    keys (DataParallel) is taken off.
    """
    path = Path(path)
    state: Any
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            import torch

            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types for a broken file
        first = (str(error) or repr(error)).splitlines()[0]
        raise WeightsError(f"{path}: not a readable weights file: {first}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise WeightsError(f"{path}: holds no state dict (name -> tensor)")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def assign(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load strictly; batch counters that old files lack (`num_batches_tracked`) count
    as zero. Raises WeightsError naming what differs.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unknown", unknown), ("of another shape", shapes))
        if keys
    ]
    if faults:
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: tensors {'; '.join(faults)}; is `layout=` right?"
        )
    filled = {
        key: state[key] if key in state else value.new_zeros(value.shape, device="cpu")
        for key, value in own.items()
    }
    model.load_state_dict(filled, assign=any(tensor.is_meta for tensor in own.values()))

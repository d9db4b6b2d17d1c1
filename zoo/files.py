"""Files that are whole or not there: writing, and state dicts in and out.

Standard library only at import time; torch and safetensors are imported where a state
dict is read or written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import WeightsError, ZooError

if TYPE_CHECKING:
    from torch import Tensor, nn

METADATA = "zoo"  # the key of what our safetensors files say of their network


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path` to write to; it takes the file's place when all
    went well, and nothing stays behind otherwise.

    Raises ZooError when the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # safetensors makes its files private
        temporary.replace(path)
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write(path: str | Path, content: bytes | str) -> None:
    """Write a whole file. Raises ZooError when that is not possible."""
    with replaced(path) as temporary:
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())


# -------------------------------------------------------------------------- state dicts


def write_state(
    path: str | Path, state: Mapping[str, Tensor], about: Mapping[str, Any] | None = None
) -> None:
    """A state dict as a safetensors file; `about` its network goes into the file's
    metadata, as JSON.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    metadata = {"format": "pt"}
    if about is not None:
        metadata[METADATA] = json.dumps(about)
    with replaced(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def read_about(path: str | Path) -> dict[str, Any] | None:
    """What one of our files says of its network; None for any other file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            found = (file.metadata() or {}).get(METADATA)
            about: dict[str, Any] | None = json.loads(found) if found else None
            return about
    except (SafetensorError, OSError, ValueError):
        return None


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file or a torch.save file (tensors only: nothing
    in it is executed).

    Of a torch.save file a dict with the key `state_dict` or `model` is opened, and a
    `module.` prefix of all keys (DataParallel) is taken off. Raises WeightsError.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    pickled = path.suffix != ".safetensors"
    state: Any
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        safe: Any = {"map_location": "cpu", "weights_only": True}
        state = torch.load(path, **safe) if pickled else load_file(path)
    except Exception as error:  # torch and safetensors raise a dozen types
        first = (str(error) or repr(error)).splitlines()[0]
        raise WeightsError(f"{path}: not a readable weights file: {first}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    whole = isinstance(state, dict) and state
    if not whole or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: holds no state dict (name -> tensor)")
    if pickled and all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load strictly; batch counters that old files lack (`num_batches_tracked`) count
    as zero. `source` names the state dict in messages.

    Raises WeightsError naming what differs.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    faults = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for kind, keys in kinds.items()
        if keys
    ]
    if faults:
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: tensors {'; '.join(faults)}; "
            "is `layout=` right?"
        )
    filled = {
        key: state[key] if key in state else value.new_zeros(value.shape, device="cpu")
        for key, value in own.items()
    }
    model.load_state_dict(filled, assign=any(tensor.is_meta for tensor in own.values()))

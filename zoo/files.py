"""Files that are whole or not there: writing, and state dicts in and out.

Standard library only at import time; torch and safetensors are imported where a state
dict is read or written.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import checkpoints
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
    """A state dict as a safetensors file, without what torch's wrappers put into the
    keys; `about` its network goes into the file's metadata, as JSON.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {
        checkpoints.unwrapped_key(name): tensor.detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
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
    """The state dict in a safetensors file or a torch.save file, alone or in a
    container (tensors only: nothing in it is executed). Raises WeightsError.
    """
    import torch
    from safetensors.torch import load_file

    path = Path(path)
    content: Any
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        if checkpoints.is_safetensors(path):
            content = load_file(path)
        else:  # torch would go by the suffix of a path
            with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types
        reason = checkpoints.unreadable(path, error)
        raise WeightsError(f"{path}: not a readable weights file: {reason}") from error
    return checkpoints.state_dict_in(content, str(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load strictly, but for what wrappers put before the keys (`module.`, `model.`);
    batch counters that old files lack (`num_batches_tracked`) count as zero. `source`
    names the state dict in messages.

    Raises WeightsError naming what differs.
    """
    from torch import nn

    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    real_keys = {checkpoints.unwrapped_key(key): key for key in model.state_dict()}
    own = dict(zip(real_keys, model.state_dict().values(), strict=True))
    state = checkpoints.without_prefix(state, own, source)
    _check_fit(type(model).__name__, own, state, source)
    filled = {
        real_keys[key]: state[key] if key in state else value.new_zeros(value.shape, device="cpu")
        for key, value in own.items()
    }
    model.load_state_dict(filled, assign=any(tensor.is_meta for tensor in own.values()))


def _check_fit(
    name: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> None:
    """Raises WeightsError naming what differs."""
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if own and not own.keys() & state.keys():
        raise WeightsError(
            f"{source} has no tensor of {name}: its keys are {checkpoints.listed(unknown)} and not "
            f"{checkpoints.listed(missing)}; is `layout=` right?"
        )
    kinds = {"missing": missing, "unknown": unknown, "of another shape": shapes}
    faults = [
        f"{len(keys)} {kind} ({checkpoints.listed(keys)})" for kind, keys in kinds.items() if keys
    ]
    if faults:
        raise WeightsError(
            f"{source} does not fit {name}: tensors {'; '.join(faults)}; is `layout=` right?"
        )

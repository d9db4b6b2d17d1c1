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

from zoo import checkpoints, file_kinds
from zoo.errors import WeightsError, ZooError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

LARGEST_CLAIM = 16  # times a file's bytes: some tensors may share theirs
ALIGNMENT = 64  # bytes: of the memory that torch allocates
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

    Its tensors begin at multiples of 64 bytes, where their sizes allow it, as torch's
    own do: so the file can be mapped and computes to the last bit what they computed.
    """
    import torch

    metadata = {"format": "pt"}
    if about is not None:
        metadata[METADATA] = json.dumps(about)
    header: dict[str, Any] = {"__metadata__": metadata}
    tensors = [(checkpoints.unwrapped_key(name), tensor.detach()) for name, tensor in state.items()]
    tensors.sort(key=lambda pair: pair[1].nbytes % ALIGNMENT > 0)  # stable
    end = 0
    for name, tensor in tensors:
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _dtype_names()[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with replaced(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in tensors:
            flat = tensor.cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def _dtype_names() -> dict[torch.dtype, str]:
    """As safetensors calls them."""
    import torch

    names = {torch.bool: "BOOL", torch.bfloat16: "BF16", torch.complex64: "C64"}
    names |= {torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2"}
    for letter, kind in (("F", "float"), ("I", "int"), ("U", "uint")):
        for bits in (8, 16, 32, 64):
            if dtype := getattr(torch, f"{kind}{bits}", None):
                names[dtype] = f"{letter}{bits}"
    return names


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
    container (tensors only: nothing in it is executed), in the shards that an index
    file names (`model.safetensors.index.json`), or in a folder with one of these.

    A safetensors file is mapped, not read. What is done to the tensors never reaches
    the file; the file must not be overwritten in place as long as they are in use
    (written beside it and renamed, it may be). Raises WeightsError.
    """
    path = Path(path)
    if path.is_dir():
        path = checkpoints.file_in(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    parts = checkpoints.shards(path) if path.name.endswith(checkpoints.INDEX) else [path]
    content = read_content(parts[0]) if parts else {}
    for part in parts[1:]:
        for key, tensor in read_content(part).items():
            if key in content:
                raise WeightsError(f"{path}: two of its files hold {key}")
            content[key] = tensor
    state = checkpoints.state_dict_in(content, str(path))
    size = sum(part.stat().st_size for part in parts)
    claimed = [tensor.numel() * tensor.element_size() for tensor in state.values()]
    if sum(claimed) > LARGEST_CLAIM * size:
        raise WeightsError(
            f"{path}: not a readable weights file: it says that {size:,} bytes are tensors of "
            f"{sum(claimed):,}"
        )
    return state


def read_content(path: Path) -> Any:
    """What is in a safetensors file or a torch.save file, without running anything.
    Raises WeightsError.
    """
    import torch
    from safetensors.torch import load_file

    try:
        if file_kinds.is_safetensors(path):
            return load_file(path)
        file_kinds.check_pickles(path)
        # torch would go by the suffix of a path
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen types
        reason = file_kinds.unreadable(path, error)
        raise WeightsError(f"{path}: not a readable weights file: {reason}") from error
    return content


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load strictly, but for what wrappers put before the keys (`module.`, `model.`);
    batch counters that old files lack (`num_batches_tracked`) count as zero. `source`
    names the state dict in messages. A network on the meta device takes the tensors
    themselves, without a copy, where they are of its dtype.

    Raises WeightsError naming what differs; the network is then as it was.
    """
    model = without_parallel(model)
    real_keys = {checkpoints.unwrapped_key(key): key for key in model.state_dict()}
    own = dict(zip(real_keys, model.state_dict().values(), strict=True))
    state = checkpoints.without_prefix(state, own, source)
    _check_fit(type(model).__name__, own, state, source)
    filled = {
        key: state[key] if key in state else value.new_zeros(value.shape, device="cpu")
        for key, value in own.items()
    }
    on_meta = any(tensor.is_meta for tensor in own.values())
    if on_meta:
        filled = _one_each(filled, own)
    model.load_state_dict({real_keys[key]: filled[key] for key in own}, assign=on_meta)


def without_parallel(model: nn.Module) -> nn.Module:
    """The module inside of torch's wrappers for many devices."""
    from torch import nn

    while isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        model = model.module
    return model


def _one_each(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as parameters may be, in the network's dtypes: each with memory of
    its own, no more than it needs, and aligned as torch aligns it (results depend on
    that in their last bits). Those that are not are copied.
    """
    import torch

    found, places = {}, set()
    for key, tensor in state.items():
        tensor = tensor.detach().to(own[key].dtype)
        if not tensor.is_meta:
            storage = tensor.untyped_storage()
            alone = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in places
            aligned = tensor.data_ptr() % ALIGNMENT == 0
            if not (alone and aligned and tensor.is_contiguous()):
                tensor = tensor.clone(memory_format=torch.contiguous_format)
            places.add(tensor.untyped_storage().data_ptr())
        found[key] = tensor
    return found


def _check_fit(
    name: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> None:
    """Raises WeightsError naming what differs."""
    missing = [key for key in own if key not in state and not is_counter(key)]
    unknown = [key for key in state if key not in own]
    both = {key: (state[key], value) for key, value in own.items() if key in state}
    shapes = [
        f"{key} {tuple(tensor.shape)} for {tuple(value.shape)}"
        for key, (tensor, value) in both.items()
        if tensor.shape != value.shape
    ]
    kinds = [
        f"{key} {wrong}" for key, (tensor, value) in both.items() if (wrong := unfit(tensor, value))
    ]
    if own and not both:
        raise WeightsError(
            f"{source} has no tensor of {name}: its keys are {checkpoints.listed(unknown)} and not "
            f"{checkpoints.listed(missing)}; is `layout=` right?"
        )
    found = {
        "missing": missing,
        "unknown": unknown,
        "of another shape": shapes,
        "of another kind": kinds,
    }
    faults = [
        f"{len(keys)} {kind} ({checkpoints.listed(keys)})" for kind, keys in found.items() if keys
    ]
    if faults:
        raise WeightsError(
            f"{source} does not fit {name}: tensors {'; '.join(faults)}; is `layout=` right?"
        )


def is_counter(key: str) -> bool:
    """Whether a tensor counts the batches of a norm; old files lack these."""
    return key.endswith("num_batches_tracked")


def unfit(tensor: Tensor, own: Tensor) -> str:
    """Why a tensor cannot be the network's `own`, whatever its shape; "" if it can."""
    import torch

    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"{tensor.dtype} {tensor.layout}"
    if tensor.is_meta and not own.is_meta:
        return "without numbers (on the meta device)"
    if tensor.is_complex() or (own.is_floating_point() and not tensor.is_floating_point()):
        return f"{tensor.dtype} for {own.dtype}"
    return ""

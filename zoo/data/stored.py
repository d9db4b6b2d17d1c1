"""What is computed once and kept in files: how it is named, by all that it depends on,
and how much of it stays.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MOST_BYTES = 4 * 2**30  # of all stored features; those that were used longest ago go first
SUFFIXES = (".safetensors", ".maps")  # of these files


def digest(*parts: Any) -> str:
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def model_digest(model: nn.Module) -> str:
    """Of all numbers, and of the layers as they print."""
    running = sha256(f"{model!r} {getattr(model, 'origin', None)}".encode())
    for name, tensor in model.state_dict().items():
        running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        running.update(tensor_bytes(tensor))
    return running.hexdigest()


def image_facts(image: Any) -> Any:
    if isinstance(image, Path):
        facts = image.stat()
        return [str(image.resolve()), facts.st_size, facts.st_mtime_ns]
    return [image.mode, image.size, sha256(image.tobytes()).hexdigest()]


def tensor_bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def prune(newest: Path) -> None:
    """Remove, of the folder of a new file, what was used longest ago, beyond
    MOST_BYTES; not the new file.
    """
    files = []
    for path in newest.parent.iterdir():
        if path.suffix in SUFFIXES:
            with suppress(FileNotFoundError):  # removed by another process
                files.append((path.stat(), path))
    total = sum(facts.st_size for facts, _ in files)
    for facts, path in sorted(files, key=lambda each: each[0].st_mtime_ns):
        if total <= MOST_BYTES:
            break
        if path != newest:
            path.unlink(missing_ok=True)
            total -= facts.st_size

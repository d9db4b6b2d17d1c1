"""Product-quantised weights in a torch.save file: for each output of a layer some
codes, each of which stands for a block of a codebook. The blocks, one behind the other,
are the output's weights.

Two publishers write such files. Permute, Quantize, Fine-Tune (Martinez et al. 2021): a
state dict with `<layer>.codes_matrix` (outputs, blocks) and `<layer>.codebook`
(entries, block length). And the Bit Goes Down (Stock et al. 2020): a dict per layer,
with the `centroids` (entries, block length) and the `assignments` of all outputs' first
blocks, then of their second ones, `n_blocks` in all; or with the layer's own tensors.

A batch norm of either has scale and shift only: it normalises by a mean of 0 and a
variance of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import checkpoints
from zoo.errors import WeightsError
from zoo.files import read_content

CODES, BOOK = ".codes_matrix", ".codebook"
CENTROIDS, ASSIGNMENTS, BLOCKS = "centroids", "assignments", "n_blocks"
UNSIGNED = {torch.int8: 256, torch.int16: 65536}  # codes are written as if without a sign
MOST = 64  # numbers that a byte of a file may stand for: published ones have up to 12


def read_codebooks(path: Path) -> dict[str, Tensor]:
    """The decoded tensors: weights as (outputs, inputs x kernel), in single precision.
    Raises WeightsError.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    content = read_content(path)
    if isinstance(content, Mapping) and any(map(_is_quantised, content.values())):
        stored = _flat(path, content)
    else:
        stored = checkpoints.state_dict_in(content, str(path))
    found: dict[str, Tensor] = {}
    room = MOST * path.stat().st_size
    for key, value in stored.items():
        if key.endswith(CODES):
            layer = key.removesuffix(CODES)
            book = stored.get(f"{layer}{BOOK}")
            if book is None:
                raise WeightsError(f"{path}: {layer} has codes and no codebook")
            room -= value.numel() * max(book.shape[1:], default=0)
            if room < 0:
                raise WeightsError(f"{path}: {layer} has more numbers than such a file can hold")
            found[f"{layer}.weight"] = _decoded(path, layer, value, book)
        elif not key.endswith(BOOK):
            found[key] = value.float() if value.is_floating_point() else value
    return found


def _is_quantised(layer: Any) -> bool:
    return isinstance(layer, Mapping) and CENTROIDS in layer


def _flat(path: Path, layers: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Layers that are dicts as a state dict, the codes of each output in a row."""
    found: dict[str, Tensor] = {}
    for layer, parts in layers.items():
        if not isinstance(parts, Mapping):
            raise WeightsError(f"{path}: {layer} is no dict of a layer's tensors")
        if _is_quantised(parts):
            codes, count = parts.get(ASSIGNMENTS), parts.get(BLOCKS)
            if not isinstance(codes, Tensor) or not isinstance(count, int) or count < 1:
                raise WeightsError(f"{path}: {layer} has centroids without their assignments")
            if codes.numel() % count:
                raise WeightsError(f"{path}: {layer} has {codes.numel()} codes in {count} blocks")
            own = {CODES: codes.reshape(count, -1).t(), BOOK: parts[CENTROIDS]}
        else:
            own = {f".{name}": tensor for name, tensor in parts.items()}
        for name, tensor in own.items():
            if not isinstance(tensor, Tensor):
                raise WeightsError(f"{path}: {layer}{name} is no tensor")
            found[f"{layer}{name}"] = tensor
    return found


def _decoded(path: Path, layer: str, codes: Tensor, book: Tensor) -> Tensor:
    if codes.is_floating_point() or codes.ndim != 2 or book.ndim != 2:
        raise WeightsError(f"{path}: the codes of {layer} are no table of whole numbers")
    wanted = codes.long() % UNSIGNED.get(codes.dtype, 1 << 62)
    if wanted.numel() and int(wanted.max()) >= len(book):
        raise WeightsError(f"{path}: a code of {layer} is {int(wanted.max())} of {len(book)}")
    return book.float()[wanted].reshape(len(codes), -1)

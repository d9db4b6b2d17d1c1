"""Product-quantised weights in a torch.save file: `<layer>.codes_matrix` (rows, blocks)
of whole numbers and `<layer>.codebook` (entries, block length) stand for
`<layer>.weight`, whose rows are the blocks of each output, one behind the other.

Permute, Quantize, Fine-Tune (Martinez et al. 2021) writes these. A batch norm there has
scale and shift only: it normalises by a mean of 0 and a variance of 1.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.files import read_state

CODES, BOOK = ".codes_matrix", ".codebook"
UNSIGNED = {torch.int8: 256, torch.int16: 65536}  # codes are written as if without a sign


def read_codebooks(path: Path) -> dict[str, Tensor]:
    """The decoded tensors: weights as (outputs, inputs x kernel), in single precision.
    Raises WeightsError.
    """
    stored = read_state(path)
    found: dict[str, Tensor] = {}
    for key, value in stored.items():
        if key.endswith(CODES):
            layer = key.removesuffix(CODES)
            book = stored.get(f"{layer}{BOOK}")
            if book is None:
                raise WeightsError(f"{path}: {layer} has codes and no codebook")
            found[f"{layer}.weight"] = _decoded(path, layer, value, book)
        elif not key.endswith(BOOK):
            found[key] = value.float() if value.is_floating_point() else value
    return found


def _decoded(path: Path, layer: str, codes: Tensor, book: Tensor) -> Tensor:
    if codes.is_floating_point() or codes.ndim != 2 or book.ndim != 2:
        raise WeightsError(f"{path}: the codes of {layer} are no table of whole numbers")
    wanted = codes.long() % UNSIGNED.get(codes.dtype, 1 << 62)
    if wanted.numel() and int(wanted.max()) >= len(book):
        raise WeightsError(f"{path}: a code of {layer} is {int(wanted.max())} of {len(book)}")
    return book.float()[wanted].reshape(len(codes), -1)

"""Readers of the formats that weights are published in: a file to its tensors under the
publisher's names. Each reads no more than the file holds, runs nothing that is in it,
and ends in a tensor per name or in one WeightsError.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

READERS = {  # format in a record -> file here and its function
    "safetensors": ("torch_files", "read_state"),
    "torch": ("torch_files", "read_state"),
    "zipped_torch": ("torch_files", "read_zipped_torch"),
    "onnx": ("onnx", "read_onnx"),
    "caffemodel": ("caffe", "read_caffemodel"),
    "raw_float32": ("raw", "read_raw_float32"),
    "deep_compression": ("deep_compression", "read_deep_compression"),
    "codebooks": ("codebooks", "read_codebooks"),
    "tf_checkpoint": ("tensorflow", "read_tf_checkpoint"),
}


def read(path: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of a file of the format `kind`. Raises WeightsError."""
    if kind not in READERS:
        raise WeightsError(f"{path}: the format {kind!r} is not known: {', '.join(READERS)} are")
    module, function = READERS[kind]
    reader: Callable[[Path], dict[str, Tensor]]
    reader = getattr(import_module(f"{__name__}.{module}"), function)
    return reader(path)

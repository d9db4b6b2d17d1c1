"""The initialisers of an ONNX file; its graph is not run.

ModelProto.graph is field 7, GraphProto.initializer 5; TensorProto: dims 1, data_type 2,
float_data 4, name 8, raw_data 9, data_location 14.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.weights.formats.protobuf import (
    Malformed,
    fields,
    integers,
    mapped,
    numbers,
    submessage,
    text,
)

GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, FLOAT_DATA, NAME, RAW_DATA, LOCATION = 1, 2, 4, 8, 9, 14
DTYPES = {1: torch.float32, 10: torch.float16, 11: torch.float64}
WHOLE = (6, 7)  # int32 and int64: shapes that the graph's nodes take, no weights


def read_onnx(path: Path) -> dict[str, Tensor]:
    """The initialisers that are weights, by name. Raises WeightsError for a file that
    is none, or that keeps them in another file.
    """
    found: dict[str, Tensor] = {}
    with mapped(path, "ONNX file") as view:
        for number, _, graph in fields(view):
            if number != GRAPH:
                continue
            for part, _, value in fields(submessage(graph)):
                if part == INITIALIZER:
                    name, tensor = _tensor(submessage(value))
                    if name in found:
                        raise Malformed(f"it has two initialisers {name!r}")
                    if tensor is not None:
                        found[name] = tensor
    if not found:
        raise WeightsError(f"{path}: not a readable ONNX file: it has no initialisers")
    return found


def _tensor(message: memoryview) -> tuple[str, Tensor | None]:
    """Name and numbers of an initialiser; None for one of whole numbers."""
    shape: list[int] = []
    raw: list[memoryview] = []
    floats: list[memoryview] = []
    name, dtype = "", 0
    for number, kind, value in fields(message):
        if number == DIMS:
            shape.extend(integers(kind, value))
        elif number == DATA_TYPE and isinstance(value, int):
            dtype = value
        elif number == NAME:
            name = text(value)
        elif number == RAW_DATA:
            raw.append(submessage(value))
        elif number == FLOAT_DATA:
            floats.append(submessage(value))
        elif number == LOCATION and value:
            raise Malformed(f"{name or 'an initialiser'} is kept in another file")
    if dtype in WHOLE:
        return name, None
    if dtype not in DTYPES:
        raise Malformed(f"{name!r} has the type {dtype}, which no weights have")
    kind_ = DTYPES[dtype]
    if floats and (raw or kind_ != torch.float32):
        raise Malformed(f"{name!r} has its numbers in two ways")
    values = numbers(raw or floats, kind_)
    if math.prod(shape) != len(values):
        raise Malformed(f"{name!r} has {len(values):,} numbers for the shape {shape}")
    return name, values.reshape(shape)

"""The blobs of a caffemodel: `<layer>.<number>`, in Caffe's order (weight, bias; of
BatchNorm mean, variance and the factor that both are divided by; of Scale the two).

NetParameter: layer 100 (LayerParameter: name 1, blobs 7), and before 2014 layers 2 (V1:
name 4, blobs 6). BlobProto: num, channels, height, width 1 to 4; data 5; shape 7 (dim
1); double_data 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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

LAYERS = {100: (1, 7), 2: (4, 6)}  # field of a layer -> those of its name and its blobs
DATA, SHAPE, DOUBLES = 5, 7, 8
OLD_SHAPE = (1, 2, 3, 4)


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Blobs by layer and number. Raises WeightsError."""
    found: dict[str, Tensor] = {}
    with mapped(path, "caffemodel") as view:
        for number, _, message in fields(view):
            if number not in LAYERS or isinstance(message, int):
                continue
            name, blobs = _layer(message, *LAYERS[number])
            for index, blob in enumerate(blobs):
                if f"{name}.{index}" in found:
                    raise Malformed(f"it has two layers {name!r}")
                found[f"{name}.{index}"] = blob
    if not found:
        raise WeightsError(f"{path}: not a readable caffemodel: it has no weights")
    return found


def _layer(message: memoryview, name_field: int, blob_field: int) -> tuple[str, list[Tensor]]:
    name, blobs = "", []
    for number, _, value in fields(message):
        if number == name_field:
            name = text(value)
        elif number == blob_field:
            blobs.append(_blob(submessage(value)))
    return name, blobs


def _blob(message: memoryview) -> Tensor:
    old: dict[int, int] = {}
    shape: list[int] | None = None
    data: dict[int, list[memoryview]] = {DATA: [], DOUBLES: []}
    for number, _, value in fields(message):
        if number in OLD_SHAPE and isinstance(value, int):
            old[number] = value
        elif number == SHAPE:
            shape = list(_dimensions(submessage(value)))
        elif number in data:
            data[number].append(submessage(value))
    doubles = bool(data[DOUBLES])
    values = numbers(
        data[DOUBLES if doubles else DATA], torch.float64 if doubles else torch.float32
    )
    if shape is None:
        shape = [old.get(number, 1) for number in OLD_SHAPE]
    if math.prod(shape) != len(values):
        raise Malformed(f"a blob has {len(values):,} numbers for the shape {shape}")
    return values.float().reshape(shape)


def _dimensions(message: memoryview) -> Iterator[int]:
    for number, kind, value in fields(message):
        if number == 1:
            yield from integers(kind, value)

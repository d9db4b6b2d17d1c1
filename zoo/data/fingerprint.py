"""A digest of a data set, by which a later run, or an evaluation, sees whether the data
are still the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Subset, TensorDataset

from zoo.data.labels import known_targets

BYTES = 16


def fingerprint(parts: Iterable[Any]) -> str:
    """32 hexadecimal digits of all the parts together, however they are divided and
    wherever they lie: of image files the names below their common folder, the sizes in
    bytes and the class numbers (they are not read), of images and tensors in memory
    every byte; "" where a part is neither.
    """
    roots = {id(root): root for part in parts if part is not None for root in _roots(part)}
    files: list[tuple[Path, int]] = []
    entries: list[bytes] = []
    for root in roots.values():
        if isinstance(root, TensorDataset):
            entries.append(_digest(map(_bytes, root.tensors)))
            continue
        pairs = _pairs(root)
        if pairs is None:
            return ""
        for image, target in pairs:
            if isinstance(image, (str, os.PathLike)):
                files.append((Path(image), target))
            elif content := _content(image):
                entries.append(_digest([*content, f"{target}".encode()]))
            else:
                return ""
    above = os.path.commonpath([file.parent for file, _ in files]) if files else ""
    for file, target in files:
        name = Path(os.path.relpath(file, above)).as_posix()
        entries.append(_digest([f"{name} {_size(file)} {target}".encode()]))
    return _digest(sorted(entries)).hex()


def _roots(data: Any) -> Iterator[Any]:
    """What holds the items of a part."""
    if isinstance(data, (DataLoader, Subset)):
        yield from _roots(data.dataset)
    elif isinstance(data, ConcatDataset):
        yield from chain.from_iterable(map(_roots, data.datasets))
    else:
        yield data


def _pairs(dataset: Any) -> Iterable[tuple[Any, int]] | None:
    """Images or their files with their class numbers; None where they are not known."""
    images, targets = getattr(dataset, "images", None), known_targets(dataset)
    if images is None:  # torchvision's sets in memory
        images = getattr(dataset, "data", None)
    if images is None:  # and its ImageFolder
        images = [sample[0] for sample in getattr(dataset, "samples", None) or ()]
    known = bool(targets) and hasattr(images, "__len__") and len(images) == len(targets)
    return zip(images, targets, strict=True) if known else None


def _content(image: Any) -> list[Any]:
    """The bytes of an image in memory, after its size; nothing where it is none."""
    if isinstance(image, Tensor):
        return [f"{image.dtype} {tuple(image.shape)}".encode(), _bytes(image)]
    if not hasattr(image, "tobytes"):
        return []
    kind = [getattr(image, name, "") for name in ("mode", "dtype", "shape", "size")]
    return [str(kind).encode(), image.tobytes()]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:  # gone since it was listed
        return -1


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def _digest(parts: Iterable[Any]) -> bytes:
    found = blake2b(digest_size=BYTES)
    for part in parts:
        found.update(part)
    return found.digest()

"""Features in files, a stage each, named by all that they depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler, Subset, TensorDataset

from zoo.data.datasets import ImageDataset
from zoo.data.image import EvalTransform
from zoo.data.order import PlacedDataset
from zoo.data.pixels import PixelBatches, PixelDataset
from zoo.data.stored import digest, image_facts, model_digest, prune, tensor_bytes
from zoo.errors import WeightsError, warn
from zoo.files import read_state, write_state

ROWS = 3  # of stored features that are computed again, to see that they still hold


@dataclass(frozen=True)
class FeatureCache:
    """Features (N, D) and class numbers (N,) by stage, in safetensors files of `folder`
    named by the digest `key`; they are mapped, not read.
    """

    folder: Path
    key: str

    def load(self, stages: tuple[str, ...]) -> dict[str, tuple[Tensor, Tensor]]:
        """Those that are there whole."""
        found = {}
        for stage in stages:
            if (path := self._path(stage)).is_file():
                try:
                    state = read_state(path)
                    found[stage] = state["x"], state["y"]
                    with suppress(OSError):  # a folder that may not be written
                        path.touch()  # used now
                except (WeightsError, KeyError):
                    warn(f"{path} is damaged: its features are computed anew")
        return found

    def save(self, stage: str, x: Tensor, y: Tensor) -> None:
        """Raises ZooError when the file cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_state(self._path(stage), {"x": x, "y": y})
        prune(self._path(stage))

    def _path(self, stage: str) -> Path:
        name = sha256(json.dumps([self.key, stage]).encode()).hexdigest()[:24]
        return self.folder / f"{name}.safetensors"


def cache_for(
    folder: Path | None, model: nn.Module, loader: DataLoader[Any], about: Mapping[str, Any]
) -> FeatureCache | None:
    """Where the features of these images by this network belong; None without a folder,
    or where the data do not say what they are: a transform or Dataset of the user's, an
    order that is drawn.
    """
    order = getattr(loader, "order", None)
    drawn = order.shuffle if order else not isinstance(loader.sampler, SequentialSampler)
    if folder is None or drawn or loader.drop_last:
        return None
    data = _data_digest(loader.dataset)
    if data is None:
        return None
    return FeatureCache(folder, digest(model_digest(model), data, dict(about)))


def spread_rows(count: int) -> list[int]:
    """A few of `count` rows: the first, the last and those between."""
    return sorted({round(place * (count - 1) / (ROWS - 1)) for place in range(ROWS)})


def _data_digest(data: Any) -> str | None:
    """Of files their places, sizes and times, of what is in memory all numbers; None
    for anything else.
    """
    if isinstance(data, Subset):
        inner = _data_digest(data.dataset)
        return inner and digest(inner, [int(index) for index in data.indices])
    if isinstance(data, (PlacedDataset, PixelBatches)):
        return _data_digest(data.dataset)
    if isinstance(data, PixelDataset) and data.transform and not data.transform.draws:
        pixels = sha256(tensor_bytes(data.data)).hexdigest()
        return digest(data.transform.preprocessing.to_dict(), pixels, data.targets)
    if type(data) is TensorDataset:
        return digest(*(sha256(tensor_bytes(tensor)).hexdigest() for tensor in data.tensors))
    if type(data) is ImageDataset and isinstance(data.transform, EvalTransform):
        images = [image_facts(image) for image in data.images]
        return digest(data.transform.preprocessing.to_dict(), images, list(data.targets))
    return None

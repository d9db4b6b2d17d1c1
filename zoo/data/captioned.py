"""Photos and their captions as numbers: what a captioner is trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.data.captions import CaptionedPhotos
from zoo.data.image import open_image
from zoo.data.vocabulary import Vocabulary
from zoo.spec import PAD


class EncodedCaptions(Dataset[tuple[Tensor, list[list[int]]]]):
    """(photo, its captions as numbers, each with the end): the photo as `transform`
    makes it, or what an encoder gave of it before, of `features` (N, …).
    """

    def __init__(
        self,
        photos: CaptionedPhotos,
        vocabulary: Vocabulary,
        *,
        transform: Callable[[Any], Tensor] | None = None,
        features: Tensor | None = None,
    ) -> None:
        self.photos, self.vocabulary = photos, vocabulary
        self.transform, self.features = transform, features
        self.sentences = [
            [vocabulary.encode(words) for words in photos.words(index)]
            for index in range(len(photos))
        ]

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Tensor, list[list[int]]]:
        return self.photo(index), self.sentences[index]

    def photo(self, index: int) -> Tensor:
        if self.features is not None:
            return self.features[index]
        assert self.transform is not None
        return self.transform(open_image(self.photos.files[index]))

    def batches(self, size: int = 64) -> Iterator[Tensor]:
        """All photos (n, …), in their order."""
        for first in range(0, len(self), size):
            rows = range(first, min(first + size, len(self)))
            yield torch.stack([self.photo(index) for index in rows]).float()

    @property
    def images(self) -> tuple[Path, ...]:
        """The files, for messages."""
        return self.photos.files


def captioned_batch(items: Sequence[tuple[Tensor, list[list[int]]]]) -> tuple[Tensor, Tensor]:
    """Photos (N, …) in float32, and tokens (N, k, T) with PAD behind the end; a photo
    with fewer captions than another has some that are PAD alone.
    """
    photos = torch.stack([photo for photo, _ in items]).float()
    most = max(len(sentences) for _, sentences in items)
    longest = max(len(sentence) for _, sentences in items for sentence in sentences)
    tokens = torch.full((len(items), most, longest), PAD)
    for row, (_, sentences) in zip(tokens, items, strict=True):
        for place, sentence in zip(row, sentences, strict=False):
            place[: len(sentence)] = torch.tensor(sentence)
    return photos, tokens

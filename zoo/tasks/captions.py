"""Captions of photos: made, as a table and as a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.data.image import EvalTransform, convert, open_image
from zoo.data.vocabulary import Vocabulary
from zoo.decoding.attention_plot import draw_attention
from zoo.decoding.beam import beam_search
from zoo.decoding.sample import sample
from zoo.decoding.sentences import Sentences
from zoo.errors import DataError, UsageError, warn
from zoo.files import replaced
from zoo.formatting import Printable, Section, Table
from zoo.interfaces.decoder import Captioner
from zoo.tasks.contact_sheet import Panel, draw_sheet
from zoo.tasks.image_files import Files, image_files, read_files
from zoo.tasks.layout import evaluation_layout
from zoo.tasks.predictions import LARGEST, check_picture

MOST_WORDS = 30  # of a caption, the end included


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How sentences are made: by beam search of a `width`, or with a `temperature`
    drawn at random, of the `top_k` likeliest words (0: of all), from `seed` on. Raises
    InputError for other numbers when it is used.
    """

    width: int = 3
    max_length: int = MOST_WORDS
    length_power: float = 0.0
    temperature: float | None = None
    top_k: int = 0
    seed: int = 0

    def function(self, end: int) -> Callable[[Captioner, Any], Sentences]:
        """Of a network and its memory."""
        if self.temperature is None:
            return partial(
                beam_search,
                end=end,
                width=self.width,
                max_length=self.max_length,
                length_power=self.length_power,
            )
        return partial(
            sample,
            end=end,
            max_length=self.max_length,
            temperature=self.temperature,
            top_k=self.top_k,
            generator=torch.Generator().manual_seed(self.seed),
        )


@dataclass(frozen=True)
class Spoken:
    """`score`: the sum of the log-probabilities of the words and of the end;
    `attention` (T, L): where each word looked.
    """

    text: str
    score: float
    attention: Tensor | None = None


@torch.no_grad()
def spoken(
    model: Captioner,
    vocabulary: Vocabulary,
    batches: Iterable[Tensor],
    *,
    encoded: bool = False,
    decoding: Decoding = Decoding(),
) -> Iterator[Spoken]:
    """What a captioner says about batches of photos (N, 3, H, W), or of what its
    encoder gave of them (`encoded`).
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    decode = decoding.function(vocabulary.specials.end)
    try:
        for given in batches:
            inputs = given.to(device)
            memory = model.prepare(inputs) if encoded else model.encode(evaluation_layout(inputs))
            found = decode(model, memory)
            for row, tokens in enumerate(found.tokens.tolist()):
                words = [token for token in tokens if token >= 0]
                looked = None if found.attention is None else found.attention[row, : len(words)]
                yield Spoken(vocabulary.decode(words), float(found.scores[row]), looked)
    finally:
        model.train(training)


def caption_files(
    model: Captioner,
    files: Files,
    vocabulary: Vocabulary,
    transform: Callable[[Any], Tensor],
    decoding: Decoding = Decoding(),
) -> Captions:
    """A caption of each file, in the order of the files. A file that cannot be read has
    `error` set.
    """
    found = Captions()
    for batch in read_files(image_files(files), transform):
        images = [image for _, image in batch if isinstance(image, Tensor)]
        some = [torch.stack(images)] if images else []
        said = spoken(model, vocabulary, some, decoding=decoding)
        for path, image in batch:
            if isinstance(image, str):
                found.append(CaptionOf(path, error=image))
            else:
                each = next(said)
                found.append(
                    CaptionOf(
                        path, each.text, each.score, attention=each.attention, transform=transform
                    )
                )
        next(said, None)
    return found


@dataclass(frozen=True, repr=False)
class CaptionOf(Printable):
    """What a network says about a photo; or why it could not be read. `score`: the sum
    of the log-probabilities; `attention` (words, places).
    """

    file: Path
    caption: str = ""
    score: float = 0.0
    error: str = ""
    attention: Tensor | None = None
    transform: Callable[[Any], Tensor] | None = None  # from the photo to what was seen

    @property
    def text(self) -> str:
        """Raises DataError for a file that could not be read."""
        if self.error:
            raise DataError(self.error)
        return self.caption

    def sections(self) -> list[Section]:
        return Captions([self]).sections()

    def to_dict(self) -> dict[str, Any]:
        said = {"caption": self.caption, "score": self.score}
        nothing = dict.fromkeys(said)
        return {
            "file": str(self.file),
            **(nothing if self.error else said),
            "error": self.error or None,
        }

    def plot_attention(self, path: str | Path) -> None:
        """Draw where each word looked to a .png or .svg file. Raises UsageError for
        another kind of file, and for a network without attention.
        """
        check_picture(path)
        words = self.text.split()
        if self.attention is None or not words:
            raise UsageError(f"{path}: the network has no attention to draw")
        photo = open_image(self.file)
        seen = self.transform.crop(photo) if isinstance(self.transform, EvalTransform) else photo
        grid = grid_of(self.attention.shape[1], seen.height / seen.width)
        draw_attention(seen, words, self.attention, grid, path, title=self.caption)


def grid_of(places: int, ratio: float) -> tuple[int, int]:
    """Rows and columns of a map of so many places, of an image of this height over its
    width.
    """
    known = [(rows, places // rows) for rows in range(1, places + 1) if not places % rows]
    return min(known, key=lambda grid: abs(math.log(grid[0] / grid[1] / ratio)))


class Captions(Printable, list[CaptionOf]):
    """The captions of several photos, in their order."""

    @property
    def read(self) -> list[CaptionOf]:
        """Those of the files that could be read."""
        return [each for each in self if not each.error]

    def table(self) -> Table:
        rows = [[str(each.file), each.caption, f"{each.score:.2f}"] for each in self.read]
        return Table(["file", "caption", "score"], rows, left=("file", "caption"))

    def sections(self) -> list[Section]:
        found: list[Section] = [self.table()] if self.read else []
        errors = "\n".join(each.error for each in self if each.error)
        return [*found, errors] if errors else found

    def plot(self, path: str | Path) -> None:
        """Draw the photos with their captions to a .png or .svg file. Raises UsageError
        for another kind of file, and where no photo could be read.
        """
        path = Path(path)
        check_picture(path)
        shown: Sequence[CaptionOf] = self.read[:LARGEST]
        if not shown:
            raise UsageError(f"{path}: there is no photo to draw")
        if more := len(self.read) - len(shown):
            warn(f"{path} has the first {LARGEST} photos: {more} are left out")
        panels = [Panel(convert(open_image(each.file), 3), each.caption) for each in shown]
        with replaced(path) as temporary:
            draw_sheet(panels, temporary, path.suffix[1:])

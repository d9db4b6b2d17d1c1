"""A text file, and its characters as numbers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from zoo.data.datasets import DataSplit
from zoo.errors import DataError, InputError, UsageError, nearest
from zoo.formatting import some_of
from zoo.paths import data_folder

TEXTS = {"tinyshakespeare": "text/tinyshakespeare.txt"}  # by name: their place in ZOO_DATA
TEST, VAL = 0.1, 0.05  # of the text; of what is left of it, the training part
WORDS = {"train": "training", "val": "validation", "test": "test"}
CODES = 0x110000  # of Unicode


class Text(TensorDataset):
    """Characters: `text`, the `vocabulary` in the order of the numbers, and `tokens`
    (characters,).

    Raises DataError for a character outside the vocabulary; `where` begins the message.
    """

    def __init__(self, text: str, vocabulary: Sequence[str], where: str) -> None:
        self.text = text
        self.vocabulary = tuple(vocabulary)
        self.tokens = to_numbers(text, vocabulary, where)
        super().__init__(self.tokens)


def to_numbers(text: str, vocabulary: Sequence[str], where: str) -> Tensor:
    """The numbers (characters,) of a text, int32. Raises DataError for a character that
    the vocabulary lacks, and for a vocabulary of longer words.
    """
    if any(len(word) != 1 for word in vocabulary):
        word = next(word for word in vocabulary if len(word) != 1)
        raise DataError(f"{where}: {word!r} in the vocabulary is no character")
    table = torch.full((CODES,), -1, dtype=torch.int32)
    table[_codes("".join(vocabulary))] = torch.arange(len(vocabulary), dtype=torch.int32)
    tokens = table[_codes(text)]
    if (tokens < 0).any():
        unknown = sorted(set(text) - set(vocabulary))
        named = [f"{character!r} (U+{ord(character):04X})" for character in unknown]
        plural = "s" if len(unknown) > 1 else ""
        raise DataError(
            f"{where}: {len(unknown)} character{plural} that the vocabulary of "
            f"{len(vocabulary)} lacks: {some_of(named)}"
        )
    return tokens


def _codes(text: str) -> Tensor:
    """The code points (characters,)."""
    raw = bytearray(text.encode("utf-32-le"))
    return torch.frombuffer(raw, dtype=torch.int32).long() if raw else torch.zeros(0).long()


def read_text(path: Path) -> str:
    """A UTF-8 file, without the mark that some begin with. Raises DataError."""
    if path.is_dir():
        raise DataError(f"{path} is a folder: a text is one file")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at position {error.start:,}"
        raise DataError(f"{path} is no UTF-8 text ({found}): convert it with iconv") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def find_text(data: Any) -> Path:
    """The file of a path or of a name of TEXTS, also below ZOO_DATA. Raises UsageError
    where there is none.
    """
    if not isinstance(data, (str, os.PathLike)):
        raise UsageError(f"a text is a file or one of {', '.join(TEXTS)}, not {type(data)}")
    path, place = Path(data).expanduser(), data_folder()
    if path.exists():
        return path
    name = TEXTS.get(str(data), str(data))
    if place and not path.is_absolute() and (place / name).exists():
        return place / name
    if str(data) in TEXTS:
        missing = f"ZOO_DATA={place} has no {name}" if place else "ZOO_DATA is not set"
        raise UsageError(f"{data}: {missing}: ZOO_DATA=FOLDER names the folder with {name}")
    near = nearest(str(data), TEXTS) or f"; a text is a file, or {', '.join(TEXTS)}"
    raise UsageError(f"there is no text {str(data)!r}{near}")


def open_text(
    data: Any,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    vocabulary: Sequence[str] | None = None,
) -> DataSplit:
    """A text in three: its last tenth (`test_fraction`) is to report on, of the
    training part before it the last 5 % (`val_fraction`) for validation. The vocabulary
    is that of the training part, validation included, in the order of Unicode, unless
    one is given.

    Raises UsageError where there is no such text, DataError for one that is no UTF-8,
    too short to be divided, or has characters that the vocabulary lacks.
    """
    shares = {
        "val_fraction": VAL if val_fraction is None else val_fraction,
        "test_fraction": TEST if test_fraction is None else test_fraction,
    }
    for name, value in shares.items():
        if not 0 < value < 1:
            raise InputError(f"{name}={value}: needs a number between 0 and 1")
    val_share, test_share = shares.values()
    path = find_text(data)
    text = read_text(path)
    training = int(len(text) * (1 - test_share))
    cut = int(training * (1 - val_share))
    parts = {"train": text[:cut], "val": text[cut:training], "test": text[training:]}
    if short := [name for name, part in parts.items() if len(part) < 2]:
        raise DataError(
            f"{path} has {len(text):,} characters, of which {', '.join(short)} gets less than two"
        )
    if vocabulary is None:
        vocabulary = sorted(set(text[:training]))
    opened: dict[str, Any] = {
        name: Text(part, vocabulary, f"the {WORDS[name]} part of {path}")
        for name, part in parts.items()
    }
    return DataSplit(
        name=path.stem,
        source=str(path.absolute()) if str(data) not in TEXTS else f"{data} in {path.parent}",
        split=f"in order: the last {test_share:.3g} to test on, the last {val_share:.3g} of the "
        "rest for validation",
        classes=tuple(vocabulary),
        **opened,
    )


class Strips:
    """A text cut into `rows` strips of equal length that are read side by side, in
    order: batches of tokens (rows, T + 1), of which the last one is the first of the
    next batch; T is `length`, in the last batch what is left. Process `rank` of `world`
    reads its share of the strips.

    Raises DataError for a text that has no whole window for each strip.
    """

    def __init__(
        self, text: Text, rows: int, length: int, *, rank: int = 0, world: int = 1, name: str = ""
    ) -> None:
        columns = (len(text) - 1) // rows  # the last token of a strip is the first of the next
        if columns < length:
            raise DataError(
                f"{name or 'the text'} has {len(text):,} characters, too few for {rows} "
                f"window{'s' if rows > 1 else ''} of {length}: a smaller batch_size or length, or "
                "a longer text"
            )
        self.strips = text.tokens.unfold(0, columns + 1, columns)[:rows][rank::world]
        self.length = length
        self.start = 0  # the batch that the next pass begins with

    @property
    def tokens(self) -> int:
        """How many are said, of all that are read but the first of each strip."""
        return len(self.strips) * (self.strips.shape[1] - 1)

    def set_position(self, epoch: int, start: int = 0) -> None:
        """The next pass begins with batch number `start`."""
        self.start = start

    def __len__(self) -> int:
        return -(-(self.strips.shape[1] - 1) // self.length)

    def __iter__(self) -> Iterator[Tensor]:
        for number in range(self.start, len(self)):
            begin = number * self.length
            yield self.strips[:, begin : begin + self.length + 1].long()

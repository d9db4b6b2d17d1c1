"""Words and their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zoo.errors import DataError
from zoo.inputs import PAD, Specials

WORD = re.compile(r"[a-z0-9]+|[#&()]")


def tokenize(caption: str) -> list[str]:
    """The words of a caption: lower-case letters and digits; of all other characters
    only # & ( ) are words, each of its own (Karpathy and Fei-Fei 2015, its data files).
    """
    return WORD.findall(caption.lower())


def frequent_words(sentences: Iterable[Sequence[str]], min_count: int) -> tuple[str, ...]:
    """Those that occur at least so often, the most frequent first, as frequent ones in
    the order of the alphabet. Raises DataError when there is none.
    """
    counts = Counter(word for sentence in sentences for word in sentence)
    known = [word for word, count in counts.items() if count >= min_count]
    if not known:
        raise DataError(f"no word occurs {min_count} times: lower min_count")
    return tuple(sorted(known, key=lambda word: (-counts[word], word)))


@dataclass(frozen=True)
class Vocabulary:
    """`words` have the numbers from `specials.count` on."""

    words: tuple[str, ...]
    specials: Specials

    def __post_init__(self) -> None:
        if len(self.numbers) < len(self.words):
            word, _ = Counter(self.words).most_common(1)[0]
            raise DataError(f"the vocabulary has the word {word!r} twice")

    @classmethod
    def of(
        cls, sentences: Iterable[Sequence[str]], min_count: int, specials: Specials
    ) -> Vocabulary:
        """The words that `frequent_words` finds."""
        return cls(frequent_words(sentences, min_count), specials)

    def __len__(self) -> int:
        """All numbers, the special ones included."""
        return self.specials.count + len(self.words)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        return {word: number for number, word in enumerate(self.words, self.specials.count)}

    def encode(self, sentence: Iterable[str]) -> list[int]:
        """The numbers of the words and of the end. Words that it does not know are left
        out, or the unknown word stands for them, where there is one.
        """
        found = (self.numbers.get(word, self.specials.unknown) for word in sentence)
        return [*(number for number in found if number is not None), self.specials.end]

    def decode(self, numbers: Iterable[int]) -> str:
        """The words up to the end, with blanks between them. Raises DataError for a
        number beyond the last word.
        """
        words = []
        for number in numbers:
            if number in (self.specials.end, PAD):
                break
            if number == self.specials.unknown:
                words.append("<unk>")
            elif number >= len(self):
                raise DataError(
                    f"there is no word {number} in a vocabulary of {len(self)}: it is not the one "
                    "that these weights were trained with"
                )
            elif number >= self.specials.count:
                words.append(self.words[number - self.specials.count])
        return " ".join(words)

    def to_dict(self) -> dict[str, Any]:
        given = self.specials
        specials = {"start": given.start, "end": given.end, "unknown": given.unknown}
        return {"words": list(self.words), "specials": specials}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Vocabulary:
        return cls(tuple(record["words"]), Specials(**record["specials"]))

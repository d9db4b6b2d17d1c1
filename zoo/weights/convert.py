"""Peers' key names to ours and back, by tables of prefixes; the networks themselves
know no peer.

A table entry may use braces, expanded on both sides in step: `"features.{0,2}" =
"features.stage1.conv{1,2}"`. A letter in braces stands for any number, the same on both
sides but for a factor before it and what is added to it: `"stage{s}_conv{3n+{1,2}}" =
"conv{s+1}_x.{n}.conv{1,2}"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from zoo.errors import WeightsError

T = TypeVar("T")
CHOICE = re.compile(r"\{([^{}]*,[^{}]*)\}")
NUMBER = re.compile(r"\{([1-9]?)([a-z])([+-]\d+)?\}")  # factor, letter, summand


def expand(table: Mapping[str, str]) -> dict[str, str]:
    """The table without alternatives in braces."""
    plain: dict[str, str] = {}
    for theirs, ours in table.items():
        left, right = _braces(theirs), _braces(ours)
        if len(left) != len(right):
            raise WeightsError(
                f"layout entry {theirs!r} = {ours!r}: {len(left)} names against {len(right)}"
            )
        if any(_letters(one) != _letters(other) for one, other in zip(left, right, strict=True)):
            raise WeightsError(f"layout entry {theirs!r} = {ours!r}: other numbers on the right")
        plain.update(zip(left, right, strict=True))
    return plain


def _letters(text: str) -> set[str]:
    return {letter for _, letter, _ in _places(text)}


def _braces(text: str) -> list[str]:
    parts = CHOICE.split(text)
    alternatives = [part.split(",") for part in parts[1::2]]
    count = max(map(len, alternatives), default=1)
    if any(len(choice) != count for choice in alternatives):
        raise WeightsError(f"layout entry {text!r}: braces of different lengths")
    return [
        "".join(part if i % 2 == 0 else alternatives[i // 2][n] for i, part in enumerate(parts))
        for n in range(count)
    ]  # fmt: skip


@dataclass(frozen=True)
class _Rule:
    """A table entry with numbers in it. `left` matches whole dotted parts; `places`:
    factor, letter and summand of each of its groups.
    """

    left: re.Pattern[str]
    places: tuple[tuple[int, str, int], ...]
    right: str

    @classmethod
    def of(cls, left: str, right: str) -> _Rule:
        pattern = r"(\d+)".join(map(re.escape, NUMBER.split(left)[::4]))
        return cls(re.compile(rf"(?:^|(?<=\.)){pattern}(?=\.|$)"), _places(left), right)

    def replacement(self, match: re.Match[str]) -> str | None:
        """The right side with the numbers of a match; None where they contradict each
        other, are no multiples of their factor, or fall below 0.
        """
        numbers: dict[str, int] = {}
        for (factor, letter, add), text in zip(self.places, match.groups(), strict=True):
            number, rest = divmod(int(text) - add, factor)
            if rest or numbers.setdefault(letter, number) != number:
                return None

        new = [factor * numbers[letter] + add for factor, letter, add in _places(self.right)]
        if min([*numbers.values(), *new], default=0) < 0:
            return None
        written = map(str, new)
        return NUMBER.sub(lambda _: next(written), self.right)


def _places(text: str) -> tuple[tuple[int, str, int], ...]:
    """Factor, letter and summand of each number in a side of an entry."""
    return tuple((int(n or 1), letter, int(add or 0)) for n, letter, add in NUMBER.findall(text))


def rename(state: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    """The state under new keys: the longest matching prefix of whole dotted parts is
    replaced, of several the one with the fewest numbers; other keys stay as they are,
    and so does one whose new name another tensor has.
    """
    rules = [_Rule.of(left, right) for left, right in table.items() if NUMBER.search(left)]
    result: dict[str, T] = {}
    for key, value in state.items():
        stops = [dot.start() for dot in re.finditer(r"\.", key)] + [len(key)]
        found = [(stop, 0, table[key[:stop]]) for stop in stops if key[:stop] in table]
        for rule in rules:
            if (match := rule.left.match(key)) and (new := rule.replacement(match)) is not None:
                found.append((match.end(), -len(rule.places), new))
        end, _, start = max(found, default=(0, 0, ""))
        new_key = start + key[end:]
        result[key if new_key in result else new_key] = value
    return result


def respell(state: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    """The state with the parts of its keys replaced that stand in a table, wherever
    they stand in a key.
    """
    rules = [_Rule.of(left, right) for left, right in expand(table).items()]
    result: dict[str, T] = {}
    for key, value in state.items():
        new_key = key
        for rule in rules:
            match = rule.left.search(new_key)
            if match and (new := rule.replacement(match)) is not None:
                new_key = new_key[: match.start()] + new + new_key[match.end() :]
        result[key if new_key in result else new_key] = value
    return result


def with_endings(state: Mapping[str, T], endings: Mapping[str, str]) -> dict[str, T]:
    """The state with the ends of its keys replaced (`_filter` by `.weight`)."""
    result = {}
    for key, value in state.items():
        end = next((end for end in endings if key.endswith(end)), "")
        result[key.removesuffix(end) + endings[end] if end else key] = value
    return result


def without_start(state: Mapping[str, T], start: str) -> dict[str, T]:
    """The state without what all keys of a layout begin with; a letter in braces is any
    number there. Keys that begin otherwise stay, and so do those of two tensors that
    would get one name.
    """
    pattern = re.compile(r"\d+".join(map(re.escape, NUMBER.split(start)[::4])))
    result: dict[str, T] = {}
    for key, value in state.items():
        found = pattern.match(key)
        plain = key[found.end() :] if found else key
        result[key if plain in result or plain in state else plain] = value
    return result


def with_start(state: Mapping[str, T], start: str) -> dict[str, T]:
    """The state with the layout's start before its keys, the number in it 0."""
    return {NUMBER.sub("0", start) + key: value for key, value in state.items()}


def to_ours(
    state: Mapping[str, T], table: Mapping[str, str], endings: Mapping[str, str] | None = None
) -> dict[str, T]:
    return rename(with_endings(state, endings or {}), expand(table))


def to_theirs(
    state: Mapping[str, T], table: Mapping[str, str], endings: Mapping[str, str] | None = None
) -> dict[str, T]:
    renamed = rename(state, {ours: theirs for theirs, ours in expand(table).items()})
    return with_endings(renamed, {ours: theirs for theirs, ours in (endings or {}).items()})

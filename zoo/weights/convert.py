"""Peers' key names to ours and back, by tables of prefixes; the networks themselves
know no peer.

A table entry may use braces, expanded on both sides in step: `"features.{0,2}" =
"features.stage1.conv{1,2}"`. A letter in braces stands for any number, the same on both
sides but for what is added to it: `"stage{s}.unit{n}" = "conv{s+1}_x.{n-1}"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from zoo.errors import WeightsError

T = TypeVar("T")
CHOICE = re.compile(r"\{([^}]*,[^}]*)\}")
NUMBER = re.compile(r"\{([a-z])([+-]\d+)?\}")


def expand(table: Mapping[str, str]) -> dict[str, str]:
    """The table without alternatives in braces."""
    plain: dict[str, str] = {}
    for theirs, ours in table.items():
        left, right = _braces(theirs), _braces(ours)
        if len(left) != len(right):
            raise WeightsError(
                f"layout entry {theirs!r} = {ours!r}: {len(left)} names against {len(right)}"
            )
        if {name for name, _ in NUMBER.findall(theirs)} != {
            name for name, _ in NUMBER.findall(ours)
        }:
            raise WeightsError(f"layout entry {theirs!r} = {ours!r}: other numbers on the right")
        plain.update(zip(left, right, strict=True))
    return plain


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
    letter and summand of each of its groups.
    """

    left: re.Pattern[str]
    places: tuple[tuple[str, int], ...]
    right: str

    @classmethod
    def of(cls, left: str, right: str) -> _Rule:
        parts = NUMBER.split(left)
        pattern = r"(\d+)".join(map(re.escape, parts[::3]))
        places = [(name, int(add or 0)) for name, add in zip(parts[1::3], parts[2::3], strict=True)]
        return cls(re.compile(rf"(?:^|(?<=\.)){pattern}(?=\.|$)"), tuple(places), right)

    def replacement(self, match: re.Match[str]) -> str | None:
        """The right side with the numbers of a match; None where they contradict each
        other, or fall below 0.
        """
        numbers: dict[str, int] = {}
        for (name, add), text in zip(self.places, match.groups(), strict=True):
            number = int(text) - add
            if numbers.setdefault(name, number) != number:
                return None
        new = {
            (name, add): numbers[name] + int(add or 0) for name, add in NUMBER.findall(self.right)
        }
        if min([*numbers.values(), *new.values()], default=0) < 0:
            return None
        return NUMBER.sub(lambda place: str(new[place[1], place[2] or ""]), self.right)


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


def to_ours(
    state: Mapping[str, T], table: Mapping[str, str], endings: Mapping[str, str] | None = None
) -> dict[str, T]:
    return rename(with_endings(state, endings or {}), expand(table))


def to_theirs(
    state: Mapping[str, T], table: Mapping[str, str], endings: Mapping[str, str] | None = None
) -> dict[str, T]:
    renamed = rename(state, {ours: theirs for theirs, ours in expand(table).items()})
    return with_endings(renamed, {ours: theirs for theirs, ours in (endings or {}).items()})

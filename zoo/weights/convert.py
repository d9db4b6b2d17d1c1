"""Peers' key names to ours and back, by tables of prefixes; the networks themselves
know no peer.

A table entry may use braces, expanded on both sides in step: `"features.{0,2}" =
"features.stage1.conv{1,2}"`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from zoo.errors import WeightsError

T = TypeVar("T")


def expand(table: Mapping[str, str]) -> dict[str, str]:
    """The table without braces."""
    plain: dict[str, str] = {}
    for theirs, ours in table.items():
        left, right = _braces(theirs), _braces(ours)
        if len(left) != len(right):
            raise WeightsError(
                f"layout entry {theirs!r} = {ours!r}: {len(left)} names against {len(right)}"
            )
        plain.update(zip(left, right, strict=True))
    return plain


def _braces(text: str) -> list[str]:
    parts = re.split(r"\{([^}]*)\}", text)
    alternatives = [part.split(",") for part in parts[1::2]]
    count = max(map(len, alternatives), default=1)
    if any(len(choice) != count for choice in alternatives):
        raise WeightsError(f"layout entry {text!r}: braces of different lengths")
    return [
        "".join(part if i % 2 == 0 else alternatives[i // 2][n] for i, part in enumerate(parts))
        for n in range(count)
    ]  # fmt: skip


def rename(state: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    """The state under new keys: the longest matching prefix of whole dotted parts is
    replaced; other keys stay as they are.
    """
    result = {}
    for key, value in state.items():
        prefixes = [
            key[:stop] for stop in [m.start() for m in re.finditer(r"\.", key)] + [len(key)]
        ]
        prefix = next((prefix for prefix in reversed(prefixes) if prefix in table), None)
        result[key if prefix is None else table[prefix] + key[len(prefix) :]] = value
    return result


def to_ours(state: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    return rename(state, expand(table))


def to_theirs(state: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    return rename(state, {ours: theirs for theirs, ours in expand(table).items()})

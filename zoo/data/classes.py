"""What a network's outputs mean: the classes of ImageNet and CIFAR-10 by name, and
which of them the folders of a data set are. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zoo.errors import DataError, InputError, check_choice

IMAGENET = Path(__file__).with_name("imagenet_classes.txt")
CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Classes:
    """The classes of a network, in the order of its outputs. `ids`: their WordNet ids,
    where they have such.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@cache
def known_classes(name: str) -> Classes:
    """`imagenet`: the 1,000 of ILSVRC-2012, in the order of ascending WordNet ids;
    `cifar10`: the ten of CIFAR-10. Raises InputError for another name.
    """
    check_choice("zoo", "classes", name, ("imagenet", "cifar10"))
    if name == "cifar10":
        return Classes(CIFAR10)
    lines = IMAGENET.read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    return Classes(tuple(name for _, name in pairs), tuple(number for number, _ in pairs))


def classes_from(given: str | Sequence[str]) -> Classes:
    """Of a name (`imagenet`, `cifar10`) or the names themselves; names that are all
    WordNet ids count as ids too.
    """
    if isinstance(given, str):
        return known_classes(given)
    names = tuple(map(str, given))
    if not names:
        raise InputError("classes=…: needs at least one name")
    return Classes(names, names if all(map(WORDNET_ID.fullmatch, names)) else ())


def match(folders: Iterable[str], classes: Classes) -> dict[str, int]:
    """Folder name -> the output of its class: by WordNet id, then by the name, then by
    the name without regard to case, with `_` and `-` as spaces; never by position. A
    WordNet id stands for its name in ImageNet too, and the name for the id.

    Raises DataError for folders that are none of the classes, or might be two.
    """
    by_id = {number: output for output, number in enumerate(classes.ids)}
    exact, loose = _outputs(classes.names), _outputs(map(_plain, classes.names))
    found: dict[str, int] = {}
    unknown: list[str] = []
    ambiguous: list[str] = []
    for folder in folders:
        outputs = {by_id[folder]} if folder in by_id else set()
        for other in (folder, *_translated(folder)):
            outputs = outputs or ({by_id[other]} if other in by_id else set())
            outputs = outputs or exact.get(other) or loose.get(_plain(other)) or set()
        if len(outputs) == 1:
            found[folder] = next(iter(outputs))
        else:
            (ambiguous if outputs else unknown).append(folder)
    if unknown:
        few = ", ".join(classes.names[:3]) + (", …" if len(classes) > 3 else "")
        ids = f", or WordNet ids such as {classes.ids[0]}" if classes.ids else ""
        raise DataError(
            f"{_listed(unknown)}: no class of the network is called so; it has {len(classes)} "
            f"classes: {few}{ids}"
        )
    if ambiguous:
        raise DataError(
            f"{_listed(ambiguous)}: several classes of the network are called so: name the "
            "folders by WordNet ids"
        )
    return found


def class_named(folder: str, names: Collection[str]) -> str:
    """Which of the names a folder is called by: itself, or ImageNet's name of a WordNet
    id; "" where it is none of them.
    """
    if folder in names:
        return folder
    return next((name for name in _translated(folder) if name in names), "")


def _outputs(names: Iterable[str]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for output, name in enumerate(names):
        found.setdefault(name, set()).add(output)
    return found


def _translated(folder: str) -> list[str]:
    """The ImageNet name of a WordNet id, or the id of such a name."""
    imagenet = known_classes("imagenet")
    if folder in imagenet.ids:
        return [imagenet.names[imagenet.ids.index(folder)]]
    plain = _plain(folder)
    return [
        number
        for number, name in zip(imagenet.ids, imagenet.names, strict=True)
        if _plain(name) == plain
    ]


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold())).strip()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown

"""Which folders of a data set are its parts (training, validation, test), and which are
classes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from zoo.data.image import is_image_name
from zoo.errors import DataError, warn

ROLES = {
    "train": frozenset(["train", "training", "trainset", "trn"]),
    "val": frozenset(["val", "valid", "validate", "validation", "valset"]),
    "test": frozenset(["test", "testing", "testset", "tst"]),
}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # of seg_train, TestSet, train2017


def role(name: str) -> str:
    """The part that a folder's name means: train, val or test; "" for any other, or
    when it means two.
    """
    words = {word.lower() for word in WORD.findall(name)}
    found = [part for part, known in ROLES.items() if words & known]
    return found[0] if len(found) == 1 else ""


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, without hidden ones, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__MACOSX"))
    )


def find_parts(root: Path) -> dict[str, Path]:
    """The folders that hold the class folders, by part: train, where there are such val
    and test, in this order; or all in one, as train.

    A part holds folders; a folder called `train` with images in it, beside others, is a
    class. Raises DataError where it could be either, saying what is there.
    """
    folders = folders_in(root)
    named = [folder for folder in folders if role(folder.name)]
    if not _are_parts(folders, named):
        _check_classes_alike(root, folders)
        return {"train": root}
    groups = {part: [each for each in named if role(each.name) == part] for part in ROLES}
    flat = [each for each in groups["test"] if not folders_in(_inner(each))]  # without classes
    groups["test"] = [each for each in groups["test"] if each not in flat]
    for group in groups.values():
        if len(group) > 1:
            raise DataError(
                f"{root} has {_listed(group)}: which of them is meant is not clear; leave one there"
            )
    others = [folder for folder in folders if not role(folder.name) and _holds_images(folder)]
    if others and not (groups["train"] and groups["val"]):
        raise DataError(
            f"{root} has {_listed(named)} with folders in it, beside {_listed(others)}: parts or "
            "classes? Parts are train/ and val/, each with all classes; a class holds its images"
        )
    if not groups["train"]:
        raise DataError(f"{root} has {_listed(groups['val'] or named)} but no train/")
    unused = flat + others
    if not groups["val"]:
        train = groups["train"][0].name
        rest = f", {_not_used(unused)}" if unused else ""
        warn(f"{root} has {train}/ but no val/: a part of {train}/ is for validation{rest}")
    elif unused:
        warn(f"{root}: {_not_used(unused)}")
    return {part: _inner(group[0]) for part, group in groups.items() if group}


def find_test_part(root: Path) -> Path:
    """The folder that holds the class folders to test on: test/, else val/, else the
    folder itself. Raises DataError where it is not clear.
    """
    folders = folders_in(root)
    named = [folder for folder in folders if role(folder.name)]
    if not _are_parts(folders, named):
        return root
    for part in ("test", "val"):
        group = [each for each in named if role(each.name) == part and folders_in(each)]
        if len(group) > 1:
            raise DataError(f"{root} has {_listed(group)}: give the one that is meant")
        if group:
            return _inner(group[0])
    raise DataError(
        f"{root} has {_listed(named)}, and no test/ or val/ with class folders in it: give the "
        "folder that holds the class folders"
    )


def _are_parts(folders: list[Path], named: list[Path]) -> bool:
    """Whether folders whose names mean a part are such, not classes of that name: they
    hold folders, or there is nothing beside them.
    """
    if any(folders_in(folder) for folder in named):
        return True
    words = frozenset[str]().union(*ROLES.values())
    if not folders or any(folder.name.lower() not in words for folder in folders):
        return False
    return len(folders) == 1 or len({role(folder.name) for folder in folders}) > 1


def _inner(part: Path) -> Path:
    """The folder with the classes, where an archive was unpacked into a folder of its
    own name: seg_train/seg_train/.
    """
    inside = folders_in(part)
    if len(inside) == 1 and role(inside[0].name) == role(part.name):
        return _inner(inside[0])
    return part


def _check_classes_alike(root: Path, folders: list[Path]) -> None:
    """Class folders that hold folders of the same names may be parts under names that
    are not known, or hold the parts themselves.
    """
    inside = {folder: {path.name for path in folders_in(folder)} for folder in folders}
    inside = {folder: names for folder, names in inside.items() if names}
    for first, second in zip(inside, list(inside)[1:], strict=False):
        shared = sorted(inside[first] & inside[second])
        if len({role(name) for name in shared} - {""}) > 1:
            raise DataError(
                f"the folders of {root} hold {_listed(shared)}: needs it the other way round, "
                "train/ and val/ with a folder per class in each"
            )
        if len(shared) > 1:
            warn(
                f"{first.name}/ and {second.name}/ in {root} are taken as classes, and hold the "
                f"same folders ({_listed(shared)}): if they are parts, call them train/ and val/"
            )
            return


def _holds_images(folder: Path) -> bool:
    return any(is_image_name(Path(name)) for _, _, names in os.walk(folder) for name in names)


def _not_used(folders: list[Path]) -> str:
    return f"{_listed(folders)} {'is' if len(folders) == 1 else 'are'} not used"


def _listed(names: Iterable[Path | str]) -> str:
    """`train/, val/ and 3 more`"""
    shown = [f"{each.name if isinstance(each, Path) else each}/" for each in names]
    more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
    return ", ".join(shown[:4]) + more

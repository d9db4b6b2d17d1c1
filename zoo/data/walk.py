"""The image files of class folders, each once, whatever links lead to it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from zoo.data.image import is_image_name
from zoo.data.parts import folders_in
from zoo.errors import DataError

Listing = dict[str, list[Path]]  # class: its image files


class Walk:
    """Lists the class folders of one part or several.

    Files and folders come before links to them, and the last part (to test on) before
    the others, so that nothing is in two. `repeats` says what was left out and why;
    `others` counts, per part, the files that are no images by their names.
    """

    def __init__(self, root: Path, parts: list[Path]) -> None:
        self.repeats: dict[Path, str] = {}
        self.others: list[Counter[str]] = [Counter() for _ in parts]
        self.listings: list[Listing] = [
            {folder.name: [] for folder in folders_in(part)} for part in parts
        ]
        self._files: dict[object, Path] = {}
        above = {identity(folder) for folder in (*root.resolve().parents, root, *parts)}
        self._folders = above
        self._links: list[tuple[int, str, Path]] = []  # part, class, link
        for number in reversed(range(len(parts))):
            for name in self.listings[number]:
                self._enter(number, name, parts[number] / name)
        for number, name, link in self._links:  # grows meanwhile
            if link.is_dir():
                self._read(number, name, link)
            else:
                self._add(number, name, link)
        for listing in self.listings:
            for files in listing.values():
                files.sort()

    def _enter(self, number: int, name: str, path: Path) -> None:
        if path.is_symlink():
            self._links.append((number, name, path))
        elif path.is_dir():
            self._read(number, name, path)
        else:
            self._add(number, name, path)

    def _read(self, number: int, name: str, folder: Path) -> None:
        if (known := identity(folder)) in self._folders:
            self.repeats[folder] = "a folder that is there already"
            return
        self._folders.add(known)
        for path in _visible(folder):
            self._enter(number, name, path)

    def _add(self, number: int, name: str, file: Path) -> None:
        if not is_image_name(file):
            self.others[number][file.suffix.lower() or "no suffix"] += 1
            return
        first = self._files.setdefault(identity(file), file)
        if first is file:
            self.listings[number][name].append(file)
        else:
            self.repeats[file] = f"the same file as {first}"


def identity(path: Path) -> object:
    """What is equal for two names of one file or folder, hard links too; of a broken
    link its own path.
    """
    try:
        status = path.stat()
    except OSError:
        return path
    return (status.st_dev, status.st_ino) if status.st_ino else path.resolve()


def _visible(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from error
    return (folder / name for name in names if not name.startswith("."))

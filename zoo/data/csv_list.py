"""A CSV file of images and their labels: a header, then a line per image.

The columns are found by their names: path (or file, filename, image, …), label (or
class, category, …) and, if the images are divided already, split (or subset, …) with
train, val and test. Paths are from the file's folder; any usual delimiter is one.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from zoo.data.datasets import DataSplit
from zoo.data.files import FileParts, open_files
from zoo.data.parts import ROLES, role
from zoo.data.splits import Fractions
from zoo.data.walk import Listing
from zoo.errors import DataError, warn
from zoo.formatting import natural_key

SUFFIXES = (".csv", ".tsv")
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "image",
             "image_path", "image_file", "image_name", "img", "img_path"),
    "label": ("label", "class", "class_name", "classname", "category", "target", "species"),
    "split": ("split", "subset", "part", "partition", "set"),
}  # fmt: skip
DELIMITERS = ",;\t|"
Row = tuple[int, dict[str, str]]  # line number and cells by column


def is_csv(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def open_csv(
    path: Path,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    progress: bool = True,
) -> DataSplit:
    """The images that a CSV file lists, divided as it says, or else drawn. Raises
    DataError with the line's number.
    """
    listings = read_csv(path)
    fractions = Fractions.checked(val_fraction, test_fraction, source=str(path), own=listings)
    words = {part: f"the {part} rows" for part in listings}
    given = FileParts(
        name=path.stem,
        source=str(path.resolve()),
        root=path.parent,
        listings=listings,
        titles={part: f"{words[part]} of {path}" for part in listings},
        words=words,
    )
    return open_files(given, fractions, seed=seed, progress=progress)


def read_csv(path: Path) -> dict[str, Listing]:
    """Part -> class -> files, the classes in natural order."""
    found: dict[str, Listing] = {}
    first: dict[Path, tuple[int, str, str]] = {}  # of a file: line, label, part
    repeated = 0
    for line, cells in _rows(path):
        file, label = path.parent / cells["path"], cells["label"]
        part = role(cells["split"]) if "split" in cells else "train"
        if not part:
            raise DataError(
                f"{path}, line {line}: split {cells['split']!r}: expected {', '.join(ROLES)}"
            )
        before = first.setdefault(file, (line, label, part))
        if before != (line, label, part):
            if before[1:] != (label, part):
                raise DataError(
                    f"{path}, line {line}: {cells['path']} is in line {before[0]} with another "
                    f"label or split ({', '.join(before[1:])}; here {label}, {part})"
                )
            repeated += 1
            continue
        found.setdefault(part, {}).setdefault(label, []).append(file)
    if not found:
        raise DataError(f"{path} lists no images")
    if "train" not in found:
        raise DataError(f"{path} has rows of {', '.join(found)} but none of train")
    if repeated:
        warn(f"{path}: {repeated} lines repeat others: each image is used once")
    return {
        part: {name: found[part][name] for name in sorted(found[part], key=natural_key)}
        for part in ROLES
        if part in found
    }


def _rows(path: Path) -> Iterator[Row]:
    """The lines with their cells, none of them empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty")
    lines = text.splitlines()
    try:
        dialect: type[csv.Dialect] = csv.Sniffer().sniff("\n".join(lines[:50]), DELIMITERS)
    except csv.Error:
        dialect = csv.excel
    reader = csv.reader(lines, dialect)
    places = _columns(path, next(reader))
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            cells = {column: row[at].strip() for column, at in places.items() if at < len(row)}
            for column in places:
                if not cells.get(column):
                    raise DataError(f"{path}, line {reader.line_num}: there is no {column}")
            yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: {error}") from error


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    """Which cell of a row is what."""
    plain = [name.strip().lower().replace(" ", "_") for name in header]
    found: dict[str, int] = {}
    for column, names in COLUMNS.items():
        places = [plain.index(name) for name in names if name in plain]
        if places:
            found[column] = places[0]
        elif column != "split":
            raise DataError(
                f"{path}, line 1: no column for the {column} among {', '.join(header)}: "
                f"call one {' or '.join(names[:3])}"
            )
    return found

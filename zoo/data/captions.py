"""Photos with their captions, as the usual files list them: COCO's JSON, the JSON of
Karpathy's splits, Flickr8k's own text files, and the table that goes around on Kaggle.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from zoo.data.datasets import DataSplit
from zoo.data.image import is_image_name
from zoo.data.splits import Fractions
from zoo.data.vocabulary import tokenize
from zoo.errors import DataError, UsageError, warn
from zoo.formatting import some_of

TOKENS = ("*token.txt", "*.token")  # of Flickr8k and Flickr30k
LEMMAS = "lemma"  # in the name of a file with the same captions in base forms
LISTS = {"train": "*trainImages.txt", "val": "*devImages.txt", "test": "*testImages.txt"}
PHOTOS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images")
PARTS = {"train": "train", "restval": "train", "val": "val", "dev": "val", "test": "test"}
REST = "rest"  # photos in no part

Captions = dict[Path, list[str]]  # of each photo, in the order of the file


@dataclass(frozen=True)
class CaptionedPhotos(Dataset[tuple[Path, tuple[str, ...]]]):
    """(file, captions as they were written) of photos; the references of a score are
    the raw captions, `words` those that a network learns.
    """

    files: tuple[Path, ...]
    captions: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Path, tuple[str, ...]]:
        return self.files[index], self.captions[index]

    def words(self, index: int) -> list[list[str]]:
        return [tokenize(caption) for caption in self.captions[index]]

    def sentences(self) -> Iterator[list[str]]:
        """The words of every caption."""
        for index in range(len(self)):
            yield from self.words(index)


def open_captions(
    data: str | Path,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
) -> DataSplit:
    """A folder of Flickr8k or of COCO, a `dataset_*.json` or `captions.txt` beside its
    photos. Parts that the data do not bring are drawn from the training photos. Photos
    without a caption, and captions without a word, are left out, which is said.

    Raises UsageError for another path, DataError, with file and line, for what cannot
    be read, for captions of photos that there are not, and for photos in two parts.
    """
    path = Path(data).expanduser()
    parts = _parts(path)
    _say_uncaptioned(path, parts)
    parts.pop(REST, None)
    if not parts.get("train"):
        raise DataError(f"{path}: there are no captions of training photos")
    fractions = Fractions.checked(val_fraction, test_fraction, source=str(path), own=parts)
    _check_apart(path, parts)
    photos = {part: _photos(found, path, part) for part, found in parts.items()}
    files, captions = photos["train"].files, photos["train"].captions
    if len(files) < fractions.parts:
        raise DataError(f"{path}: {len(files)} photos: {fractions.parts} are needed to split them")
    for part, chosen in fractions.divide([0] * len(files), seed).items():
        photos[part] = CaptionedPhotos(
            tuple(files[index] for index in chosen), tuple(captions[index] for index in chosen)
        )
    said = ", ".join(f"{len(each):,} {part}" for part, each in photos.items())
    words = fractions.words(seed, "random")
    return DataSplit(
        name=path.stem if path.is_file() else path.resolve().name,
        source=str(path.resolve()),
        split=f"{said} photos{f'; of train {words}' if words else ''}",
        train=photos["train"],
        val=photos.get("val"),
        test=photos.get("test"),
    )


def _parts(path: Path) -> dict[str, Captions]:
    """The captions by part."""
    if path.is_dir():
        if tokens := [file for pattern in TOKENS for file in path.glob(pattern)]:
            plain = [file for file in sorted(tokens) if LEMMAS not in file.name]
            return _of_tokens((plain or tokens)[0])
        if files := sorted(path.glob("**/captions_*.json")):
            return _of_coco(path, files)
        others = [*sorted(path.glob("dataset_*.json")), *sorted(path.glob("captions.txt"))]
        if others:
            return _parts(others[0])
    elif path.suffix == ".json" and path.is_file():
        content = _json(path)
        if isinstance(content, dict) and "annotations" in content:
            return _of_coco(path.parent, [path])
        return _of_karpathy(path, content)
    elif path.is_file():
        is_tokens = any(path.match(pattern) for pattern in TOKENS)
        return _of_tokens(path) if is_tokens else {"train": _of_table(path)}
    raise UsageError(
        f"{path} has no captions: needs *token.txt, captions_*.json, dataset_*.json or captions.txt"
    )


def _of_tokens(path: Path) -> dict[str, Captions]:
    """`photo.jpg#0<TAB>caption` in each line, with lists of photos beside it."""
    folder = _photo_folder(path.parent)
    found: Captions = {}
    for number, line in enumerate(_lines(path), 1):
        name, tab, caption = line.partition("\t")
        photo, hash_, _ = name.rpartition("#")
        if line and not (tab and hash_):
            raise DataError(f"{path}, line {number}: expected photo.jpg#0, a tab and a caption")
        if is_image_name(Path(photo)):  # one line of Flickr8k has a name that is none
            found.setdefault(folder / photo, []).append(caption)
    lists = {part: sorted(path.parent.glob(pattern)) for part, pattern in LISTS.items()}
    if not lists["train"]:
        return {"train": found}
    parts: dict[str, Captions] = {}
    for part, files in lists.items():
        if files:
            photos = [folder / line.strip() for line in _lines(files[0]) if line.strip()]
            if unknown := [photo.name for photo in photos if photo not in found]:
                raise DataError(f"{files[0]}: no captions in {path} of {some_of(unknown, 3)}")
            parts[part] = {photo: found[photo] for photo in photos}
    listed = set().union(*parts.values())
    return {**parts, REST: {photo: found[photo] for photo in found if photo not in listed}}


def _of_coco(root: Path, files: Sequence[Path]) -> dict[str, Captions]:
    """COCO's captions, a file per part, whose photos lie in a folder per part."""
    parts: dict[str, Captions] = {}
    for path in files:
        content = _json(path)
        part = next((PARTS[word] for word in PARTS if f"_{word}" in path.stem), "train")
        named = path.stem.partition("_")[2]  # train2017
        places = (root / named, root.parent / named, root)
        folder = next((place for place in places if place.is_dir()), root)
        photos: dict[Any, Path] = {}
        for number, image in enumerate(_list(content, "images", path), 1):
            where = f"{path}, image {number}"
            photos[_value(image, "id", (int, str), where)] = folder / _text(
                image, "file_name", where
            )
        for number, each in enumerate(_list(content, "annotations", path), 1):
            where = f"{path}, annotation {number}"
            photo = photos.get(image := _value(each, "image_id", (int, str), where))
            if photo is None:
                raise DataError(f"{where}: there is no image {image!r} in this file")
            captions = parts.setdefault(part, {}).setdefault(photo, [])
            captions.append(_text(each, "caption", where))
    return parts


def _of_karpathy(path: Path, content: Any) -> dict[str, Captions]:
    folder = _photo_folder(path.parent)
    parts: dict[str, Captions] = {}
    for number, image in enumerate(_list(content, "images", path), 1):
        where = f"{path}, image {number}"
        name, split = _text(image, "filename", where), _text(image, "split", where)
        if split not in PARTS:
            raise DataError(f"{where}: split {split!r}: expected one of {', '.join(PARTS)}")
        captions = parts.setdefault(PARTS[split], {}).setdefault(
            folder / str(image.get("filepath") or "") / name, []
        )
        for sentence in _list(image, "sentences", where):
            captions.append(_text(sentence, "raw", where))
    return parts


def _of_table(path: Path) -> Captions:
    """`image,caption` in the first line, then a caption a line."""
    folder = _photo_folder(path.parent)
    found: Captions = {}
    rows = csv.reader(_lines(path), strict=True)  # else an open quote takes all that follows
    try:
        if [cell.strip() for cell in next(rows, [])] != ["image", "caption"]:
            raise DataError(f"{path}, line 1: expected image,caption")
        for row in rows:
            if row and len(row) != 2:
                raise DataError(f"{path}, line {rows.line_num}: expected a photo and a caption")
            if row:
                found.setdefault(folder / row[0], []).append(row[1])
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num}: {error}") from error
    return found


def _value(record: Any, key: str, kind: type | tuple[type, ...], where: object) -> Any:
    """Raises DataError where a record of a JSON file has no such value."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind):
        raise DataError(f"{where}: no captions in COCO's or Karpathy's form: it has no {key!r}")
    return value


def _list(record: Any, key: str, where: object) -> list[Any]:
    return _value(record, key, list, where)


def _text(record: Any, key: str, where: object) -> str:
    return _value(record, key, str, where)


def _say_uncaptioned(path: Path, parts: Mapping[str, Captions]) -> None:
    """Warn of photos beside those with captions that no caption names."""
    named = set().union(*parts.values())
    for folder in dict.fromkeys(photo.parent for photo in sorted(named)):
        beside = sorted(folder.iterdir()) if folder.is_dir() else []
        others = [each.name for each in beside if is_image_name(each) and each not in named]
        if others:
            names = some_of(others, 3)
            warn(f"{path}: {len(others):,} photos of {folder} have no caption: {names}")


def _check_apart(path: Path, parts: Mapping[str, Captions]) -> None:
    seen: dict[Path, str] = {}
    for part, photos in parts.items():
        for photo in photos:
            if photo in seen:
                raise DataError(f"{path}: {photo.name} is in two parts, {seen[photo]} and {part}")
            seen[photo] = part


def _photos(found: Mapping[Path, list[str]], path: Path, part: str) -> CaptionedPhotos:
    """Photos with their captions that are not empty. Raises DataError for photos that
    there are not.
    """
    missing = [photo for photo in found if not photo.is_file()]
    if missing:
        raise DataError(
            f"{path}: {len(missing):,} of the {len(found):,} {part} photos are not there, the "
            f"first: {missing[0]}"
        )
    kept: dict[Path, tuple[str, ...]] = {}
    empty: Counter[str] = Counter()
    for photo, captions in found.items():
        own = tuple(caption for caption in captions if tokenize(caption))
        empty[photo.name] = len(captions) - len(own)
        if own:
            kept[photo] = own
    if total := empty.total():
        names = [name for name, count in empty.items() if count]
        warn(f"{path}: {total} captions without a word are left out, of {some_of(names, 3)}")
    if not kept:
        raise DataError(f"{path}: none of the {part} photos has a caption")
    return CaptionedPhotos(tuple(kept), tuple(kept.values()))


def _photo_folder(root: Path) -> Path:
    return next((root / name for name in PHOTOS if (root / name).is_dir()), root)


def _lines(path: Path) -> list[str]:
    """Not by `splitlines`, which parts at characters that captions may have."""
    return _content(path).replace("\r\n", "\n").removesuffix("\n").split("\n")


def _content(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: no UTF-8 text") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(_content(path))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}") from error

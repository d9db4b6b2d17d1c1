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

TOKENS = "*token.txt"  # of Flickr8k and Flickr30k
LISTS = {"train": "*trainImages.txt", "val": "*devImages.txt", "test": "*testImages.txt"}
PHOTOS = ("Images", "images", "Flicker8k_Dataset", "Flickr8k_Dataset", "flickr30k_images")
PARTS = {"train": "train", "restval": "train", "val": "val", "dev": "val", "test": "test"}

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
    photos. Parts that the data do not bring are drawn from the training photos.

    Raises UsageError for another path, DataError, with file and line, for what cannot
    be read and for captions of photos that there are not.
    """
    path = Path(data).expanduser()
    parts = _parts(path)
    if not parts.get("train"):
        raise DataError(f"{path}: there are no captions of training photos")
    fractions = Fractions.checked(val_fraction, test_fraction, source=str(path), own=parts)
    photos = {part: _photos(found, path, part) for part, found in parts.items()}
    files, captions = photos["train"].files, photos["train"].captions
    for part, chosen in fractions.divide([0] * len(files), seed).items():
        photos[part] = CaptionedPhotos(
            tuple(files[index] for index in chosen), tuple(captions[index] for index in chosen)
        )
    said = ", ".join(f"{len(each):,} {part}" for part, each in photos.items())
    words = fractions.words(seed)
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
        if tokens := sorted(path.glob(TOKENS)):
            return _of_tokens(tokens[0])
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
        return {"train": _of_table(path)}
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
        if not tab or not hash_:
            raise DataError(f"{path}, line {number}: expected photo.jpg#0, a tab and a caption")
        if is_image_name(Path(photo)):  # one line of Flickr8k has a name that is none
            found.setdefault(folder / photo, []).append(caption)
    lists = {part: sorted(path.parent.glob(pattern)) for part, pattern in LISTS.items()}
    if not lists["train"]:
        return {"train": found}
    parts: dict[str, Captions] = {}
    for part, files in lists.items():
        if files:
            names = [line.strip() for line in _lines(files[0]) if line.strip()]
            unknown = [name for name in names if folder / name not in found]
            if unknown:
                raise DataError(f"{files[0]}: {unknown[0]} has no captions in {path}")
            parts[part] = {folder / name: found[folder / name] for name in names}
    return parts


def _of_coco(root: Path, files: Sequence[Path]) -> dict[str, Captions]:
    """COCO's captions, a file per part, whose photos lie in a folder per part."""
    parts: dict[str, Captions] = {}
    for path in files:
        content = _json(path)
        part = next((PARTS[word] for word in PARTS if f"_{word}" in path.stem), "train")
        named = path.stem.partition("_")[2]  # train2017
        folder = next((each for each in (root / named, root) if each.is_dir()), root)
        try:
            photos = {each["id"]: folder / each["file_name"] for each in content["images"]}
            for each in content["annotations"]:
                photo = photos[each["image_id"]]
                parts.setdefault(part, {}).setdefault(photo, []).append(each["caption"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: no captions in COCO's form: {error!r} is missing") from error
    return parts


def _of_karpathy(path: Path, content: Any) -> dict[str, Captions]:
    folder = _photo_folder(path.parent)
    parts: dict[str, Captions] = {}
    try:
        for image in content["images"]:
            photo = folder / image.get("filepath", "") / image["filename"]
            captions = [sentence["raw"] for sentence in image["sentences"]]
            parts.setdefault(PARTS[image["split"]], {})[photo] = captions
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: no captions in Karpathy's form: {error!r}") from error
    return parts


def _of_table(path: Path) -> Captions:
    """`image,caption` in the first line, then a caption a line."""
    folder = _photo_folder(path.parent)
    found: Captions = {}
    rows = csv.reader(_lines(path))
    if [cell.strip() for cell in next(rows, [])] != ["image", "caption"]:
        raise DataError(f"{path}, line 1: expected image,caption")
    for row in rows:
        if len(row) != 2:
            raise DataError(f"{path}, line {rows.line_num}: expected a photo and a caption")
        found.setdefault(folder / row[0], []).append(row[1])
    return found


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
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: no UTF-8 text") from error


def _json(path: Path) -> Any:
    try:
        return json.loads("\n".join(_lines(path)))
    except ValueError as error:
        raise DataError(f"{path}: no JSON: {error}") from error

"""The folder of the weights that were fetched. It holds whole files whose digest was
checked once; a receipt beside each says which one, from where and how it was checked.

A file that is there needs no network, no lock and no writing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

from zoo.errors import WeightsError, ZooError, warn
from zoo.files import write
from zoo.weights.remote import RemoteFile, measured, mismatch

RECEIPTS = "receipts"
CONVERTED = "converted"  # folder with weights under our key names
FIRST_FETCH = "first fetch"  # how a file without a published digest is known from then on


def cache_folder() -> Path:
    """`ZOO_CACHE`, by default `zoo/weights` in the user's cache folder."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("zoo", appauthor=False) / "weights"


def writable(folder: Path) -> bool:
    """Whether a cache can be written, or made where it is not there yet."""
    there = next(each for each in (folder, *folder.parents) if each.exists())
    return os.access(there, os.W_OK)


def cached(remote: RemoteFile, folder: Path) -> Path | None:
    """The file, when it is there whole. One that a user has put there is checked, and
    its receipt written where that is possible.

    Raises WeightsError for a file that is another one.
    """
    path = folder / remote.file
    try:
        size = path.stat().st_size
    except OSError:
        return None
    if (known := receipt(folder, remote.file)) and known.get("bytes") == size:
        if remote.strongest and not agrees(remote, known):
            raise WeightsError(f"{path} is another file than the record says: remove it")
        return path
    found = measured(path)
    if wrong := mismatch(remote, found, size):
        raise WeightsError(f"{path} is not the file that was published: {wrong}; remove it")
    if known and known.get("sha256") != found["sha256"]:
        raise WeightsError(f"{path} was changed after it was fetched: remove it")
    with suppress(OSError, ZooError):  # a folder that is only read
        note_receipt(remote, folder, found["sha256"], size, url="")
    return path


def converted_files(name: str) -> list[Path]:
    """The converted files of the weights `name.tag`; what they were made of ends their
    names.
    """
    return sorted((cache_folder() / CONVERTED).glob(f"{name}-{'[0-9a-f]' * 12}.safetensors"))


def agrees(remote: RemoteFile, known: Mapping[str, Any]) -> bool:
    """Whether a receipt is of the file that the record means now."""
    if "sha256" in remote.digests:
        return bool(known["sha256"] == remote.digests["sha256"])
    if "sha256_prefix" in remote.digests:
        return str(known["sha256"]).startswith(remote.digests["sha256_prefix"])
    return bool(known.get("digests", {}).get(remote.strongest) == remote.digests[remote.strongest])


def receipt(folder: Path, file: str) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / RECEIPTS / f"{file}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "sha256" in found else None


def receipt_of(path: Path) -> dict[str, Any]:
    """Of a file in a cache that is only read, where nothing could be noted."""
    digests = measured(path)
    return {"file": path.name, "sha256": digests["sha256"], "digests": digests, "url": ""}


def note_receipt(remote: RemoteFile, folder: Path, sha256: str, size: int, url: str) -> None:
    (folder / RECEIPTS).mkdir(parents=True, exist_ok=True)
    about = {
        "file": remote.file,
        "sha256": sha256,
        "bytes": size,
        "digests": dict(remote.digests),
        "checked": remote.strongest or FIRST_FETCH,
        "url": url,
        "date": date.today().isoformat(),
    }
    write(folder / RECEIPTS / f"{remote.file}.json", json.dumps(about, indent=1))


@contextmanager
def locked(folder: Path, file: str) -> Iterator[None]:
    """One process at a time; the others wait, and are told so. A lock dies with its
    process; where the file system knows no such locks, a file stands for it.
    """
    from filelock import FileLock, SoftFileLock, Timeout

    path = folder / f".{file}.lock"
    lock: Any = FileLock(path, mode=0o666)
    try:
        try:
            lock.acquire(timeout=2)
        except NotImplementedError:
            lock = SoftFileLock(path.with_suffix(".softlock"))
            lock.acquire(timeout=2)
    except Timeout:
        warn(f"{file}: another process is fetching it; waiting for it ({path})")
        lock.acquire()
    except OSError as error:
        raise WeightsError(
            f"the cache {folder} cannot be written ({error.strerror or error}): "
            "ZOO_CACHE names another folder"
        ) from error
    try:
        yield
    finally:
        lock.release()


# ------------------------------------------------------------------------------ mirrors


def mirror() -> str:
    """`ZOO_MIRROR`: a folder or an address that is asked first; "" for none."""
    return os.environ.get("ZOO_MIRROR", "").strip()


def in_mirror_folder(remote: RemoteFile, folder: Path) -> Path | None:
    """The file in a mirror's folder or its subfolders: by name, else by another name
    that is listed, else one of as many bytes with the published digest.
    """
    if not folder.is_dir():
        raise WeightsError(f"ZOO_MIRROR={folder}: no such folder")
    names = (remote.file, *remote.aliases)
    there = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    by_name = [path for name in names for path in there if path.name == name]
    by_size = [path for path in there if remote.size and path.stat().st_size == remote.size]
    for path in dict.fromkeys(by_name + (by_size if remote.strongest else [])):
        wrong = mismatch(remote, measured(path), path.stat().st_size)
        if not wrong:
            return path
        if path in by_name:
            warn(f"{path} in the mirror is not the file that was published: {wrong}")
    return None


def members_in_mirror_folder(remote: RemoteFile, folder: Path) -> dict[str, Path]:
    """The small files that a tar is packed of, when a mirror has them all, by name."""
    there = {path.name: path for path in sorted(folder.rglob("*")) if path.is_file()}
    found = {name: there.get(name.rpartition("/")[2]) for name in remote.members}
    return {name: path for name, path in found.items() if path} if all(found.values()) else {}

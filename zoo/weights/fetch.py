"""From a record to a whole, checked file on this machine."""

from __future__ import annotations

import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import WeightsError, warn
from zoo.paths import offline
from zoo.weights.cache import (
    cache_folder,
    cached,
    in_mirror_folder,
    locked,
    members_in_mirror_folder,
    mirror,
    note_receipt,
    receipt,
    writable,
)
from zoo.weights.download import Download, Patience, Refused
from zoo.weights.remote import RemoteFile, measured, mismatch

if TYPE_CHECKING:
    import requests

Report = Callable[[int, int], None]  # bytes that are there, bytes in all (0: not known)


def fetch(
    remote: RemoteFile,
    *,
    folder: Path | None = None,
    progress: bool = True,
    patience: Patience | None = None,
) -> Path:
    """The path of a published file: beside its manifest, if it lies there, else in the
    cache: as it lies there, else from the mirror (`ZOO_MIRROR`), else from the first of
    its addresses that gives it.

    Raises WeightsError, in one line, when it cannot be had; the cache then holds
    nothing of it but what a later call goes on from.
    """
    folder = folder or cache_folder()
    if found := at_hand(remote, folder):
        return found
    return from_network(remote, folder, progress, patience)


def at_hand(remote: RemoteFile, folder: Path) -> Path | None:
    """The file without asking the network: beside its manifest, in the cache `folder`,
    or in the mirror's folder, from where it is copied into a cache that can be written.
    Raises WeightsError for one that is there and wrong.
    """
    if there := local(remote) or cached(remote, folder):
        return there
    where = mirror()
    if not where or _is_address(where) or not writable(folder):
        return None
    with _locked_cache(folder, remote.file):
        if found := cached(remote, folder):  # by the process that had the lock
            return found
        return _from_mirror_folder(remote, folder, Path(where).expanduser())


def from_network(
    remote: RemoteFile, folder: Path, progress: bool = True, patience: Patience | None = None
) -> Path:
    """The file from the mirror's address, else from the first of its own that gives it.
    Raises WeightsError.
    """
    if offline():
        size = f" ({remote.size:,} bytes)" if remote.size else ""
        raise WeightsError(
            f"{remote.file}{size} is not here, and ZOO_OFFLINE forbids the network: put it into "
            f"{folder}, or into a folder that ZOO_MIRROR names"
        )
    with _locked_cache(folder, remote.file):
        if found := cached(remote, folder):
            return found
        return _first_that_answers(remote, folder, progress, patience or Patience())


@contextmanager
def _locked_cache(folder: Path, file: str) -> Iterator[None]:
    """The lock of a file in a cache, which is made where it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WeightsError(
            f"the cache {folder} cannot be made ({error.strerror or error}): "
            "ZOO_CACHE names another folder"
        ) from error
    with locked(folder, file):
        yield


def local(remote: RemoteFile) -> Path | None:
    """The file beside its manifest, checked against what is recorded of it.

    Raises WeightsError for another file, and for one that is not there and has no
    address either.
    """
    if remote.beside is None:
        return None
    path = remote.beside / remote.file
    if not path.is_file():
        if remote.urls:
            return None
        raise WeightsError(f"{path}: the weights file that its manifest names is not there")
    if wrong := mismatch(remote, measured(path), path.stat().st_size):
        raise WeightsError(f"{path} is not the file that its manifest means: {wrong}")
    return path


def _is_address(where: str) -> bool:
    return where.startswith(("http://", "https://"))


def _from_mirror_folder(remote: RemoteFile, folder: Path, place: Path) -> Path | None:
    if there := in_mirror_folder(remote, place):
        return _copied(remote, folder, there)
    if members := members_in_mirror_folder(remote, place):
        part = folder / f"{remote.file}.part"
        _pack(part, members.items())
        try:
            return _accepted(remote, folder, part, str(place))
        except Refused as error:
            warn(f"the files of {remote.file} in the mirror are left out: {error}")
    return None


def _first_that_answers(
    remote: RemoteFile, folder: Path, progress: bool, patience: Patience
) -> Path:
    where, names = mirror(), (remote.file, *remote.aliases)
    bases = [f"{where.rstrip('/')}/{name}" for name in names] if _is_address(where) else []
    reasons = []
    for url in [*bases, *remote.urls]:
        try:
            return _downloaded(remote, folder, url, progress, patience, packed=url in bases)
        except Refused as error:
            reasons.append(f"{url} {error}")
    raise WeightsError(
        f"{remote.file} cannot be fetched: {'; '.join(reasons) or 'it has no address'}"
        f"; put it into {folder}, or name a folder with it in ZOO_MIRROR"
    )


def _copied(remote: RemoteFile, folder: Path, source: Path) -> Path:
    part = folder / f"{remote.file}.part"
    try:
        shutil.copyfile(source, part)  # the mode by the umask
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WeightsError(f"{part} cannot be written: {error.strerror or error}") from error
    try:
        return _accepted(remote, folder, part, str(source))
    except Refused as error:
        raise WeightsError(f"{source} changed while it was copied: {error}") from error


def _downloaded(
    remote: RemoteFile, folder: Path, url: str, progress: bool, patience: Patience, packed: bool
) -> Path:
    part = folder / f"{remote.file}.part"
    _check_space(remote, folder, part)
    with _session() as session, _bar(remote, progress) as report:
        if remote.members and not packed:
            _pack(part, _members(remote, url, session, report, patience))
            return _accepted(remote, folder, part, url)
        download = Download(
            session, url, part, remote.size, bool(remote.strongest), report, patience
        )
        download.run()
        try:
            return _accepted(remote, folder, part, url, download)
        except Refused:
            if not download.resumed:
                raise
        download.discard()  # what was put together may be of two files
        download.run()
        return _accepted(remote, folder, part, url, download)


def _accepted(
    remote: RemoteFile, folder: Path, part: Path, url: str, download: Download | None = None
) -> Path:
    """A finished part becomes the file, when it is the right one."""
    found, size = measured(part), part.stat().st_size
    wrong = mismatch(remote, found, size)
    stated = download.hub_digest if download else ""
    if not wrong and stated and stated != found["sha256"]:
        wrong = f"its sha256 is {found['sha256'][:16]}…, the server states {stated[:16]}…"
    earlier = receipt(folder, remote.file)
    if not wrong and earlier and earlier["sha256"] != found["sha256"]:
        wrong = (
            f"it is not the file of {earlier['date']}, whose sha256 was "
            f"{earlier['sha256'][:16]}… (recorded in {folder})"
        )
    if wrong:
        part.unlink(missing_ok=True)
        raise Refused(f"gives another file: {wrong}")
    if not remote.strongest and not stated and not earlier:
        warn(
            f"{remote.file}: no digest is published; its sha256 {found['sha256'][:16]}… is "
            "recorded, and checked from now on"
        )
    path = folder / remote.file
    try:
        note_receipt(remote, folder, found["sha256"], size, url)
        part.replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error.strerror or error}") from error
    part.with_name(f"{part.name}.etag").unlink(missing_ok=True)
    return path


def _members(
    remote: RemoteFile, base: str, session: requests.Session, report: Report, patience: Patience
) -> Iterator[tuple[str, Path]]:
    """Name and place of each small file from under an address, one at a time."""
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        one = Path(folder) / "member"
        for name, path in remote.members.items():
            Download(session, f"{base}{path}", one, patience=patience).run()
            yield name, one
            report(done := done + one.stat().st_size, remote.size)
            one.unlink()


def _pack(part: Path, members: Iterable[tuple[str, Path]]) -> None:
    """Files as a tar that is always the same, without times and owners."""
    try:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, path in members:
                entry = tarfile.TarInfo(name)
                entry.size = path.stat().st_size
                with path.open("rb") as content:
                    tar.addfile(entry, content)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise WeightsError(f"{part} cannot be written: {error.strerror or error}") from error
        raise


def _check_space(remote: RemoteFile, folder: Path, part: Path) -> None:
    with suppress(OSError):
        needed = remote.size - (part.stat().st_size if part.exists() else 0)
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise WeightsError(
                f"{remote.file} needs {needed:,} bytes more, and {folder} has {free:,} free: "
                "ZOO_CACHE names another folder"
            )


@contextmanager
def _session() -> Iterator[requests.Session]:
    import requests

    with requests.Session() as session:
        session.headers["User-Agent"] = f"classic-zoo/{version('classic-zoo')}"
        yield session


@contextmanager
def _bar(remote: RemoteFile, show: bool) -> Iterator[Report]:
    """A bar on a terminal, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not (show and console.is_terminal),
    ) as bar:
        task = bar.add_task(remote.file, total=remote.size or None)

        def report(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None)

        yield report

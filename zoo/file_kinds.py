"""What kind of file one is that should hold weights, and why it cannot be read.

Standard library only.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path
from typing import IO, Any

from zoo.checkpoints import listed

POINTER = b"version https://git-lfs"
BEGINNINGS = {  # of files that are something else, in lower case
    POINTER: "a Git LFS pointer, not the file itself; `git lfs pull` fetches it",
    b"\x89hdf": "an HDF5 file (Keras)",
    b"\x93numpy": "a NumPy array",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"bzh": "a bzip2 archive; unpack it first",
    b"\x89png": "a picture",
    b"\xff\xd8\xff": "a picture",
}
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
LARGEST_HEADER = 100_000_000  # bytes that safetensors reads
OLD_PICKLES = 5  # in a file in the format before 2020: magic number, version, system, …
DEEPEST = 16  # tuples in tuples; torch.save's own are two deep
SAVE = "save the tensors alone where it was made: torch.save(model.state_dict(), FILE)"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors files do: a length, then a JSON object."""
    head = _beginning(path, 9)
    return len(head) == 9 and head[8:] == b"{" and head[6:8] == b"\0\0"


def check_pickles(path: Path) -> None:
    """Raises ValueError for a torch.save file whose opening could exhaust the machine,
    although nothing in it is executed: compressed numbers, and tuples so deep in each
    other that hashing one never ends or overflows the stack.
    """
    if _beginning(path, 2) != b"PK":
        with path.open("rb") as file:
            for _ in range(OLD_PICKLES):
                _check_depth(file)
        return
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed, which torch.save never does")
            if member.filename.endswith("data.pkl"):
                with archive.open(member) as file:
                    _check_depth(file)


def _check_depth(file: IO[bytes]) -> None:
    """Go through one pickle without making anything, and keep how deep in each other
    the tuples on its stack are; other containers are no keys, and are not hashed.
    """
    stack: list[int | None] = []  # None: a mark
    memo: dict[Any, int] = {}
    for opcode, argument, _ in pickletools.genops(file):
        if "PUT" in opcode.name:
            memo[argument] = stack[-1] or 0
            continue
        if "GET" in opcode.name:
            stack.append(memo.get(argument, 0))
            continue
        before = opcode.stack_before
        deepest = 0
        plain = len(before)
        if pickletools.markobject in before:
            plain = before.index(pickletools.markobject)
            while (depth := stack.pop()) is not None:
                deepest = max(deepest, depth)
        for _ in range(plain):
            deepest = max(deepest, stack.pop() or 0)
        made = deepest + 1 if "TUPLE" in opcode.name else 0
        if made > DEEPEST:
            raise ValueError(f"its tuples lie more than {DEEPEST} deep in each other")
        marks = opcode.name == "MARK"
        stack += [None] if marks else [made] * len(opcode.stack_after)


def unreadable(path: Path, error: Exception) -> str:
    """What a file that torch or safetensors refuses holds, and what to do."""
    head = _beginning(path, 512)
    start = head.lstrip().lower()
    if not head:
        return "it is empty; fetch or copy it again"
    if start.startswith(PAGES):
        return "it is a web page, of a login or an error; download the file that the page offers"
    for magic, what in BEGINNINGS.items():
        if start.startswith(magic):
            return f"it is {what}"
    if is_safetensors(path):
        return _broken_safetensors(path, head, error)
    if head.startswith(b"PK"):
        return _broken_archive(path, error)
    if head.isascii() and b"\0" not in head and head[:1] != b"\x80":
        line = head.decode().splitlines()[0][:40]
        return f"it is text that begins {line!r}"
    return _refused(error) or "it is cut off, or neither torch.save nor safetensors wrote it"


def _beginning(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _broken_safetensors(path: Path, head: bytes, error: Exception) -> str:
    end = 8 + int.from_bytes(head[:8], "little")
    header = _beginning(path, min(end, LARGEST_HEADER))
    offsets = re.findall(rb'"data_offsets":\[\d+,(\d{1,18})\]', header)
    size, needed = path.stat().st_size, end + max(map(int, offsets), default=0)
    if size < needed:
        return f"it is cut off: {size:,} of {needed:,} bytes or more; fetch or copy it again"
    return _first_line(error)


def _broken_archive(path: Path, error: Exception) -> str:
    """Of a file in the ZIP format, as torch.save writes them."""
    if not zipfile.is_zipfile(path):
        return "it is cut off: the end of the archive is missing; fetch or copy it again"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as damage:
        return f"its list of contents is damaged: {_first_line(damage)}; fetch or copy it again"
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        return (
            "it is a TorchScript archive; torch.jit.load opens it, and zoo.load_state_dict takes "
            "its state_dict()"
        )
    if "data.pkl" not in inside:
        return f"it is a ZIP archive of {listed(names)}"
    return _refused(error) or _first_line(error)


def _refused(error: Exception) -> str:
    """What of a pickle torch refuses to make, by its message."""
    found = re.search(r"GLOBAL (\w[\w.]*\w)", str(error))
    if not found:
        return ""
    return f"it holds a pickled {found[1]}, which could run code when it is opened; {SAVE}"


def _first_line(error: Exception) -> str:
    """A library's message, without its colours and without the lines of advice."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error) or repr(error)).strip()
    return text.splitlines()[0] if "weights_only" not in text else f"torch cannot open it; {SAVE}"

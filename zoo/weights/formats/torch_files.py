"""safetensors and torch.save files, and a zip around one of the latter."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

from torch import Tensor

from zoo.errors import WeightsError
from zoo.files import read_state

LARGEST = 1 << 32  # bytes of a file in a zip: more than any of ours, less than a bomb


def read_zipped_torch(path: Path) -> dict[str, Tensor]:
    """Of a zip with one file, `<name>-<first 8 digits of its SHA-1>.pth`; the digits
    are checked. Raises WeightsError.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            (member,) = packed.infolist()
            if member.file_size > LARGEST:
                raise ValueError(f"it holds {member.file_size:,} bytes")
            with tempfile.TemporaryDirectory() as folder:
                unpacked = Path(folder) / "member.pth"
                digest, size = hashlib.sha1(), 0
                with packed.open(member) as source, unpacked.open("wb") as out:
                    while block := source.read(1 << 20):
                        digest.update(block)
                        size += len(block)
                        if size > member.file_size:
                            raise ValueError("it holds more than it says")
                        out.write(block)
                stem = member.filename.removesuffix(".pth").rpartition("-")[2]
                if not digest.hexdigest().startswith(stem) or len(stem) != 8:
                    raise ValueError(f"{member.filename} has another SHA-1 than its name says")
                return read_state(unpacked)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, OSError) as error:
        raise WeightsError(f"{path}: not a zip of one weights file: {error}") from error

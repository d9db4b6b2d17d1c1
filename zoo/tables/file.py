"""Writing files of results whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from zoo.errors import ZooError


def write(path: Path, content: bytes) -> None:
    """Write under a temporary name beside it, then rename: no half-written file is ever
    seen, and none stays behind.

    Raises ZooError when that is not possible.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)

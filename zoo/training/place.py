"""Whether a run folder can be made: asked before anything that takes long, such as
torch's import.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zoo.errors import UsageError

RUNS = Path("runs")  # where runs lie that nobody gave a folder


def check_free(folder: Path) -> None:
    """Raises UsageError when a run folder cannot be made there: nothing is ever
    overwritten.
    """
    with _told(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(
                f"{folder} exists and is not empty: choose another run folder, or remove it"
            )
    check_place(folder)


def check_place(folder: Path = RUNS) -> None:
    """Raises UsageError when nothing can be made in a folder, or the folder itself
    cannot.
    """
    with _told(folder):
        there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        if not there.is_dir():
            kind = "a link that points nowhere" if there.is_symlink() else "a file"
            raise UsageError(f"the run folder {folder} cannot be made: {there} is {kind}")
        if not os.access(there, os.W_OK | os.X_OK):
            raise UsageError(f"the run folder {folder} cannot be made: {there} is not writable")
        os.stat(folder)  # a name too long, a loop of links


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """What the system says against a run folder, as one line."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(
            f"the run folder {folder} cannot be made: {error.strerror or error}"
        ) from error

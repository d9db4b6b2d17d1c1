"""Where the package's data lie, and the user's. Standard library only."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def weights_folder() -> Path:
    """The folder with one TOML per family: inside an installed wheel, else the source
    tree's; never the working directory.
    """
    packed = PACKAGE / "weights" / "data"
    return packed if packed.is_dir() else PACKAGE.parent / "weights"


def data_folder() -> Path | None:
    """`ZOO_DATA`, the folder with a folder per data set; None where it is not set."""
    chosen = os.environ.get("ZOO_DATA")
    return Path(chosen).expanduser() if chosen else None


def offline() -> bool:
    """Whether `ZOO_OFFLINE` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


def picture(family: str) -> str:
    """The SVG of what is particular to a family of this package, its block, else of the
    whole network; "" where there is none.
    """
    packed = PACKAGE / "tables" / "pictures"
    folder = packed if packed.is_dir() else PACKAGE.parent / "docs" / "models" / "images"
    for name in (f"{family}_block.svg", f"{family}.svg"):
        if (folder / name).is_file():
            return (folder / name).read_text(encoding="utf-8")
    return ""

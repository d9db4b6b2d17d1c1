"""Where the package's data lie. Standard library only."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def weights_folder() -> Path:
    """The folder with one TOML per family: inside an installed wheel, else the source
    tree's; never the working directory.
    """
    packed = PACKAGE / "weights" / "data"
    return packed if packed.is_dir() else PACKAGE.parent / "weights"


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

"""Where the package's data lie. Standard library only."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def weights_folder() -> Path:
    """The folder with one TOML per family: inside an installed wheel, else the source
    tree's; never the working directory.
    """
    packed = PACKAGE / "weights" / "data"
    return packed if packed.is_dir() else PACKAGE.parent / "weights"

"""Predicted classes of image files, as a table and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.image import convert, open_image
from zoo.errors import DataError, UsageError, warn
from zoo.files import replaced
from zoo.formatting import Printable, Section, Table
from zoo.tasks.contact_sheet import Panel, draw_sheet

LARGEST = 60  # images of a picture


@dataclass(frozen=True, repr=False)
class Prediction(Printable):
    """The likeliest classes of a file with their probabilities, in falling order; or
    why it could not be read. `truth`: the folder that the file lies in, where it is
    called like one of the classes.
    """

    file: Path
    scores: tuple[tuple[str, float], ...] = ()
    error: str = ""
    truth: str = ""

    @property
    def label(self) -> str:
        """The likeliest class. Raises DataError for a file that could not be read."""
        if self.error:
            raise DataError(self.error)
        return self.scores[0][0]

    def sections(self) -> list[Section]:
        return Predictions([self]).sections()


class Predictions(Printable, list[Prediction]):
    """The predictions of several files, in their order."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return Predictions(found) if isinstance(index, slice) else found

    @property
    def read(self) -> list[Prediction]:
        """Those of the files that could be read."""
        return [each for each in self if not each.error]

    def table(self) -> Table:
        """A line per file that could be read."""
        count = max((len(each.scores) for each in self.read), default=0)
        titles = ["predicted", *(f"rank {number}" for number in range(2, count + 1))]
        headers = ["file", *titles]
        rows = [
            [str(each.file), *(f"{name} {100 * share:5.1f} %" for name, share in each.scores)]
            for each in self.read
        ]
        if any(each.truth for each in self):
            headers.insert(1, "true")
            for row, each in zip(rows, self.read, strict=True):
                row.insert(1, each.truth)
        return Table(headers, rows, left=("file", "true"), optional=titles[:0:-1])

    def sections(self) -> list[Section]:
        found: list[Section] = [self.table()] if self.read else []
        errors = "\n".join(each.error for each in self if each.error)
        return [*found, errors] if errors else found

    def plot(self, path: str | Path) -> None:
        """Draw the images enlarged, each with its predicted label, and its true one
        where that is known, to a .png or .svg file.

        Raises UsageError for another kind of file, and where no image could be read.
        """
        path = Path(path)
        check_picture(path)
        shown = self.read[:LARGEST]
        if not shown:
            raise UsageError(f"{path}: there is no image to draw")
        if more := len(self.read) - len(shown):
            warn(f"{path} has the first {LARGEST} images: {more} are left out")
        panels = [
            Panel(convert(open_image(each.file), 3), *each.scores[0], each.truth) for each in shown
        ]
        with replaced(path) as temporary:
            draw_sheet(panels, temporary, path.suffix[1:])


def check_picture(path: str | Path) -> None:
    """Raises UsageError for a file that cannot be a picture of predictions."""
    if Path(path).suffix not in (".png", ".svg"):
        raise UsageError(f"{path}: the picture is a .png or .svg file")

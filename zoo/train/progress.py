"""What one sees while a network trains: on a terminal a bar, elsewhere a line per
epoch; on stderr, as results go to stdout.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar


class Progress:
    """A bar over all epochs with loss, accuracy, images/s and the time left; after each
    epoch a line that stays.
    """

    def __init__(self, epochs: int, images: int, show: bool = True) -> None:
        """`images` is the number of training images per epoch."""
        self.epochs = epochs
        self.images = images
        self.show = show
        self.console = Console(stderr=True, highlight=False)
        self.bar = Bar(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[text]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=not (show and self.console.is_terminal),
        )
        self.task = self.bar.add_task("", total=epochs * images, epoch=1, epochs=epochs, text="")
        self.started = (0, 0.0)  # epoch, and when it began

    def __enter__(self) -> Progress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def batch(self, epoch: int, images: int, means: Mapping[str, float]) -> None:
        """`images` of this epoch are done, with these running means."""
        if epoch != self.started[0]:
            self.started = (epoch, time.perf_counter())
        elapsed = time.perf_counter() - self.started[1]
        speed = f"  {images / elapsed:,.0f} images/s" if elapsed > 0.2 else ""
        self.bar.update(
            self.task,
            completed=(epoch - 1) * self.images + images,
            epoch=epoch,
            text=text(means) + speed,
        )

    def epoch(self, record: Mapping[str, float]) -> None:
        self.bar.update(self.task, completed=record["epoch"] * self.images)
        if self.show:
            number = f"epoch {record['epoch']:{len(str(self.epochs))}}/{self.epochs}"
            parts = [f"{part}: {text(record, part + '_')}" for part in ("train", "val")]
            self.console.print(
                f"{number}  {'  '.join(parts)}  {record['images_per_second']:,.0f} images/s",
                soft_wrap=True,
            )


def text(means: Mapping[str, float], prefix: str = "") -> str:
    """`loss 0.123  accuracy 97.8 %` of the entries that begin with the prefix."""
    shown = []
    for name in ("loss", "accuracy"):
        if (value := means.get(prefix + name)) is not None:
            shown.append(
                f"{name} {value:.1%}".replace("%", " %")
                if name == "accuracy"
                else f"{name} {value:.4f}"
            )
    return "  ".join(shown)

"""What one sees while a network trains: on a terminal a bar, elsewhere a line per
epoch; on stderr, as results go to stdout.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from zoo.training.metrics import ChartMetric


class Progress:
    """A bar over all epochs with the metrics, the speed and the time left; after each
    epoch a line that stays.
    """

    def __init__(
        self,
        epochs: int,
        total: int,
        *,
        unit: str = "images",
        metrics: Sequence[ChartMetric] = (ChartMetric("loss"),),
        show: bool = True,
    ) -> None:
        """`total` is the number of images (or what `unit` says) per epoch."""
        self.epochs = epochs
        self.total = total
        self.unit = unit
        self.metrics = metrics
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
        self.task = self.bar.add_task("", total=epochs * total, epoch=1, epochs=epochs, text="")
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

    def batch(self, epoch: int, done: int, means: Mapping[str, float]) -> None:
        """`done` of this epoch's `total` are through, with these running means."""
        if epoch != self.started[0]:
            self.started = (epoch, time.perf_counter())
        elapsed = time.perf_counter() - self.started[1]
        speed = f"  {done / elapsed:,.0f} {self.unit}/s" if elapsed > 0.2 else ""
        completed = (epoch - 1) * self.total + done
        text = self._text(means) + speed
        self.bar.update(self.task, completed=completed, epoch=epoch, text=text)

    def epoch(self, record: Mapping[str, float]) -> None:
        self.bar.update(self.task, completed=record["epoch"] * self.total)
        if self.show:
            number = f"epoch {record['epoch']:{len(str(self.epochs))}}/{self.epochs}"
            parts = [f"{part}: {self._text(record, part + '_')}" for part in ("train", "val")]
            speed = f"{record[f'{self.unit}_per_second']:,.0f} {self.unit}/s"
            self.console.print(f"{number}  {'  '.join(parts)}  {speed}", soft_wrap=True)

    def _text(self, means: Mapping[str, float], prefix: str = "") -> str:
        """`loss 0.123  accuracy 97.8 %` of the entries that begin with the prefix."""
        values = ((metric, means.get(prefix + metric.name)) for metric in self.metrics)
        shown = (
            f"{metric.name} {metric.text(value)}" for metric, value in values if value is not None
        )
        return "  ".join(shown)

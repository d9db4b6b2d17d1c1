"""What one sees while a network trains: on a terminal a bar, elsewhere a line after the
first batches and now and then; a line per epoch on both. On stderr, as results go to
stdout.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from zoo.training.metrics import PARTS, ChartMetric

LINE_EVERY = 30.0  # seconds, where there is no bar


class Progress:
    """A bar over all epochs with the metrics, the speed and the time left, or a line
    every LINE_EVERY seconds; after each epoch a line that stays.
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
        self.lines = show and not self.console.is_terminal
        self.next_line = 0.0

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
        now = time.perf_counter()
        if epoch != self.started[0]:
            self.started = (epoch, now)
        elapsed = now - self.started[1]
        speed = f"  {done / elapsed:,.0f} {self.unit}/s" if elapsed > 0.2 else ""
        completed = (epoch - 1) * self.total + done
        text = self._text(means) + speed
        self.bar.update(self.task, completed=completed, epoch=epoch, text=text)
        if self.lines and now >= self.next_line:
            self.next_line = now + LINE_EVERY
            share = f"{done:,} of {self.total:,} {self.unit}"
            self.say(f"{self._number(epoch)}  {share}: {text}")

    def epoch(self, record: Mapping[str, float]) -> None:
        self.bar.update(self.task, completed=record["epoch"] * self.total)
        parts = [f"{word}: {self._text(record, part + '_')}" for part, word in PARTS.items()]
        speed = f"{record[f'{self.unit}_per_second']:,.0f} {self.unit}/s"
        self.say(f"{self._number(int(record['epoch']))}  {'  '.join(parts)}  {speed}")

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.show:
            self.console.print(line, soft_wrap=True, markup=False)

    def _number(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self.epochs))}}/{self.epochs}"

    def _text(self, means: Mapping[str, float], prefix: str = "") -> str:
        """`loss 0.123  accuracy 97.8 %` of the entries that begin with the prefix."""
        values = ((metric, means.get(prefix + metric.name)) for metric in self.metrics)
        shown = (
            f"{metric.name} {metric.text(value)}" for metric, value in values if value is not None
        )
        return "  ".join(shown)

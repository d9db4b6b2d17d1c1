"""How verbs print: a result in the form that was asked for, tables for the terminal (as
plain text when the output goes elsewhere), and a progress bar for what takes long.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any

import click

from zoo.errors import warn
from zoo.formatting import plain

PATIENCE = 2.0  # seconds without a progress bar
READABLE = 24  # least width of a column whose text is wrapped


def emit(result: Any, form: str | None, show: Callable[[Any], None]) -> None:
    """Print a result to stdout: as "json" (its `to_dict`, or itself where it is a dict
    or list), "csv" (`to_csv`) or "markdown" (`to_markdown`); without a form with
    `show`, which prints it for people.
    """
    if form == "json":
        plain_data = isinstance(result, (dict, list))
        click.echo(json.dumps(result if plain_data else result.to_dict(), indent=2))
    elif form == "csv":
        click.echo(result.to_csv(), nl=False)
    elif form == "markdown":
        click.echo(result.to_markdown())
    else:
        show(result)


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    left: Sequence[str],
    wrap: str = "",
    optional: Sequence[str] = (),
) -> None:
    """Print to stdout. On a terminal the text of the column `wrap` is wrapped, and
    where the width is not enough the columns `optional` are left out, the first one
    first. Nothing is ever cut off.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        click.echo(plain(headers, rows, left))
        return
    widths = {
        header: max(map(len, column))
        for header, *column in zip(headers, *rows, strict=True)
        for column in [[header, *column]]
    }
    needed = {
        header: min(width, READABLE) if header == wrap else width
        for header, width in widths.items()
    }
    shown = list(headers)
    dropped: list[str] = []
    while sum(needed[header] + 1 for header in shown) - 1 > console.width and len(dropped) < len(
        optional
    ):
        dropped.append(optional[len(dropped)])
        shown.remove(dropped[-1])
    gap = 2 if sum(needed[header] + 2 for header in shown) - 2 <= console.width else 1
    fits = sum(needed[header] + gap for header in shown) - gap <= console.width
    grid = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for header in shown:
        grid.add_column(
            header,
            justify="left" if header in left else "right",
            no_wrap=fits and header != wrap,
            overflow="fold",
        )
    for row in rows:
        grid.add_row(
            *(Text(cell) for header, cell in zip(headers, row, strict=True) if header in shown)
        )
    console.print(grid)
    if dropped:
        warn(f"{console.width} columns have no room for: {', '.join(dropped)}")


def width() -> int | float:
    """The columns of the terminal that `table` prints to; no limit elsewhere."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else math.inf


def on_terminal() -> bool:
    """Whether `table` prints to a terminal."""
    from rich.console import Console

    return Console().is_terminal


@contextmanager
def status_after(what: str) -> Iterator[None]:
    """Say on a terminal's stderr what is being done, as soon as it takes longer than
    PATIENCE.
    """
    from rich.console import Console

    console = Console(stderr=True)
    status = console.status(what)
    timer = Timer(PATIENCE, status.start if console.is_terminal else lambda: None)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def passive_threads() -> None:
    """Before torch is imported: its threads sleep while they wait. Those that spin make
    a busy machine 10 times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def progress(items: Sequence[Any]) -> Iterator[Any]:
    """The items one after the other, with a bar on a terminal's stderr as soon as it
    takes longer than PATIENCE.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    bar = Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        disable=not console.is_terminal,
    )
    task = bar.add_task("", total=len(items))
    begin = time.monotonic()
    started = False
    try:
        for done, item in enumerate(items):
            if not started and time.monotonic() - begin > PATIENCE:
                bar.start()
                started = True
            bar.update(task, completed=done, description=str(item))
            yield item
    finally:
        bar.stop()

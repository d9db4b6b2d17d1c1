"""How verbs print: a result in the form that was asked for, tables for the terminal (as
plain text when the output goes elsewhere), and a progress bar for what takes long.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import Timer
from typing import Any

import click

from zoo.errors import warn
from zoo.formatting import Section, Table, section_text

PATIENCE = 2.0  # seconds without a progress bar


def emit(result: Any, form: str | None, show: Callable[[Any], None] | None = None) -> None:
    """Print a result to stdout: as "json" (its `to_dict`, or itself where it is a dict
    or list), "csv" (`to_csv`) or "markdown" (`to_markdown`); without a form for people:
    its sections, or with `show`.
    """
    if form == "json":
        plain_data = isinstance(result, (dict, list))
        click.echo(json.dumps(result if plain_data else result.to_dict(), indent=2))
    elif form == "csv":
        click.echo(result.to_csv(), nl=False)
    elif form == "markdown":
        click.echo(result.to_markdown())
    elif show:
        show(result)
    else:
        show_sections(result.sections())


def show_sections(sections: Iterable[Section]) -> None:
    """Print to stdout, with an empty line between two; tables are made to fit a
    terminal, with a note of what that leaves out.
    """
    for number, section in enumerate(sections):
        if number:
            click.echo()
        if isinstance(section, Table) and on_terminal():
            width = shutil.get_terminal_size().columns
            fitted, dropped = section.fitted(width)
            header, _, *rows = fitted.text().splitlines()
            click.echo("\n".join([click.style(header, bold=True), *rows]))
            if dropped:
                warn(f"{width} columns have no room for: {', '.join(dropped)}")
        else:
            click.echo(section_text(section))


def width() -> int | float:
    """The columns of the terminal that `table` prints to; no limit elsewhere."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else math.inf


def on_terminal() -> bool:
    """Whether stdout is one."""
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

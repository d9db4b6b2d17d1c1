"""zoo list"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

import zoo
from zoo.cli import options
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.api.catalogue import Summary
    from zoo.spec import Result


@click.command("list", short_help="names of the networks")
@click.argument("patterns", nargs=-1, type=options.NETWORK)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out names that match.")
@click.option("--family", multiple=True, help="Only networks of this model file, e.g. vgg.")
@click.option(
    "--task", default="", help="Only networks for this task, e.g. classify (imports torch)."
)
@click.option("--pretrained", is_flag=True, help="List the published weights instead.")
@click.option(
    "--long",
    "long",
    is_flag=True,
    help="A line each: year, parameters, MACs, a result of the paper, and weights.",
)
@options.forms("json")
def command(
    patterns: tuple[str, ...],
    exclude: tuple[str, ...],
    family: tuple[str, ...],
    task: str,
    pretrained: bool,
    long: bool,
    form: str | None,
) -> None:
    """Names of the networks that match one of the shell PATTERNS (none: all). A word
    without wildcards that is no name stands for the names that contain it.

    \b
    Example: zoo list 'resnet*' --exclude '*cifar*'
             zoo list vgg --long
    """
    from zoo.cli.console import emit

    if pretrained and long:
        raise UsageError("--long lists networks with their weights: leave out --pretrained")
    names = zoo.list_models(
        patterns, exclude_filters=exclude, family=family, task=task, pretrained=pretrained
    )
    if long:
        from zoo.api.catalogue import summaries

        found = summaries(names)
        emit([asdict(each) for each in found], form, lambda _: _show(found))
    elif pretrained:
        from zoo.api.weights import published_weights, table
        from zoo.cli.console import show_sections

        weights = published_weights(names) if names else []
        sections = [table(weights)] if weights else []
        emit([asdict(each) for each in weights], form, lambda _: show_sections(sections))
    else:
        emit(names, form, lambda names: click.echo("\n".join(names), nl=bool(names)))
    if not names:
        click.echo("no network matches", err=True)


def _show(summaries: list[Summary]) -> None:
    """As a table, with the results as short as the terminal needs them."""
    from zoo.cli.console import show_sections, width
    from zoo.formatting import Table

    headers = ["name", "year", "parameters", "MACs", "weights", "reported by the paper"]
    if not any(each.tags for each in summaries):
        headers.remove("weights")
    for short in range(4):
        rows = [_cells(each, headers, short) for each in summaries]
        widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
        if sum(widths) + 2 * len(widths) <= width():
            break
    if summaries:
        left = (headers[0], *headers[4:])
        show_sections([Table(headers, rows, left, optional=("weights", "year"))])


def _cells(summary: Summary, headers: list[str], short: int) -> list[str]:
    cells = {
        "name": summary.name,
        "year": str(summary.year),
        "parameters": f"{summary.params:,}",
        "MACs": f"{summary.macs:,}",
        "weights": _tags(summary),
    }
    reported = _reported(summary.result, short) if summary.result else ""
    return [cells.get(header, reported) for header in headers]


def _tags(summary: Summary) -> str:
    """The tag of the default weights, and how many others there are."""
    others = f" +{len(summary.tags) - 1}" if len(summary.tags) > 1 else ""
    return f"{summary.tags[0]}{others}" if summary.tags else ""


def _reported(result: Result, short: int) -> str:
    """A result with its protocol; `short` is how much of that is left out, from 0
    (nothing) to 3 (all of it).
    """
    value = f"{result.value} {result.metric}"
    protocol = result.protocol.removeprefix("single network").removeprefix(", ")
    return [
        f"{value} ({result.data}; {result.protocol})",
        f"{value} ({result.data}{'; ' if protocol else ''}{protocol})",
        f"{value} ({result.data})",
        value,
    ][short]

"""zoo compare"""

from __future__ import annotations

import json

import click

import zoo


@click.command("compare", short_help="many networks in one table")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option("--csv", "form", flag_value="csv", help="Print comma-separated values.")
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
def command(names: tuple[str, ...], form: str | None) -> None:
    """Depth, parameters, MACs and FLOPs of networks at their own input size. NAME can be a shell pattern.

    A MAC is one multiply-add of a convolution or matrix product, biases excluded; FLOPs are twice the MACs. The depth counts these
    layers on the longest path. Reported errors are the papers' own, and comparable only where data and protocol are the same.

    Example: zoo compare alexnet 'vgg*' resnet50
    """
    from zoo.cli.show import progress, table
    from zoo.tables.compare import HEADERS, LEFT

    comparison = zoo.compare(names, progress=progress)
    if form == "json":
        click.echo(json.dumps(comparison.to_dict(), indent=2))
    elif form == "csv":
        click.echo(comparison.to_csv(), nl=False)
    elif form == "markdown":
        click.echo(comparison.to_markdown())
    else:
        *_, reported = headers = list(HEADERS.values())
        table(headers, comparison.cells(), left=LEFT, wrap=reported, optional=(reported, "year", "input"))

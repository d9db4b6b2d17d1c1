"""zoo compare"""

from __future__ import annotations

import json

import click

import zoo
from zoo.cli.profile import InputSize


@click.command("compare", short_help="many networks in one table, two pictures or a web page")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option(
    "--input-size",
    type=InputSize(),
    metavar="224|3x224x224",
    help="Images of this size instead of the networks' own.",
)
@click.option(
    "--recount",
    is_flag=True,
    help="Build and count each network instead of trusting the counts beside it.",
)
@click.option(
    "--memory",
    type=click.IntRange(1),
    metavar="BATCH",
    help="Add the predicted memory of training and inference, fp32 on a GPU.",
)
@click.option(
    "--measure",
    is_flag=True,
    help="Add the measured time per image of a forward pass on this machine.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Images in each measured pass.",
)
@click.option(
    "--sort",
    metavar="COLUMN",
    default="",
    help="Order by name, year, depth, input, params, macs, flops, weights, … reported.",
)
@click.option("--descending", is_flag=True, help="The largest first.")
@click.option(
    "--protocol",
    metavar="WORDS",
    default="",
    help="Results of one protocol only, as in --protocol 'top-1 single crop'.",
)
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option(
    "--csv", "form", flag_value="csv", help="Print comma-separated values, sizes in bytes."
)
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
@click.option(
    "--plot", metavar="FILE.png|svg", help="Draw the reported accuracy instead of printing a table."
)
@click.option("--kind", type=click.Choice(["operations", "accuracy"]), default="operations", show_default=True,
              help="What --plot draws: accuracy against operations, or accuracy per network.")  # fmt: skip
@click.option(
    "--html",
    metavar="FILE.html",
    help="Write a page with the table, the chart and the layers of each network.",
)
def command(
    names: tuple[str, ...],
    input_size: int | tuple[int, ...] | None,
    recount: bool,
    memory: int | None,
    measure: bool,
    batch_size: int,
    sort: str,
    descending: bool,
    protocol: str,
    form: str | None,
    plot: str | None,
    kind: str,
    html: str | None,
) -> None:
    """Depth, parameters, MACs and FLOPs of networks at their own input size. NAME can
    be a shell pattern.

    A MAC is one multiply-add of a convolution or matrix product, biases excluded; FLOPs
    are twice the MACs. The depth is the paper's: layers with weights on the longest
    path. The weights are those of the parameters in single precision, or the recorded
    file's. Reported errors are the papers' own, and comparable only where data and
    protocol are the same: pictures show one protocol, the one that most of the networks
    share if --protocol picks no other.

    \b
    Example: zoo compare alexnet 'vgg*' resnet50
             zoo compare '*' --sort macs --descending --csv
             zoo compare '*' --plot operations.svg
             zoo compare 'resnet*' --memory 32 --html report.html
    """
    from zoo.cli.show import progress, table

    comparison = zoo.compare(
        names,
        input_size=input_size,
        recount=recount,
        memory=memory,
        measure=batch_size if measure else None,
        layers=bool(html),
        protocol=protocol,
        sort=sort,
        descending=descending,
        progress=progress,
    )
    if plot:
        click.echo(f"{plot}: {comparison.plot(plot, kind, protocol)}")
    if html:
        comparison.to_html(html)
        click.echo(f"{html}: {len(comparison.rows)} networks")
    if form == "json":
        click.echo(json.dumps(comparison.to_dict(), indent=2))
    elif form == "csv":
        click.echo(comparison.to_csv(), nl=False)
    elif form == "markdown":
        click.echo(comparison.to_markdown())
    elif not plot and not html:
        titles = comparison.titles
        optional = [
            titles[column] for column in ("reported", "weights", "year", "input") if column != sort
        ]
        table(
            list(titles.values()),
            comparison.cells(),
            left=("name", titles["reported"]),
            wrap=titles["reported"],
            optional=optional,
        )

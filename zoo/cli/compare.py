"""zoo compare"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import zoo
from zoo.cli import options
from zoo.errors import warn

if TYPE_CHECKING:
    from zoo.tables.compare import Comparison


@click.command("compare", short_help="many networks in one table, a picture or a web page")
@click.argument("names", nargs=-1, required=True, metavar="WHAT...", type=options.NETWORK)
@options.INPUT_SIZE
@click.option(
    "--recount",
    is_flag=True,
    help="Build and count each network instead of trusting the counts beside it.",
)
@click.option(
    "--memory-batch-size",
    type=click.IntRange(1),
    metavar="BATCH",
    help="Add the predicted memory of training and inference, fp32 on a GPU, at this batch size.",
)
@click.option(
    "--latency-batch-size",
    type=click.IntRange(1),
    metavar="BATCH",
    help="Add the measured time per image of a forward pass of this many on this machine, "
    "median and least.",
)
@click.option(
    "--pretrained",
    is_flag=True,
    help="Add accuracy and licence of the published weights that each name takes.",
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
    help="Only networks with a result of one protocol, as in --protocol 'top-1 single crop'.",
)
@options.forms(csv="Print comma-separated values, sizes in bytes.")
@click.option(
    "--plot",
    type=click.Path(),
    metavar="FILE.png|svg",
    help="Draw the networks instead of printing a table.",
)
@click.option(
    "--kind",
    type=click.Choice(["operations", "accuracy", "parameters", "weights"]),
    default="operations",
    show_default=True,
    help="What --plot draws: accuracy against operations, accuracy per network, parameters "
    "against operations, or accuracy of the published weights against operations.",
)
@click.option(
    "--html",
    type=click.Path(),
    metavar="FILE.html",
    help="Write a page: table, chart, and each network's paper, departures and layers.",
)
def command(
    names: tuple[str, ...],
    input_size: str | None,
    recount: bool,
    memory_batch_size: int | None,
    latency_batch_size: int | None,
    pretrained: bool,
    sort: str,
    descending: bool,
    protocol: str,
    form: str | None,
    plot: str | None,
    kind: str,
    html: str | None,
) -> None:
    """Depth, parameters, MACs and FLOPs of networks at their own input size. WHAT is a
    name, a shell pattern, or a run folder.

    A MAC is one multiply-add of a convolution or matrix product, biases excluded; FLOPs
    are twice the MACs. The depth is the paper's: layers with weights on the longest
    path. The weights are those of the parameters in single precision, or the recorded
    file's. Reported errors are the papers' own, and comparable only where data and
    protocol are the same: pictures have a panel per protocol, or the one that
    --protocol picks. Parameters against operations need no reported error, so that all
    networks are shown.

    \b
    Example: zoo compare alexnet 'vgg*' resnet50
             zoo compare '*' --sort macs --descending --csv
             zoo compare '*' --plot operations.svg
             zoo compare 'vgg*' 'resnet*' --plot parameters.png --kind parameters
             zoo compare '*' --plot weights.png --kind weights
             zoo compare 'resnet*' --memory-batch-size 32 --html report.html
    """
    from zoo.cli.console import emit, passive_threads, progress, show_sections

    if latency_batch_size:
        passive_threads()
    comparison = zoo.compare(
        names,
        input_size=input_size,
        recount=recount,
        memory_batch_size=memory_batch_size,
        latency_batch_size=latency_batch_size,
        pretrained=pretrained or bool(plot and kind == "weights"),
        layers=bool(html),
        protocol=protocol,
        sort=sort,
        descending=descending,
        progress=progress,
    )
    if memory_batch_size and not form:
        _say_unchecked(comparison)
    if plot:
        click.echo(f"{plot}: {comparison.plot(plot, kind, protocol)}")
    if html:
        comparison.to_html(html)
        click.echo(f"{html}: {len(comparison.rows)} networks")
    if form or not (plot or html):
        emit(comparison, form, lambda comparison: show_sections(comparison.sections(sort)))


def _say_unchecked(comparison: Comparison) -> None:
    from zoo.count.memory.checked import NETWORKS

    others = [row.name for row in comparison.rows if row.name not in NETWORKS]
    if others:
        count = f"{len(others)} of the {len(comparison.rows)} networks"
        warn(f"the memory of {count} was not checked on a GPU; checked: {', '.join(NETWORKS)}")

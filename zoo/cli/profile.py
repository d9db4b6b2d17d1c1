"""zoo profile"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

import zoo
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.count.engines import Opinion
    from zoo.count.report import Profile


class InputSize(click.ParamType):
    name = "size"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, ...]:
        try:
            sides = tuple(map(int, value.lower().split("x")))
        except ValueError:
            sides = ()
        if len(sides) not in (1, 3):
            self.fail(
                f"{value!r} is neither a side in pixels (224) nor channels, height and width (3x224x224)",
                param,
                ctx,
            )
        return sides[0] if len(sides) == 1 else sides


@click.command("profile", short_help="parameters, MACs and FLOPs of a network, layer by layer")
@click.argument("name")
@click.option(
    "--input-size",
    type=InputSize(),
    metavar="224|3x224x224",
    help="Images of this size instead of the network's own.",
)
@click.option(
    "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images in the pass."
)
@click.option(
    "--mode",
    type=click.Choice(["eval", "train"]),
    default="eval",
    show_default=True,
    help="train: with the backward pass.",
)
@click.option(
    "--depth",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Levels of the module tree to show.",
)
@click.option(
    "--stats",
    is_flag=True,
    help="Run a random batch: mean and deviation of each output, dead ReLUs.",
)
@click.option(
    "--operators",
    is_flag=True,
    help="The operators that ran instead: counted, free, or not counted.",
)
@click.option(
    "--engine",
    type=click.Choice(["fvcore", "torch"]),
    help="Another counter's opinion instead, beside ours.",
)
@click.option(
    "--json", "form", flag_value="json", help="Print JSON, with the modules of all levels."
)
@click.option(
    "--csv",
    "form",
    flag_value="csv",
    help="Print comma-separated values, with the modules of all levels.",
)
@click.option("--markdown", "form", flag_value="markdown", help="Print a Markdown table.")
def command(
    name: str,
    input_size: int | tuple[int, ...] | None,
    batch_size: int,
    mode: str,
    depth: int,
    stats: bool,
    operators: bool,
    engine: str | None,
    form: str | None,
) -> None:
    """Parameters, MACs and FLOPs of one forward pass of the network NAME, module by
    module.

    A MAC is one multiply-add of a convolution or matrix product, biases excluded; FLOPs
    are twice the MACs; "other" are all other operations. "MiB kept": made there and
    needed for a backward pass. "sees": pixels of the input that a value of the output
    sees.

    Example: zoo profile vgg16 --input-size 448
    """
    from zoo.cli.show import waiting

    if engine and (stats or operators):
        raise UsageError("--engine has a table of its own: leave out --stats and --operators")
    with waiting(f"counting {name}"):
        if engine:
            opinion = zoo.second_opinion(name, engine, input_size, batch_size, mode=mode)
        else:
            profile = zoo.profile(name, input_size, batch_size, mode=mode, stats=stats)
    if engine:
        _compare(opinion, form)
    elif form == "json":
        click.echo(json.dumps(profile.to_dict(), indent=2))
    elif operators:
        _operators(profile, form)
    elif form == "csv":
        click.echo(profile.to_csv(), nl=False)
    elif form == "markdown":
        click.echo(profile.to_markdown(depth))
    else:
        _tree(profile, depth)


def _tree(profile: Profile, depth: int) -> None:
    from zoo.cli.show import on_terminal, table
    from zoo.count import tree

    headers = list(tree.columns(profile))
    rows = tree.cells(profile, depth, bars=on_terminal())
    table(
        headers,
        rows,
        left=tree.LEFT,
        optional=[header for header in tree.OPTIONAL if header in headers],
    )
    click.echo("\n" + "\n".join(tree.totals(profile)))
    if hidden := len(profile.rows) - len(rows):
        deepest = max(row.level for row in profile.rows)
        click.echo(f"note: {hidden} modules lie deeper: --depth {deepest} shows all", err=True)


def _operators(profile: Profile, form: str | None) -> None:
    from zoo.cli.show import table
    from zoo.count import tree
    from zoo.count.text import markdown, separated

    left = ("operator", "status", "kind")
    if form == "csv":
        records = (
            [each.name, each.status, each.kind, each.calls, each.macs, each.other]
            for each in profile.operators
        )
        click.echo(separated(tree.OPERATORS, records), nl=False)
    elif form == "markdown":
        click.echo(markdown(tree.OPERATORS, tree.operators(profile), left))
    else:
        table(tree.OPERATORS, tree.operators(profile), left=left)
        click.echo("\n" + "\n".join(tree.totals(profile)))


def _compare(opinion: Opinion, form: str | None) -> None:
    from zoo.cli.show import table

    if form == "json":
        click.echo(json.dumps(opinion.to_dict(), indent=2))
    elif form == "csv":
        click.echo(opinion.to_csv(), nl=False)
    elif form == "markdown":
        click.echo(opinion.to_markdown())
    else:
        table(opinion.headers(), opinion.cells(), left=("operations",))
        click.echo("\n" + "\n".join(opinion.remarks()))

"""zoo verify"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

import zoo
from zoo.errors import PluginError, UsageError, note

if TYPE_CHECKING:
    from zoo.tables.verify import Verification

COLUMNS = (
    "network",
    "paper",
    "parameters",
    "MACs",
    "claims",
    "verdict",
)  # of the table of many networks


@click.command("verify", short_help="the figures that a paper prints against the computed ones")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="All networks.")
@click.option("--json", "form", flag_value="json", help="Print JSON.")
@click.option(
    "--markdown",
    "form",
    flag_value="markdown",
    help="Print a Markdown table: a line per network, with its paper.",
)
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], everything: bool, form: str | None) -> None:
    """The figures that the paper of the network NAME prints, each against the computed
    one, and the exact counts.

    A figure that differs needs a reason. The exit code is 1 when a claim does not hold.
    Several networks give a line each.

    Example: zoo verify vgg16
    """
    from zoo.cli.show import progress, table
    from zoo.tables.text import markdown
    from zoo.tables.verify import HEADERS, LEFT

    if bool(names) == everything:
        raise UsageError("give the names of networks, or --all")
    results = []
    for name in progress(zoo.list_models() if everything else names):
        try:
            results.append(zoo.verify(name))
        except PluginError as error:
            if not everything:
                raise
            note(f"left out: {error}")
    single = len(names) == 1
    if form == "json":
        records = [result.to_dict() for result in results]
        click.echo(json.dumps(records[0] if single else records, indent=2))
    elif form == "markdown":
        click.echo(
            markdown(
                COLUMNS, [line(result) for result in results], left=("network", "paper", "verdict")
            )
        )
    elif single:
        table(HEADERS, results[0].cells(), left=LEFT, wrap="verdict", optional=("where",))
        click.echo(f"\n{results[0].summary()}")
    else:
        for result in results:
            click.echo(result.summary())
    if not all(result.ok for result in results):
        ctx.exit(1)


def line(result: Verification) -> list[str]:
    """A network in one table with others, a cell per entry of COLUMNS: its paper, its
    computed counts, and whether all claims hold.
    """
    from zoo.tables.text import figure, reference

    params, macs = (figure(check.computed) for check in result.checks[:2])  # the exact counts
    differing = sum(bool(check.reason) for check in result.checks)
    verdict = (
        f"all hold; {differing} differ{'s' * (differing == 1)} from the paper for a reason"
        if differing
        else "all hold"
    )
    if not result.ok:
        verdict = result.summary().partition(": ")[2]
    return [
        f"`{result.name}`",
        reference(zoo.info(result.name).paper),
        params,
        macs,
        str(len(result.checks)),
        verdict,
    ]

"""zoo verify"""

from __future__ import annotations

import click

import zoo
from zoo.cli import options
from zoo.errors import PluginError, UsageError, warn


@click.command("verify", short_help="the figures that a paper prints against the computed ones")
@click.argument("names", nargs=-1, metavar="[WHAT]...", type=options.NETWORK)
@click.option("--all", "everything", is_flag=True, help="All networks.")
@options.forms(
    "json", "markdown", markdown="Print a Markdown table: a line per network, with its paper."
)
@click.pass_context
def command(ctx: click.Context, names: tuple[str, ...], everything: bool, form: str | None) -> None:
    """The figures that the paper of WHAT (a network's name or a run folder) prints,
    each against the computed one, and the exact counts.

    A figure that differs needs a reason, or is said to be unexplained; the last line
    counts them. The exit code is 1 when a claim does not hold: it differs without a
    word, or agrees although a reason says that it should not. Several networks give a
    line each, and one of all.

    Example: zoo verify vgg16
    """
    from zoo.cli.console import emit, progress
    from zoo.tables.verify import Verifications

    if bool(names) == everything:
        raise UsageError("give the names of networks, or --all")
    results = []
    for name in progress(zoo.list_models() if everything else names):
        try:
            results.append(zoo.verify(name))
        except PluginError as error:
            if not everything:
                raise
            warn(f"left out: {error}")
    found = Verifications(tuple(results))
    if len(names) == 1 and form != "markdown":
        emit(results[0], form)
    else:
        emit(found, form)
    if not found.ok:
        ctx.exit(1)

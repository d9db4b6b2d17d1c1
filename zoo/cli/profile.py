"""zoo profile"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import zoo
from zoo.cli import options
from zoo.errors import UsageError
from zoo.optimizers import STEPWISE

if TYPE_CHECKING:
    from zoo.count.profile import Profile


@click.command("profile", short_help="parameters, MACs and FLOPs of a network, layer by layer")
@click.argument("what", type=options.NETWORK)
@options.INPUT_SIZE
@options.batch_size("Examples in the pass.")
@options.mode("eval", "train: with the backward pass.")
@options.depth(3)
@click.option(
    "--stats",
    is_flag=True,
    help="Run a random batch: mean and deviation of each output, dead ReLUs; with --mode "
    "train also norms of gradients and what a step does to the weights.",
)
@click.option(
    "--optimizer",
    type=click.Choice(STEPWISE),
    default="momentum",
    show_default=True,
    help="With --stats --mode train: whose step.",
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
@options.forms(
    json="Print JSON, with the modules of all levels.",
    csv="Print comma-separated values, with the modules of all levels.",
)
def command(
    what: str,
    input_size: str | None,
    batch_size: int,
    mode: str,
    depth: int,
    stats: bool,
    optimizer: str,
    operators: bool,
    engine: str | None,
    form: str | None,
) -> None:
    """Parameters, MACs and FLOPs of one forward pass of WHAT, a network's name or a
    run folder, module by module.

    A MAC is one multiply-add of a convolution or matrix product, biases excluded; FLOPs
    are twice the MACs; "other" are all other operations. "MiB saved": made there and
    needed for a backward pass. "receptive field": pixels of the input that a value of
    the output depends on.

    Example: zoo profile vgg16 --input-size 448
    """
    from zoo.cli.console import emit, status_after

    if engine and (stats or operators):
        raise UsageError("--engine has a table of its own: leave out --stats and --operators")
    if engine:
        with status_after(f"counting {what}"):
            found = zoo.cross_check(what, engine, input_size, batch_size, mode=mode)
        emit(found, form)
        return
    with status_after(f"counting {what}"):
        profile = zoo.profile(
            what, input_size, batch_size, mode=mode, stats=stats, optimizer=optimizer
        )
    if operators and form != "json":
        emit(profile.operator_table(), form, lambda _: _show_operators(profile))
    elif form == "markdown":
        click.echo(profile.to_markdown(depth))
    else:
        emit(profile, form, lambda profile: _show_modules(profile, depth))


def _show_modules(profile: Profile, depth: int) -> None:
    from zoo.cli.console import on_terminal, show_sections

    shown = profile.table(depth)
    tables = [*shown.sections(bars=on_terminal()), *profile.step_tables()]
    show_sections([*tables, "\n".join(profile.totals())])
    if hidden := len(profile.rows) - len(shown.rows):
        deepest = max(row.level for row in profile.rows)
        click.echo(f"note: {hidden} modules lie deeper: --depth {deepest} shows all", err=True)


def _show_operators(profile: Profile) -> None:
    from zoo.cli.console import show_sections

    show_sections([*profile.operator_table().sections(), "\n".join(profile.totals())])

"""zoo lr-find"""

from __future__ import annotations

from typing import Any

import click

import zoo
from zoo.cli import options
from zoo.cli.recipe_options import given, recipe_options


@click.command("lr-find", short_help="which learning rate: the range test, with its curve")
@click.argument("what", type=options.NETWORK)
@options.data(True)
@options.PRETRAINED
@click.option("--lowest", type=float, default=1e-7, show_default=True, help="First rate.")
@click.option("--highest", type=float, default=10.0, show_default=True, help="Last rate.")
@click.option(
    "--steps", type=click.IntRange(2), default=100, show_default=True, help="Batches, a rate each."
)
@click.option("--plot", type=click.Path(), metavar="FILE", help="Draw the curve into a .png file.")
@options.SEED
@recipe_options()
@options.forms("json")
def command(
    what: str,
    data: str,
    pretrained: bool | None,
    lowest: float,
    highest: float,
    steps: int,
    plot: str | None,
    seed: int,
    recipe: str,
    form: str | None,
    **changes: Any,
) -> None:
    """Smith's learning-rate range test of WHAT, a network's name or a run folder, on
    these images: a copy is trained at rates that rise until the loss diverges.

    The suggestion is a tenth of the rate at which the smoothed loss is lowest.

    Example: zoo lr-find resnet18 --data photos/ --optimizer momentum --plot lr.png
    """
    from zoo.cli.console import emit, passive_threads, status_after
    from zoo.training.lr_range import check_plot

    if plot:
        check_plot(plot)
    passive_threads()
    with status_after(f"trying rates on {what}"):
        found = zoo.lr_find(
            what,
            data,
            pretrained=pretrained,
            recipe=recipe,
            lowest=lowest,
            highest=highest,
            steps=steps,
            seed=seed,
            **given(changes),
        )
    emit(found, form)
    if plot:
        found.plot(plot)
        click.echo(f"the curve: {plot}", err=bool(form))

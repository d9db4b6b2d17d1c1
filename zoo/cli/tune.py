"""zoo tune"""

from __future__ import annotations

from typing import Any

import click

import zoo
from zoo.cli import options
from zoo.cli.recipe_options import given, recipe_options


def _ranges(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, tuple[float, float]] | None:
    found = {}
    for each in value:
        name, _, bounds = each.partition("=")
        low, _, high = bounds.partition(":")
        try:
            found[name.replace("-", "_")] = (float(low), float(high))
        except ValueError:
            raise click.BadParameter(f"{each!r}: expected for example lr=1e-4:1e-1") from None
    return found or None


@click.command("tune", short_help="random search for learning rate, weight decay, …")
@click.argument("what", type=options.NETWORK)
@options.data(True)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Short runs.")
@click.option(
    "--range",
    "ranges",
    multiple=True,
    metavar="OPTION=LOW:HIGH",
    callback=_ranges,
    help="What is searched; may be given several times.  [default: lr around the recipe's, "
    "weight_decay=1e-6:0.1]",
)
@click.option(
    "--sampler",
    type=click.Choice(["random", "tpe"]),
    default="random",
    show_default=True,
    help="tpe is optuna's, which learns from the trials before.",
)
@options.PRETRAINED
@options.SEED
@click.option(
    "--out",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder of the trials.  [default: the first free runs/tune-NAME-N]",
)
@click.option(
    "--progress/--no-progress", default=True, show_default=True, help="A line per trial on stderr."
)
@recipe_options()
@options.forms("json")
def command(
    what: str,
    data: str,
    trials: int,
    ranges: dict[str, tuple[float, float]] | None,
    sampler: str,
    pretrained: bool | None,
    seed: int,
    out: str | None,
    progress: bool,
    recipe: str,
    form: str | None,
    **changes: Any,
) -> None:
    """Search for options to train WHAT with, a network's name or a run folder: short
    runs (--epochs, here 3 by default) with values drawn evenly on a logarithmic scale,
    sorted by their score on the validation data. best.toml in the folder is a recipe.

    Needs optuna: pip install 'classic-zoo[tune]'

    \b
    Example: zoo tune resnet18 --data photos/ --trials 20 --minutes 30
             zoo finetune resnet18 --data photos/ --recipe runs/tune-x-1/best.toml
    """
    from zoo.cli.console import emit, passive_threads

    passive_threads()
    found = zoo.tune(
        what,
        data,
        trials,
        ranges=ranges,
        sampler=sampler,
        pretrained=pretrained,
        recipe=recipe,
        out=out,
        seed=seed,
        progress=progress,
        **given(changes),
    )
    emit(found, form)

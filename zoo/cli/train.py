"""zoo train"""

from __future__ import annotations

from typing import Any

import click

import zoo
from zoo.cli.finetune import emit_run
from zoo.cli.options import NETWORK, forms
from zoo.cli.recipe_options import given, recipe_options, run_options


@click.command("train", short_help="train a network from nothing, as its paper did")
@click.argument("what", type=NETWORK)
@click.option(
    "--data",
    metavar="SET|FOLDER",
    help="A data set by name, or a folder of images.  [default: the recipe's]",
)
@recipe_options(None)
@run_options
@forms("json")
def command(
    what: str,
    data: str | None,
    recipe: str | None,
    seed: int,
    out: str | None,
    progress: bool,
    form: str | None,
    **options: Any,
) -> None:
    """Train the network WHAT from random weights, with the recipe of its paper or
    another. The options after --recipe change single values of it.

    The run folder then has the weights, the recipe, the numbers of each epoch and the
    curves as a picture.

    Example: zoo train lenet5_modern --data digits --epochs 5
    """
    from zoo.cli.console import passive_threads

    passive_threads()
    run = zoo.train(
        what, data, recipe=recipe, seed=seed, out=out, progress=progress, **given(options)
    )
    emit_run(run, form)

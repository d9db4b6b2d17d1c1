"""zoo check"""

from __future__ import annotations

from typing import Any

import click

import zoo
from zoo.cli import options
from zoo.cli.recipe_options import given, recipe_options
from zoo.errors import UsageError

OF_BOTH = ("input_size", "batch_size")  # options of a recipe that --gradients takes, too


@click.command("check", short_help="whether a network can be trained: before, and its gradients")
@click.argument("what", type=options.NETWORK)
@click.option(
    "--gradients",
    is_flag=True,
    help="Numerical against analytic gradient instead, in float64, per parameter tensor.",
)
@click.option(
    "--entries",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    help="With --gradients: values per tensor.",
)
@click.option(
    "--mode",
    type=click.Choice(["train", "eval"]),
    default="train",
    show_default=True,
    help="With --gradients: of the network.",
)
@options.data(False, "Handwritten digits, or a folder of images.  [default: random inputs]")
@options.PRETRAINED
@click.option(
    "--seconds", type=float, default=60.0, show_default=True, help="At most about so long."
)
@options.SEED
@recipe_options()
@options.forms("json")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    what: str,
    gradients: bool,
    entries: int,
    mode: str,
    data: str | None,
    pretrained: bool | None,
    seconds: float,
    seed: int,
    recipe: str,
    form: str | None,
    **changes: Any,
) -> None:
    """What is checked before WHAT, a network's name or a run folder, is trained: the
    first loss against ln(classes), what weight decay adds, whether a few examples can
    be fitted, gradients, dead ReLUs. With --data on these images and with their head;
    else on random inputs.

    With --gradients: each tensor's numerical gradient against the analytic one, of a
    batch of 2 random inputs. Much of it is quick with a small --input-size. The exit
    code is 1 when something is to be looked at, or a gradient is wrong.

    \b
    Example: zoo check resnet18 --data photos/
             zoo check resnet20_cifar10 --gradients
    """
    from zoo.cli.console import emit, passive_threads, status_after

    passive_threads()
    changed = given(changes)
    if gradients:
        if data is not None or changed.keys() - set(OF_BOTH):
            raise UsageError("--gradients draws its own inputs: leave out --data and the recipe's")
        with status_after(f"checking the gradients of {what}"):
            found: Any = zoo.check_gradients(what, entries=entries, mode=mode, **changed)
    else:
        with status_after(f"checking {what}"):
            found = zoo.check(
                what,
                data,
                pretrained=pretrained,
                recipe=recipe,
                seconds=seconds,
                seed=seed,
                **changed,
            )
    emit(found, form)
    if not found.ok:
        ctx.exit(1)

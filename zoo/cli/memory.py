"""zoo memory"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli import options
from zoo.errors import UsageError
from zoo.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from zoo.count.memory.batch_size import Largest

LOWER = ["bfloat16", "float16"]


@click.command(
    "memory",
    short_help="memory of a training step or an inference pass, predicted; and which batch fits",
)
@click.argument("what", type=options.NETWORK)
@options.batch_size(
    "Examples in the step.  [default: 1, or the fewest that it takes]", default=None
)
@options.mode("train", "A whole step, or a forward pass.")
@click.option(
    "--optimizer",
    type=click.Choice([*OPTIMIZERS, "none"]),
    default="momentum",
    show_default=True,
    help="momentum is SGD with 0.9.",
)
@options.INPUT_SIZE
@click.option(
    "--dtype",
    type=click.Choice(["float32", *LOWER]),
    help="Of parameters and inputs.  [default: float32]",
)
@click.option("--autocast", type=click.Choice(LOWER), help="Mixed precision in this type.")
@click.option(
    "--checkpointing",
    is_flag=True,
    help="Stages are computed again in the backward pass instead of saved.",
)
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    default="cuda",
    show_default=True,
    help="Whose kernels and allocator.",
)
@click.option(
    "--fit",
    "memory",
    metavar="24GiB|auto",
    help="The largest batch for a memory of this size, or for what is free now.",
)
@click.option(
    "--confirm",
    is_flag=True,
    help="With --fit: run the step on the GPU, with a smaller batch while it does not fit.",
)
@options.depth(2)
@options.forms("json", json="Print JSON, with the modules of all levels.")
def command(
    what: str,
    batch_size: int | None,
    memory: str | None,
    confirm: bool,
    depth: int,
    form: str | None,
    **step: Any,
) -> None:
    """Memory of one step of WHAT, a network's name or a run folder, predicted without
    running it and without a GPU.

    A training step is forward pass, loss, backward pass and optimizer step, with the
    optimizer's state in place. "At the peak" is what is there when the most is. 1 MiB
    is 2^20 bytes.

    Example: zoo memory resnet50 --batch-size 64 --optimizer adamw --autocast bfloat16
    """
    from zoo.api.memory import find_largest
    from zoo.cli.console import emit, show_sections

    if step["optimizer"] == "none":
        step["optimizer"] = None
    if memory is None:
        if confirm:
            raise UsageError(
                "--confirm tries the batch that --fit finds: give --fit 24GiB or --fit auto too"
            )
        predicted = zoo.memory(what, batch_size, **step)
        emit(predicted, form, lambda _: show_sections(predicted.sections(depth)))
        return
    if batch_size is not None:
        raise UsageError("--fit finds the batch: leave out --batch-size")
    found = find_largest(what, memory, confirm=confirm, **step)
    batch = found.batch_size
    if not form:
        _say_largest(what, memory, found, confirm, step["device"])
    if not batch:
        emit({"name": what, "max_batch_size": 0}, form, lambda _: None)
        return
    result = {"max_batch_size": batch, **found.memory.to_dict()}
    emit(result, form, lambda _: show_sections(found.memory.sections(depth)))


def _say_largest(what: str, size: str, found: Largest, confirmed: bool, device: str) -> None:
    smallest = "one example" if found.smallest == 1 else f"a batch of {found.smallest}"
    fitting = found.batch_size or f"not even {smallest} fits"
    how = "tried" if confirmed else "predicted"
    click.echo(f"largest batch of {what} in {size}: {fitting} ({how})")
    if device == "cuda" and not confirmed:
        aside = "160 MiB of it are left for libraries"
        if size != "auto":
            aside = "800 MiB of it are left for driver and libraries"
        click.echo(f"{aside}; one that asks for more makes the batch smaller: --confirm tries it")
    click.echo()

"""zoo memory"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli import options
from zoo.errors import UsageError
from zoo.optimizers import OPTIMIZERS

if TYPE_CHECKING:
    from zoo.count.memory.predict import Memory

LOWER = ["bfloat16", "float16"]


@click.command(
    "memory",
    short_help="memory of a training step or an inference pass, predicted; and which batch fits",
)
@click.argument("what", type=options.NETWORK)
@options.batch_size("Examples in the step.")
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
    metavar="24GiB|auto",
    help="The largest batch for a memory of this size, or for what is free now.",
)
@click.option("--confirm", is_flag=True, help="With --fit: run the step on the GPU.")
@options.depth(2)
@options.forms("json", json="Print JSON, with the modules of all levels.")
def command(
    what: str,
    batch_size: int,
    mode: str,
    fit: str | None,
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
    from zoo.cli.console import emit

    if confirm and not fit:
        raise UsageError(
            "--confirm tries the batch that --fit finds: give --fit 24GiB or --fit auto too"
        )
    if step["optimizer"] == "none":
        step["optimizer"] = None
    found: dict[str, Any] = {}
    if fit:
        batch_size = zoo.max_batch_size(what, fit, mode, confirm=confirm, **step)
        found = {"max_batch_size": batch_size}
        if not form:
            fitting = batch_size or "not even one example fits"
            how = "tried" if confirm else "predicted"
            click.echo(f"largest batch of {what} in {fit}: {fitting} ({how})\n")
        if not batch_size:
            emit({"name": what, **found}, form, lambda _: None)
            return
    memory = zoo.memory(what, batch_size, mode, **step)
    emit({**found, **memory.to_dict()}, form, lambda _: _show(memory, depth))


def _show(memory: Memory, depth: int) -> None:
    from zoo.cli.console import table
    from zoo.formatting import mib

    whole = memory.whole()
    rows = [
        [kind, mib(whole[kind]) if kind in whole else "", mib(size)]
        for kind, size in memory.at_peak.items()
        if size or whole.get(kind)
    ]
    table(["MiB", "whole", "at the peak"], [*rows, ["peak", "", mib(memory.peak)]], left=("MiB",))
    modules = [
        ["  " * row.level + row.path.rpartition(".")[2], row.kind, mib(row.activations)]
        for row in memory.rows
        if 0 < row.level <= depth and row.activations
    ]
    if modules:
        click.echo()
        table(["module", "kind", "activations saved, MiB"], modules, left=("module", "kind"))
    click.echo(f"\n{memory}")
    if memory.reserved is not None:
        click.echo(
            f"torch's caching allocator takes up to {mib(memory.reserved)} MiB of the card for it; "
            "the driver and libraries come on top"
        )

"""zoo memory"""

from __future__ import annotations

import json
from typing import Any

import click

import zoo
from zoo.cli.profile import InputSize
from zoo.errors import UsageError

OPTIMIZERS = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw", "lbfgs", "none")
LOWER = ["bfloat16", "float16"]


@click.command(
    "memory",
    short_help="memory of a training step or an inference pass, predicted; and which batch fits",
)
@click.argument("name")
@click.option(
    "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images in the step."
)
@click.option(
    "--mode",
    type=click.Choice(["train", "infer"]),
    default="train",
    show_default=True,
    help="A whole step, or a forward pass.",
)
@click.option(
    "--optimizer",
    type=click.Choice(OPTIMIZERS),
    default="momentum",
    show_default=True,
    help="momentum is SGD with 0.9.",
)
@click.option(
    "--input-size",
    type=InputSize(),
    metavar="224|3x224x224",
    help="Images of this size instead of the network's own.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", *LOWER]),
    help="Of parameters and images.  [default: float32]",
)
@click.option("--autocast", type=click.Choice(LOWER), help="Mixed precision in this type.")
@click.option(
    "--checkpointing",
    is_flag=True,
    help="Stages are computed again in the backward pass instead of kept.",
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
@click.option("--probe", is_flag=True, help="With --fit: run the step on the GPU.")
@click.option(
    "--depth",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Levels of the module tree to show.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the modules of all levels.")
def command(
    name: str,
    batch_size: int,
    mode: str,
    fit: str | None,
    probe: bool,
    depth: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Memory of one step of the network NAME, predicted without running it and without
    a GPU.

    A training step is forward pass, loss, backward pass and optimizer step, with the
    optimizer's state in place. "At the peak" is what is there when the most is. 1 MiB
    is 2^20 bytes.

    Example: zoo memory resnet50 --batch-size 64 --optimizer adamw --autocast bfloat16
    """
    from zoo.cli.show import table
    from zoo.count.text import mib

    if probe and not fit:
        raise UsageError(
            "--probe tries the batch that --fit finds: give --fit 24GiB or --fit auto too"
        )
    if options["optimizer"] == "none":
        options["optimizer"] = None
    if fit:
        batch_size = zoo.max_batch_size(name, fit, mode, probe=probe, **options)
        if not as_json:
            how = "tried" if probe else "predicted"
            click.echo(
                f"largest batch of {name} in {fit}: {batch_size or 'not even one image fits'} ({how})\n"
            )
        if not batch_size:
            if as_json:
                click.echo(json.dumps({"name": name, "max_batch_size": 0}))
            return
    memory = zoo.memory(name, batch_size, mode, **options)
    if as_json:
        click.echo(
            json.dumps(
                {**({"max_batch_size": batch_size} if fit else {}), **memory.to_dict()}, indent=2
            )
        )
        return
    sizes = {
        "parameters": memory.parameters,
        "buffers": memory.buffers,
        "optimizer state": memory.optimizer_state,
        "inputs": memory.input_bytes,
        "gradients": memory.gradients,
        "activations": memory.activations,
    }
    rows = [
        [kind, mib(sizes[kind]) if kind in sizes else "", mib(size)]
        for kind, size in memory.at_peak.items()
        if size or sizes.get(kind)
    ]
    table(["MiB", "whole", "at the peak"], [*rows, ["peak", "", mib(memory.peak)]], left=("MiB",))
    modules = [
        ["  " * row.level + (row.path.rpartition(".")[2] or name), row.kind, mib(row.activations)]
        for row in memory.rows
        if 0 < row.level <= depth and row.activations
    ]
    if modules:
        click.echo()
        table(["module", "kind", "activations kept, MiB"], modules, left=("module", "kind"))
    click.echo(f"\n{memory}")
    if memory.reserved is not None:
        click.echo(
            f"torch's caching allocator takes up to {mib(memory.reserved)} MiB of the card for it; the driver and libraries come on top"
        )

"""zoo finetune"""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

import click

import zoo


class BatchSize(click.ParamType):
    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        return "auto" if value == "auto" else click.IntRange(1).convert(value, param, ctx)


@click.command("finetune", short_help="train a network on your images, with a new head")
@click.argument("name")
@click.option(
    "--data",
    required=True,
    metavar="digits|FOLDER",
    help="Handwritten digits, or a folder of images.",
)
@click.option(
    "--epochs",
    type=click.IntRange(1),
    default=30,
    show_default=True,
    help="Passes over the images.",
)
@click.option(
    "--batch-size",
    type=BatchSize(),
    default=32,
    show_default=True,
    metavar="N|auto",
    help="Images per step; auto: what fits.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "sgd"]),
    default="adamw",
    show_default=True,
    help="sgd has momentum 0.9.",
)
@click.option(
    "--lr",
    type=click.FloatRange(0, min_open=True),
    help="Highest learning rate.  [default: 0.001 adamw, 0.01 sgd]",
)
@click.option("--weight-decay", type=click.FloatRange(0), help="[default: 0.01 adamw, 0.0005 sgd]")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Same seed, same split and same run (on a CPU).",
)
@click.option(
    "--val-fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Held out of a folder without val/.  [default: 0.2]",
)
@click.option(
    "--input-size",
    type=click.IntRange(1),
    metavar="PIXELS",
    help="Height and width.  [default: the network's own]",
)
@click.option(
    "--augment",
    type=click.Choice(["auto", "photo", "small", "none"]),
    default="auto",
    show_default=True,
    help="photo: random crops, mirrored; small: shifted and turned, not mirrored; auto: small up to 40 pixels.",
)
@click.option(
    "--out",
    type=click.Path(),
    metavar="FOLDER",
    help="Run folder.  [default: the first free runs/NAME-DATA-N]",
)
@click.option(
    "--workers", type=click.IntRange(0), help="Processes that read images.  [default: by the cores]"
)
@click.option("--cpu", is_flag=True, help="Use no GPU.")
@click.option(
    "--mixed-precision",
    type=click.Choice(["no", "bf16", "fp16"]),
    help="[default: accelerate's configuration]",
)
@click.option(
    "--progress/--no-progress", default=True, show_default=True, help="Show on stderr how it goes."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(name: str, as_json: bool, **options: Any) -> None:
    """Train the network NAME on the images of FOLDER, with a new head for their
    classes.

    FOLDER has train/ and val/ with a folder of images per class in each, or the class
    folders, of which a part is held out. The run folder then has the weights, the
    settings, the numbers of each epoch and the curves as a picture.

    Example: zoo finetune resnet18 --data photos/ --epochs 50
    """
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "passive"
    )  # waiting threads that spin make a busy machine 10 times slower
    run = zoo.finetune(name, **options)
    data, best = run.config["data"], run.best
    if as_json:
        result = {
            "run": str(run.path),
            "network": name,
            "classes": run.config["classes"],
            "accuracy": run.accuracy,
            "best_epoch": best["epoch"],
            "epochs": len(run.history),
            "train_images": data["train_images"],
            "held_out_images": data["held_out_images"],
            "skipped": data["skipped"],
            "seconds": sum(record["seconds"] for record in run.history),
        }
        click.echo(json.dumps(result, indent=2))
        return
    accuracy = f"{run.accuracy * 100:.1f} % of {data['held_out_images']} held-out images"
    click.echo(f"accuracy:   {accuracy} (epoch {best['epoch']} of {len(run.history)})")
    click.echo(f"run folder: {run.path}")
    click.echo(f"next:       zoo predict {shlex.quote(str(run.path))} IMAGE...")

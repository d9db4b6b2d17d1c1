"""zoo eval"""

from __future__ import annotations

import click

import zoo
from zoo.cli import options


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r}: expected whole numbers such as 256,288") from None


@click.command("eval", short_help="accuracy of a trained network on labelled images")
@click.argument("what", nargs=-1, required=True, metavar="WHAT...", type=options.NETWORK)
@click.option(
    "--data",
    metavar="FOLDER|cifar10|digits",
    help="A folder with a folder of images per class (named by WordNet id or class name), "
    "CIFAR-10's test images in ZOO_DATA, or the embedded digits.  [default: the part of a "
    "run's own data that it reports on]",
)
@click.option(
    "--crops",
    type=click.Choice(["1", "10"]),
    default="1",
    show_default=True,
    help="Crops of an image: the centre, or corners, centre and their mirror images.",
)
@click.option(
    "--scales",
    default="",
    metavar="256,288",
    callback=_numbers,
    help="Resize the shorter side to each of these and average, instead of the weights' own.",
)
@click.option(
    "--resize",
    type=click.Choice(["center", "squash"]),
    help="Keep the image's ratio, or stretch it to a square, instead of what the weights say.",
)
@options.INPUT_SIZE
@click.option("--among", is_flag=True, help="Only the outputs of the data's classes take part.")
@options.batch_size("Images at a time.", 32)
@click.option("--workers", type=click.IntRange(0), help="Processes that read images.")
@options.forms("json")
def command(
    what: tuple[str, ...],
    data: str | None,
    crops: str,
    scales: tuple[int, ...],
    resize: str | None,
    input_size: str | None,
    among: bool,
    batch_size: int,
    workers: int | None,
    form: str | None,
) -> None:
    """Top-1 and top-5 accuracy of WHAT, a name (with its published weights), a run
    folder or a weights file of one, with 95 % confidence intervals and the protocol in
    words. Of several WHAT the softmax is averaged: a row for each, and the average.

    Classes are matched by WordNet id or name, never by position. A folder with ten of
    the 1,000 classes of ImageNet is scored over all 1,000 outputs, unless --among says
    otherwise.

    \b
    Example: zoo eval resnet56_cifar10 --data cifar10
             zoo eval squeezenet1_0 --data imagenette/val --crops 10
             zoo eval runs/resnet18-photos-1 runs/resnet18-photos-2
             zoo eval runs/resnet18-photos-1 --data photos/test --json
    """
    from zoo.cli.console import emit

    found = zoo.evaluate(
        what[0] if len(what) == 1 else what,
        data,
        crops=int(crops),
        scales=scales,
        resize=resize or "",
        input_size=input_size,
        among=among,
        batch_size=batch_size,
        workers=workers,
    )
    emit(found, form)

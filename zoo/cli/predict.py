"""zoo predict"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli import options

if TYPE_CHECKING:
    from zoo.tasks.predictions import Prediction


@click.command("predict", short_help="classify image files with a trained network")
@click.argument("what", metavar="WHAT", type=options.NETWORK)
@click.argument("files", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Classes per image."
)
@click.option("--fold", is_flag=True, help="Compute batch norms in the convolutions before them.")
@click.option("--channels-last", is_flag=True, help="Compute convolutions in NHWC.")
@options.forms("json")
@click.option(
    "--plot",
    metavar="FILE.png|svg",
    help="Draw the images too, enlarged, with their predicted and, where the class folder "
    "says it, their true labels.",
)
@click.pass_context
def command(
    ctx: click.Context,
    what: str,
    files: tuple[str, ...],
    top: int,
    fold: bool,
    channels_last: bool,
    form: str | None,
    plot: str | None,
) -> None:
    """The likeliest classes of each IMAGE, by WHAT: a name, with its published weights
    and their classes, or a run folder. A folder stands for the images in it and in its
    folders.

    \b
    Example: zoo predict squeezenet1_0 photo.jpg
             zoo predict runs/resnet18-photos-1 cat.jpg dog.jpg --top 3
    """
    from zoo.cli.console import emit, show_sections

    if plot:
        from zoo.tasks.predictions import check_picture

        check_picture(plot)
    predictions = zoo.predict(what, files, top=top, fold=fold, channels_last=channels_last)
    table = [predictions.table()] if predictions.read else []
    emit([_record(each) for each in predictions], form, lambda _: show_sections(table))
    if plot and predictions.read:
        predictions.plot(plot)
        click.echo(f"the images with their labels: {plot}", err=bool(form))
    unread = [each.error for each in predictions if each.error]
    for error in unread:
        click.echo(f"zoo: error: {error}", err=True)
    if unread:
        ctx.exit(1)


def _record(prediction: Prediction) -> dict[str, Any]:
    classes = [{"class": name, "probability": share} for name, share in prediction.scores]
    error = prediction.error or None
    return {"file": str(prediction.file), "classes": classes, "error": error}

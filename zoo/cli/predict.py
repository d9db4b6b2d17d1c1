"""zoo predict"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli import options

if TYPE_CHECKING:
    from zoo.tasks.classify_files import Prediction


@click.command("predict", short_help="classify image files with a fine-tuned network")
@click.argument("run", metavar="RUN", type=options.NETWORK)
@click.argument("files", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Classes per image."
)
@options.forms("json")
@click.pass_context
def command(
    ctx: click.Context, run: str, files: tuple[str, ...], top: int, form: str | None
) -> None:
    """The likeliest classes of each IMAGE, by the network of the run folder RUN. A
    folder stands for the images in it and in its folders.

    Example: zoo predict runs/resnet18-photos-1 cat.jpg dog.jpg --top 3
    """
    from zoo.cli.console import emit

    predictions = zoo.predict(run, files, top=top)
    emit([_record(each) for each in predictions], form, lambda _: _show(predictions))
    unread = [each.error for each in predictions if each.error]
    for error in unread:
        click.echo(f"zoo: error: {error}", err=True)
    if unread:
        ctx.exit(1)


def _record(prediction: Prediction) -> dict[str, Any]:
    classes = [{"class": name, "probability": share} for name, share in prediction.scores]
    error = prediction.error or None
    return {"file": str(prediction.file), "classes": classes, "error": error}


def _show(predictions: list[Prediction]) -> None:
    width = max(len(str(prediction.file)) for prediction in predictions)
    for prediction in predictions:
        if not prediction.error:
            shares = (f"{name} {share * 100:5.1f} %" for name, share in prediction.scores)
            click.echo(f"{prediction.file!s:<{width}}  {'   '.join(shares)}")

"""zoo predict"""

from __future__ import annotations

import json

import click

import zoo


@click.command("predict", short_help="classify image files with a fine-tuned network")
@click.argument("run", metavar="RUN")
@click.argument("files", nargs=-1, required=True, metavar="IMAGE...")
@click.option(
    "--top", type=click.IntRange(1), default=5, show_default=True, help="Classes per image."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(ctx: click.Context, run: str, files: tuple[str, ...], top: int, as_json: bool) -> None:
    """The likeliest classes of each IMAGE (a folder stands for its images), by the
    network of the run folder RUN.

    Example: zoo predict runs/resnet18-photos-1 cat.jpg dog.jpg --top 3
    """
    predictions = zoo.predict(run, files, top=top)
    if as_json:
        results = []
        for prediction in predictions:
            classes = [
                {"class": name, "probability": probability}
                for name, probability in prediction.scores
            ]
            results.append(
                {
                    "file": str(prediction.file),
                    "classes": classes,
                    "error": prediction.error or None,
                }
            )
        click.echo(json.dumps(results, indent=2))
    width = max(len(str(prediction.file)) for prediction in predictions)
    for prediction in predictions:
        if prediction.error:
            click.echo(f"zoo: error: {prediction.error}", err=True)
        elif not as_json:
            scores = "   ".join(
                f"{name} {probability * 100:5.1f} %" for name, probability in prediction.scores
            )
            click.echo(f"{prediction.file!s:<{width}}  {scores}")
    if any(prediction.error for prediction in predictions):
        ctx.exit(1)

"""zoo caption"""

from __future__ import annotations

import click

import zoo
from zoo.cli import options


@click.command("caption", short_help="say what is in images, by a trained captioner")
@click.argument("what", metavar="WHAT", type=options.NETWORK)
@click.argument("files", nargs=-1, required=True, metavar="IMAGE...", type=click.Path())
@click.option(
    "--beam", type=click.IntRange(1), default=3, show_default=True,
    help="Sentences that are followed at a time; 1: the likeliest word at each step.",
)  # fmt: skip
@click.option(
    "--max-length", type=click.IntRange(1), default=30, show_default=True,
    help="Words at most, the end included.",
)  # fmt: skip
@click.option(
    "--length-power", type=click.FloatRange(0), default=0.0, show_default=True,
    help="Of the number of words that a score is divided by, to choose.",
)  # fmt: skip
@click.option(
    "--temperature", type=click.FloatRange(0, min_open=True),
    help="Draw the words at random; above 1: bolder.  [default: beam search]",
)  # fmt: skip
@click.option("--top-k", type=click.IntRange(0), default=0, help="Draw of so many likeliest words.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of what is drawn.")
@options.forms("json")
@click.option("--plot", metavar="FILE.png|svg", help="Draw the images with their captions.")
@click.option(
    "--attention", metavar="FILE.png|svg",
    help="Draw where each word of the first caption looked.",
)  # fmt: skip
@click.pass_context
def command(
    ctx: click.Context,
    what: str,
    files: tuple[str, ...],
    beam: int,
    max_length: int,
    length_power: float,
    temperature: float | None,
    top_k: int,
    seed: int,
    form: str | None,
    plot: str | None,
    attention: str | None,
) -> None:
    """A sentence about each IMAGE with its log-probability, by WHAT: a captioner by
    name, with its published weights, or a run folder. A folder stands for the images in
    it and in its folders.

    \b
    Example: zoo caption show_attend_tell photo.jpg --attention maps.png
             zoo caption runs/show_and_tell-flickr8k-1 photos --json
             zoo caption show_attend_tell photos --plot sheet.png
    """
    from zoo.cli.console import emit, show_sections
    from zoo.tasks.predictions import check_picture

    for picture in (plot, attention):
        if picture:
            check_picture(picture)
    captions = zoo.caption(
        what,
        files,
        beam=beam,
        max_length=max_length,
        length_power=length_power,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
    )
    table = [captions.table()] if captions.read else []
    emit([each.to_dict() for each in captions], form, lambda _: show_sections(table))
    if captions.read and plot:
        captions.plot(plot)
        click.echo(f"the images with their captions: {plot}", err=bool(form))
    if captions.read and attention:
        captions.read[0].plot_attention(attention)
        click.echo(f"where each word looked: {attention}", err=bool(form))
    for each in captions:
        if each.error:
            click.echo(f"zoo: error: {each.error}", err=True)
    if len(captions.read) < len(captions):
        ctx.exit(1)

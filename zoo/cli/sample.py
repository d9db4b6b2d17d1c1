"""zoo sample"""

from __future__ import annotations

import click

import zoo
from zoo.cli import options


@click.command("sample", short_help="continue a text with a language model")
@click.argument("what", metavar="WHAT", type=options.NETWORK)
@click.option(
    "--prompt", default="", metavar="TEXT", help="How the text begins.  [default: a random letter]"
)
@click.option(
    "--length", type=click.IntRange(1), default=500, show_default=True, help="Characters to draw."
)
@click.option(
    "--temperature",
    type=float,
    default=1.0,
    show_default=True,
    help="Below 1: likelier characters; above: more varied ones.",
)
@click.option(
    "--top-k",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="K",
    help="Draw from the K likeliest characters only; 0: from all, 1: always the likeliest.",
)
@options.SEED
@options.forms("json")
def command(
    what: str,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int,
    seed: int,
    form: str | None,
) -> None:
    """Continue --prompt by WHAT, a language model: a name, with its published weights,
    or a run folder. Characters are printed as they are drawn.

    \b
    Example: zoo sample char_lstm --prompt 'ROMEO:' --temperature 0.8
             zoo sample runs/char_lstm-diary-1 --length 2000 --seed 3 --json
    """
    from zoo.cli.console import emit, passive_threads

    passive_threads()
    begun = False

    def show(character: str) -> None:
        nonlocal begun
        click.echo(character if begun else prompt + character, nl=False)
        begun = True

    found = zoo.sample(
        what,
        prompt,
        length=length,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        callback=None if form else show,
    )
    emit(found, form, lambda _: click.echo())

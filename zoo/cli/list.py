"""zoo list"""

from __future__ import annotations

import click

import zoo
from zoo.cli import options


@click.command("list", short_help="names of the networks")
@click.argument("patterns", nargs=-1)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out names that match.")
@click.option("--family", multiple=True, help="Only networks of this model file, e.g. vgg.")
@click.option(
    "--task", default="", help="Only networks for this task, e.g. classify (imports torch)."
)
@click.option("--pretrained", is_flag=True, help="List name.tag of the weights instead.")
@options.forms("json")
def command(
    patterns: tuple[str, ...],
    exclude: tuple[str, ...],
    family: tuple[str, ...],
    task: str,
    pretrained: bool,
    form: str | None,
) -> None:
    """Names of the networks that match one of the shell PATTERNS (none: all). A word
    without wildcards that is no name stands for the names that contain it.

    \b
    Example: zoo list 'resnet*' --exclude '*cifar*'
             zoo list vgg
    """
    from zoo.cli.console import emit

    names = zoo.list_models(
        patterns, exclude_filters=exclude, family=family, task=task, pretrained=pretrained
    )
    if pretrained:
        names = [tagged for tagged in zoo.list_pretrained() if tagged.partition(".")[0] in names]
    emit(names, form, lambda names: click.echo("\n".join(names), nl=bool(names)))
    if not names:
        click.echo("no network matches", err=True)

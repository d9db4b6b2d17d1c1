"""zoo list"""

import json

import click

import zoo


@click.command("list", short_help="names of the networks")
@click.argument("patterns", nargs=-1)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out names that match.")
@click.option("--family", multiple=True, help="Only networks of this model file, e.g. vgg.")
@click.option(
    "--task", default="", help="Only networks for this task, e.g. classify (imports torch)."
)
@click.option("--pretrained", is_flag=True, help="List name.tag of the weights instead.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list.")
def command(
    patterns: tuple[str, ...],
    exclude: tuple[str, ...],
    family: tuple[str, ...],
    task: str,
    pretrained: bool,
    as_json: bool,
) -> None:
    """Names of the networks that match one of the shell PATTERNS (none: all).

    Example: zoo list 'resnet*' --exclude '*cifar*'
    """
    names = zoo.list_models(
        patterns, exclude_filters=exclude, family=family, task=task, pretrained=pretrained
    )
    if pretrained:
        names = [tagged for tagged in zoo.list_pretrained() if tagged.partition(".")[0] in names]
    click.echo(json.dumps(names) if as_json else "\n".join(names), nl=as_json or bool(names))
    if not names:
        click.echo("no network matches", err=True)

"""Options that several verbs share, each declared once."""

from __future__ import annotations

from collections.abc import Callable
from glob import escape
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

import zoo

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Network(click.ParamType):
    """What a verb is asked about: a registered name, or a path. Completion offers
    both, and after a dot the tags of weights.
    """

    name = "network"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = zoo.list_pretrained() if "." in incomplete else zoo.list_models()
        found = [name for name in names if name.startswith(incomplete.lower())]
        if not found:
            return [CompletionItem(incomplete, type="file")]  # the shell knows them best
        paths = sorted(Path().glob(f"{escape(incomplete)}*"))
        found += [f"{path}/" if path.is_dir() else str(path) for path in paths]
        return [CompletionItem(each) for each in found]


NETWORK = Network()

INPUT_SIZE = click.option(
    "--input-size",
    metavar="224|224x224|3x224x224",
    help="Images of this size instead of the network's own.",
)

PRETRAINED = click.option(
    "--pretrained/--from-scratch",
    default=None,
    help="Start from the published weights, or from random ones.  [default: published ones "
    "where there are some]",
)

SEED = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn."
)


def data(required: bool, help: str = "Handwritten digits, or a folder of images.") -> Decorator:
    return click.option("--data", required=required, metavar="digits|FOLDER", help=help)


def batch_size(help: str, default: int | None = 1) -> Decorator:
    return click.option(
        "--batch-size", type=click.IntRange(1), default=default, show_default=True, help=help
    )


def mode(default: str, help: str) -> Decorator:
    return click.option(
        "--mode",
        type=click.Choice(["eval", "train"]),
        default=default,
        show_default=True,
        help=help,
    )


def depth(default: int) -> Decorator:
    return click.option(
        "--depth",
        type=click.IntRange(0),
        default=default,
        show_default=True,
        help="Levels of the module tree to show.",
    )


FORM_HELP = {
    "json": "Print JSON.",
    "csv": "Print comma-separated values.",
    "markdown": "Print a Markdown table.",
}


def forms(*names: str, **help: str) -> Decorator:
    """`--json`, `--csv` and `--markdown`, or those that are named, as the argument
    `form`; the terminal's own form without one. `help` replaces the usual text.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name in reversed(names or tuple(FORM_HELP)):
            text = help.get(name, FORM_HELP[name])
            command = click.option(f"--{name}", "form", flag_value=name, help=text)(command)
        return command

    return decorate

"""The options of a recipe on the command line, made from the fields of Recipe."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click

from zoo.training.option import Option
from zoo.training.recipe import Recipe

Command = Callable[..., Any]


class NumberOrWord(click.ParamType):
    """A whole number, or one of a few words."""

    name = "number"

    def __init__(self, words: tuple[str, ...]) -> None:
        self.words = words

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        return value if value in self.words else click.INT.convert(value, param, ctx)


class Numbers(click.ParamType):
    """A number, or several with commas between them."""

    name = "numbers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | tuple[float, ...]:
        parts: list[Any] = str(value).split(",")
        found = tuple(click.FLOAT.convert(part, param, ctx) for part in parts)
        return found if len(found) > 1 else found[0]


def recipe_options(recipe: str | None = "finetune") -> Callable[[Command], Command]:
    """Give a command `--recipe`, by default this one (None: the paper's), and an option
    per field of Recipe; one that is not given is None, and its bounds are checked by
    Recipe.
    """

    def decorate(command: Command) -> Command:
        for field in reversed(fields(Recipe)):
            known: Option = field.metadata["option"]
            name = f"--{field.name.replace('_', '-')}"
            shown = f"  [default: {known.default_words or field.default}]" if recipe else ""
            if known.kind is bool:
                add = click.option(f"{name}/--no-{name[2:]}", default=None, help=known.help)
            else:
                add = click.option(
                    name, type=_type(known), metavar=known.metavar, help=f"{known.help}{shown}"
                )
            command = add(command)
        return click.option(
            "--recipe",
            default=recipe,
            metavar="NAME|FILE",
            help="Where the other options begin: a recipe of this package, or a TOML file.  "
            f"[default: {recipe or 'that of the paper'}]",
        )(command)

    return decorate


def run_options(command: Command) -> Command:
    """Give a command `--model-arg`, `--seed`, `--out` and `--progress`."""
    for add in (
        click.option(
            "--progress/--no-progress",
            default=True,
            show_default=True,
            help="Show on stderr how it goes.",
        ),
        click.option(
            "--out",
            type=click.Path(),
            metavar="FOLDER",
            help="Run folder.  [default: the first free runs/NAME-DATA-N]",
        ),
        click.option(
            "--seed",
            type=int,
            default=0,
            show_default=True,
            help="Same seed, same split; on a CPU, with as many workers and threads, the same run.",
        ),
        click.option(
            "--model-arg",
            "model_args",
            multiple=True,
            metavar="NAME=VALUE",
            callback=_model_args,
            help="An argument of the network's constructor, such as hidden_size=256.",
        ),
    ):
        command = add(command)
    return command


def _model_args(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any] | None:
    """Values as Python writes them; what is no such is a word."""
    found: dict[str, Any] = {}
    for each in values:
        name, sign, value = each.partition("=")
        if not sign or not name.isidentifier():
            raise click.BadParameter(f"{each!r}: expected NAME=VALUE")
        try:
            found[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            found[name] = value
    return found or None


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as changes of a recipe."""
    return {name: value for name, value in options.items() if value is not None}


def _type(known: Option) -> click.ParamType | type:
    if known.choices:
        return click.Choice(known.choices)
    if known.words:
        return NumberOrWord(known.words)
    if known.many:
        return Numbers()
    return known.kind

"""Messages of the Python functions in the words of the command line."""

from __future__ import annotations

import re
import shlex

import click

IN_A_FILE = re.compile(r"\S.*\.toml: ")  # what a recipe's file says wrongly has its keys


def in_options(message: str, command: click.Command) -> str:
    """A message with the options of a verb in place of the arguments that they are
    given to: `batch_size=0` is `--batch-size 0`, `confirm=True` is `--confirm`.
    """
    if IN_A_FILE.match(message):
        return message
    for param in command.params:
        if isinstance(param, click.Option) and param.name:
            message = _renamed(message, param.name, param)
    return message


def _renamed(message: str, name: str, option: click.Option) -> str:
    typed = max(option.opts, key=len)
    off = max(option.secondary_opts, key=len, default="")

    def named(found: re.Match[str]) -> str:
        value = found["value"] or ""
        if value.startswith("'"):
            value = shlex.quote(value[1:-1])
        if option.is_flag and value in ("True", "False"):
            return (typed if value == "True" else off) or found[0]
        follows = message[found.end() : found.end() + 1]
        return f"{typed} {value}" if value or follows == "(" else typed

    argument = rf"(?<![\w./'\"`-]){name}=(?P<value>'[^']*'|[^\s,;:()=']+)?"
    message = re.sub(argument, named, message)
    if "_" in name:  # else it may be any word
        message = re.sub(rf"(?<![\w./'\"`=-]){name}(?![\w./'\"`=-])", typed, message)
    return message

"""zoo weights"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli import options
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.api.weights import CachedFile

PATTERNS = click.argument("patterns", nargs=-1, type=options.NETWORK)
PROGRESS = click.option(
    "--progress/--no-progress", default=True, show_default=True, help="A bar on stderr."
)


@click.group("weights", short_help="published weights: which there are, and the cache")
def command() -> None:
    """Published weights: which there are, and their files in the cache (ZOO_CACHE).

    \b
    Example: zoo weights list 'resnet*'
             zoo weights get resnet20_cifar10
    """


@command.command("list", short_help="which there are")
@PATTERNS
@options.forms("json")
def list_command(patterns: tuple[str, ...], form: str | None) -> None:
    """The published weights of the networks, or full names, that match one of the
    PATTERNS (none: all), with what is in the cache.
    """
    from zoo.api.weights import published_weights, table
    from zoo.cli.console import emit, show_sections

    found = published_weights(patterns)
    emit([asdict(each) for each in found], form, lambda _: show_sections([table(found, True)]))
    if not found:
        click.echo("no weights match", err=True)


@command.command("get", short_help="fetch and convert some")
@click.argument("names", nargs=-1, required=True, metavar="NAME[.TAG]...", type=options.NETWORK)
@PROGRESS
def get_command(names: tuple[str, ...], progress: bool) -> None:
    """Fetch and convert the weights of each NAME (its default ones) or NAME.TAG, and
    print where they lie. Later uses need no network.
    """
    from zoo.api.weights import get

    for name in names:
        click.echo(get(name, progress))


@command.command("path", short_help="where they lie")
@click.argument("name", required=False, metavar="[NAME[.TAG]]", type=options.NETWORK)
def path_command(name: str | None) -> None:
    """The converted file of a NAME or NAME.TAG; without one the folder of the cache."""
    from zoo.api.weights import path
    from zoo.weights.cache import cache_folder

    click.echo(path(name) if name else cache_folder())


@command.command("convert", short_help="convert some anew")
@click.argument("name", metavar="NAME[.TAG]", type=options.NETWORK)
@click.option("--out", type=click.Path(path_type=Path), help="Write this safetensors file too.")
@PROGRESS
def convert_command(name: str, out: Path | None, progress: bool) -> None:
    """Convert the weights of a NAME or NAME.TAG anew, fetched where they are not here,
    and print where they lie.
    """
    from zoo.api.weights import convert

    click.echo(convert(name, out, progress))


@command.command("verify", short_help="hold cached files to their digests")
@PATTERNS
@options.forms("json")
@click.pass_context
def verify_command(ctx: click.Context, patterns: tuple[str, ...], form: str | None) -> None:
    """Read the cached files of the weights that match (none: all) and hold them to
    their digests; the exit code is 1 when one is wrong.
    """
    from zoo.api.weights import verify

    found = verify(patterns)
    _show(found, form, lambda each: each.fault or "right")
    if any(each.fault for each in found):
        ctx.exit(1)


@command.command("clear", short_help="remove cached files")
@PATTERNS
@click.option("--all", "everything", is_flag=True, help="Of all weights.")
@options.forms("json")
def clear_command(patterns: tuple[str, ...], everything: bool, form: str | None) -> None:
    """Remove the cached files of the weights that match one of the PATTERNS."""
    from zoo.api.weights import clear

    if not patterns and not everything:
        raise UsageError("which weights? Name them, or --all")
    _show(clear(patterns), form, lambda each: "removed")


def _show(files: list[CachedFile], form: str | None, state: Any) -> None:
    from zoo.cli.console import emit, show_sections
    from zoo.formatting import Table

    headers = ["file", "bytes", "state"]
    rows = [[str(each.path), f"{each.bytes:,}", state(each)] for each in files]
    records = [{**asdict(each), "path": str(each.path)} for each in files]
    sections = [Table(headers, rows, ("file", "state"))] if rows else []
    emit(records, form, lambda _: show_sections(sections))
    if not files:
        click.echo("nothing of that is in the cache", err=True)

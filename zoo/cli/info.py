"""zoo info"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli import options

if TYPE_CHECKING:
    from zoo.api.info import Info


@click.command("info", short_help="what is known of a network")
@click.argument("what", metavar="WHAT", type=options.NETWORK)
@options.forms("json")
def command(what: str, form: str | None) -> None:
    """What is known of the network WHAT, a name or a run folder: paper, claims,
    results, departures from the paper, weights.

    Example: zoo info resnet50
    """
    from zoo.api.catalogue import described
    from zoo.cli.console import emit

    if form:
        emit(record(zoo.info(what)), form)
    else:
        emit(described(what) or zoo.info(what), form)


def record(known: Info) -> dict[str, Any]:
    """As JSON; functions that compute a claim are left out."""
    found = asdict(known)
    del found["row"]  # the same as text
    for printed in found["variant"]["claims"]["printed"]:
        del printed["compute"]
    kinds = [type(each).__name__ for each in known.variant.inputs]
    inputs = zip(kinds, found["variant"]["inputs"], strict=True)
    found["variant"]["inputs"] = [{"kind": kind, **each} for kind, each in inputs]
    found["run"] = str(known.run) if known.run else None
    return found

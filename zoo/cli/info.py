"""zoo info"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import zoo
from zoo.cli import options
from zoo.formatting import figure

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
    from zoo.cli.console import emit

    known = zoo.info(what)
    emit(record(known), form, lambda _: show(what, known))


def show(what: str, known: Info) -> None:
    click.echo(what)
    for label, text in facts(known).items():
        if text:
            click.echo(f"  {label:<11} {text}")
    for result in known.variant.results:
        measure = f"{result.value} {result.metric}: {result.data}, {result.protocol}"
        click.echo(f"  reported    {measure} ({result.source})")
    click.echo(f"\n{known.doc}")


def facts(known: Info) -> dict[str, str]:
    """A line each, by its label."""
    variant = known.variant
    shapes = variant.input_shapes()
    at = f" at {figure(shapes[0][1:])}" if variant.image and len(shapes) == 1 else ""
    macs = variant.claims.macs
    backbones = (f"{key}: {part.name} to {part.output}" for key, part in variant.backbones.items())
    return {
        "paper": str(known.paper),
        "link": known.paper.url,
        "variant": variant.note,
        "task": variant.task,
        "arguments": ", ".join(f"{key}={value}" for key, value in variant.model_args.items()),
        "backbones": ", ".join(backbones),
        "input": variant.describe_inputs(),
        "depth": f"{variant.depth} layers with weights",
        "parameters": f"{variant.claims.params:,}",
        "MACs": f"{macs:,}{at} (FLOPs: {2 * macs:,})",
        "weights": ", ".join(known.weights) or "none yet",
        "layouts": "; ".join(layouts(known)),
        "run": f"{known.run}: {', '.join(known.classes)}" if known.run else "",
        "from": f"{known.distribution}, family {known.family}",
    }


def layouts(known: Info) -> list[str]:
    """What `layout=` takes, and which peers' networks of this name are others here."""
    own = [f"{peer}{_with(args)}" for peer, args in known.layouts.items()]
    others = known.named_by_peers.items()
    return own + [f"{peer}'s {known.name} is {name} here" for peer, name in others]


def _with(args: dict[str, Any]) -> str:
    given = ", ".join(f"{key}={value!r}" for key, value in args.items())
    return f" (whose network has {given})" if given else ""


def record(known: Info) -> dict[str, Any]:
    """As JSON; functions that compute a claim are left out."""
    found = asdict(known)
    for printed in found["variant"]["claims"]["printed"]:
        del printed["compute"]
    kinds = [type(each).__name__ for each in known.variant.inputs]
    inputs = zip(kinds, found["variant"]["inputs"], strict=True)
    found["variant"]["inputs"] = [{"kind": kind, **each} for kind, each in inputs]
    found["run"] = str(known.run) if known.run else None
    return found

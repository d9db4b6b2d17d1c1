"""zoo info"""

import json
from dataclasses import asdict

import click

import zoo


@click.command("info", short_help="what is known of a network")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str, as_json: bool) -> None:
    """What is known of the network NAME: paper, claims, results, departures from the
    paper, weights.

    Example: zoo info resnet50
    """
    known = zoo.info(name)
    variant = known.variant
    if as_json:
        record = asdict(known)
        for figure in record["variant"]["claims"]["printed"]:
            del figure["by"]
        click.echo(json.dumps(record, indent=2, default=str))
        return
    height, width = variant.input_size[-2:]
    lines = {
        "paper": str(known.paper),
        "link": known.paper.url,
        "variant": variant.note,
        "fields": ", ".join(f"{field}={value}" for field, value in variant.fields.items()),
        "input": f"{'x'.join(map(str, variant.input_size))}"
        + (" only" if variant.fixed_input else f", {variant.min_input} or larger"),
        "depth": f"{variant.depth} layers with weights",
        "parameters": f"{variant.claims.params:,}",
        "MACs": f"{variant.claims.macs:,} at {height}x{width} (FLOPs: {2 * variant.claims.macs:,})",
        "weights": ", ".join(known.weights) or "none yet",
        "from": f"{known.distribution}, family {known.family}",
    }
    click.echo(name)
    for label, text in lines.items():
        if text:
            click.echo(f"  {label:<11} {text}")
    for result in variant.results:
        click.echo(
            f"  reported    {result.value} {result.metric}: {result.data}, {result.protocol} ({result.where})"
        )
    click.echo("\n" + known.doc)

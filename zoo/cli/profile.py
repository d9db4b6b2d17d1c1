"""zoo profile"""

from __future__ import annotations

import json

import click

import zoo


class InputSize(click.ParamType):
    name = "size"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        try:
            sides = tuple(map(int, value.lower().split("x")))
        except ValueError:
            sides = ()
        if len(sides) not in (1, 3):
            self.fail(f"{value!r} is neither a side in pixels (224) nor channels, height and width (3x224x224)", param, ctx)
        return sides[0] if len(sides) == 1 else sides


@click.command("profile", short_help="parameters, MACs and FLOPs of a network, layer by layer")
@click.argument("name")
@click.option("--input-size", type=InputSize(), metavar="224|3x224x224", help="Images of this size instead of the network's own.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images in the forward pass.")
@click.option("--depth", type=click.IntRange(0), default=3, show_default=True, help="Levels of the module tree to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the modules of all levels.")
def command(name: str, input_size: int | tuple[int, ...] | None, batch_size: int, depth: int, as_json: bool) -> None:
    """Parameters, MACs and FLOPs of one forward pass of the network NAME, module by module.

    A MAC is one multiply-add of a convolution or matrix product, biases excluded; FLOPs are twice the MACs.

    Example: zoo profile vgg16 --input-size 448
    """
    from zoo.cli.show import table
    from zoo.tables.text import figure

    profile = zoo.profile(name, input_size, batch_size)
    if as_json:
        click.echo(json.dumps(profile.to_dict(), indent=2))
        return
    rows = []
    for row in profile.rows:
        if row.level <= depth:
            label = "  " * row.level + (row.path.rpartition(".")[2] or name)
            share = f"{row.macs / profile.macs:.1%}" if profile.macs else ""
            rows.append([label, row.kind, figure(row.output), figure(row.params), figure(row.macs), figure(row.flops), share])
    headers = ["module", "kind", "output", "parameters", "MACs", "FLOPs", "share"]
    table(headers, rows, left=("module", "kind"), optional=("kind", "share"))
    click.echo(f"\n{profile}")
    if hidden := len(profile.rows) - len(rows):
        deepest = max(row.level for row in profile.rows)
        click.echo(f"note: {hidden} modules lie deeper: --depth {deepest} shows all", err=True)

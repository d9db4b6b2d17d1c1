"""What is known of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.api.source import layouts_of, named_by_peers, resolve, weight_records
from zoo.errors import UsageError
from zoo.spec import Paper, Variant

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Info:
    """What is known of a network: `paper`, `variant` (arguments, inputs, claims,
    results), the file's head as `doc`, its weights, and the peers whose key names are
    known (`layouts`: what `layout=` takes, each with the arguments in which the peer's
    network is another one; `named_by_peers`: whom its name means another network of
    ours); of a run also its folder and classes.
    """

    name: str
    family: str
    distribution: str
    paper: Paper
    variant: Variant
    weights: dict[str, dict[str, Any]]
    layouts: dict[str, dict[str, Any]]
    named_by_peers: dict[str, str]
    doc: str
    tag: str = ""  # of the weights that were asked about
    run: Path | None = None
    classes: tuple[str, ...] = ()


def info(what: Any) -> Info:
    """Paper, variant, claims, weights and notes of a network: a name, `name.tag`, a run
    or a module that `zoo.create` made.

    Raises UsageError for a module that zoo did not create.
    """
    source = resolve(what)
    if source.origin is None or source.family is None or source.variant is None:
        raise UsageError(f"{source.name} was not made by zoo.create: nothing is known of it")
    assert source.entry is not None
    name = source.origin.architecture
    return Info(
        name=name,
        family=source.entry.family,
        distribution=source.entry.distribution,
        paper=source.family.paper,
        variant=source.variant,
        weights=weight_records(name, source.family),
        layouts={peer: dict(each.model_args) for peer, each in layouts_of(source).items()},
        named_by_peers=named_by_peers(source),
        doc=source.family.doc,
        tag=source.origin.tag,
        run=source.run.path if source.run else None,
        classes=source.classes,
    )

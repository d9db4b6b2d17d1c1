"""What is known of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.api.records import default_tag, nearest_published, weight_records
from zoo.api.source import layouts_of, named_by_peers, resolve
from zoo.errors import UsageError
from zoo.formatting import Printable, Section, as_arguments, figure
from zoo.spec import Paper, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from zoo.weights.records import WeightsRecord


LABELS = (  # of the facts, in their order
    "paper", "link", "variant", "task", "arguments", "backbones", "input", "depth", "parameters",
    "MACs", "weights", "layouts", "run", "from", "reported",
)  # fmt: skip


@dataclass(frozen=True, repr=False, kw_only=True)
class Described(Printable):
    """What is shown of a network: `row`, the facts of its row as text by their labels,
    the file's head as `doc`, its weights, and the peers whose key names are known
    (`layouts`: what `layout=` takes, each with the arguments in which the peer's
    network is another one; `named_by_peers`: whom its name means another network of
    ours); of a run also its folder and classes.
    """

    name: str
    family: str
    distribution: str
    row: Mapping[str, str]
    doc: str
    weights: dict[str, WeightsRecord]
    layouts: dict[str, dict[str, Any]]
    named_by_peers: dict[str, str]
    tag: str = ""  # of the weights that were asked about
    default_tag: str = ""  # of the weights that the bare name takes
    nearest: str = ""  # where nobody publishes weights: the network that has some
    run: Path | None = None
    classes: tuple[str, ...] = ()

    def sections(self) -> list[Section]:
        """The name, the facts, and the head of the model file."""
        name = f"{self.name}.{self.tag}" if self.tag else self.name
        return [name, self.facts(), self.doc]

    def facts(self) -> dict[str, str]:
        """What is known, by its label; weights and reported results a line each."""
        facts = {
            **self.row,
            "weights": "\n".join(self.weights_notes()) or _none(self.nearest),
            "layouts": "; ".join(self.layout_notes()),
            "run": f"{self.run}: {', '.join(self.classes)}" if self.run else "",
            "from": f"{self.distribution}, family {self.family}",
        }
        return {label: facts[label] for label in LABELS if facts.get(label)}

    def weights_notes(self) -> list[str]:
        """A line for each of the published weights: size, accuracy, licence, and how
        far they were tried; with a tag, for those alone.
        """
        found = []
        for name, record in self.weights.items():
            if self.tag and name != f"{self.name}.{self.tag}":
                continue
            default = name == f"{self.name}.{self.default_tag}"
            parts = [f"{name}{' (default)' if default else ''}"]
            parts += [f"{record.size:,} bytes"] if record.size else []
            parts += [record.reported.describe()] if record.reported else []
            found.append("; ".join([*parts, record.describe()]))
        return found

    def layout_notes(self) -> list[str]:
        """What `layout=` takes, and which peers' networks of this name are others."""
        own = [f"{peer}{_with(args)}" for peer, args in self.layouts.items()]
        others = self.named_by_peers.items()
        return own + [f"{peer}'s {self.name} is {name} here" for peer, name in others]


@dataclass(frozen=True, repr=False, kw_only=True)
class Info(Described):
    """What is known of a network: what is shown of it, with `paper` and `variant`
    (arguments, inputs, claims, results) themselves.
    """

    paper: Paper
    variant: Variant


def row_facts(paper: Paper, variant: Variant) -> dict[str, str]:
    """What a row says, as text by its label; reported results a line each."""
    shapes = variant.input_shapes()
    at = f" at {figure(shapes[0][1:])}" if variant.image and len(shapes) == 1 else ""
    macs = variant.claims.macs
    parts = (f"{key}: {part.name} to {part.output}" for key, part in variant.backbones.items())
    return {
        "paper": str(paper),
        "link": paper.url,
        "variant": variant.note,
        "task": variant.task,
        "arguments": ", ".join(f"{key}={value}" for key, value in variant.model_args.items()),
        "backbones": ", ".join(parts),
        "input": variant.describe_inputs(),
        "depth": f"{variant.depth} layers with weights",
        "parameters": f"{variant.claims.params:,}",
        "MACs": f"{macs:,}{at} (FLOPs: {2 * macs:,})",
        "reported": "\n".join(
            f"{result.value} {result.metric}: {result.data}, {result.protocol} ({result.source})"
            for result in variant.results
        ),
    }


def _none(nearest: str) -> str:
    """That nobody publishes weights, and which network is the nearest that has some."""
    others = f"; the nearest that has some: {nearest}" if nearest not in ("", "train here") else ""
    return f"nobody publishes any{others}" if nearest else "none"


def _with(args: dict[str, Any]) -> str:
    return f" (whose network has {as_arguments(args)})" if args else ""


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
        row=row_facts(source.family.paper, source.variant),
        weights=weight_records(name, source.family),
        layouts={peer: dict(each.model_args) for peer, each in layouts_of(source).items()},
        named_by_peers=named_by_peers(source),
        doc=source.family.doc,
        tag=source.origin.tag,
        default_tag=default_tag(name, source.family),
        nearest=nearest_published(name, source.family),
        run=source.run.path if source.run else None,
        classes=source.classes,
    )

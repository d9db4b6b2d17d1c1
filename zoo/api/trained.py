"""A network with the numbers to use it with, and what its outputs mean: for the verbs
that take a trained network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.api.build import build
from zoo.api.create import create
from zoo.api.pretrained import in_cache
from zoo.api.records import weight_records
from zoo.api.source import Source, resolve
from zoo.data.classes import Classes, classes_from
from zoo.errors import UsageError
from zoo.files import read_about

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Trained:
    """A network at hand. `classes` is None where they are not known."""

    source: Source
    model: nn.Module
    classes: Classes | None


def trained(
    source: Source,
    verb: str,
    classes: str | Sequence[str] | None = None,
    model: nn.Module | None = None,
) -> Trained:
    """A run, a weights file of ours, or a module as it is; a name with its published
    weights. `classes` names the outputs where nothing else does; `model` is the module
    of a run that zoo did not create.

    Raises UsageError where there are no numbers, WeightsError where they cannot be had.
    """
    source.require_whole(verb)
    if source.weights is None and source.module is None:
        source = _with_published(source, verb)
    if source.weights is None:
        assert source.module is not None
        if model is not None:
            raise UsageError(f"{verb} with a module takes no second module")
        known = classes_from(classes) if classes is not None else published_classes(source)
        return Trained(source, source.module, known)
    if classes is not None:
        raise UsageError("a run has its own classes: leave classes out")
    own = classes_from(source.classes) if source.classes else None
    return Trained(source, _of_run(source, verb, model), own)


def _with_published(source: Source, verb: str) -> Source:
    """A network by name with its published weights, as a module."""
    assert source.origin is not None
    name = source.origin.architecture
    if not source.origin.tag and not weight_records(name, source.family):
        raise UsageError(
            f"{source.name} has no weights to {verb} with: `zoo finetune {source.name} --data …` "
            f"makes a run folder, {verb} takes that"
        )
    return resolve(create(source.name, pretrained=True))


def _of_run(source: Source, verb: str, model: nn.Module | None) -> nn.Module:
    run, module = source.run, model if model is not None else source.module
    if run and module is not None:
        return run.load_best(module)
    if run and source.origin is None:
        raise UsageError(
            f"{run.path} is of a {run.config['module']} that zoo did not create: "
            f"{verb}(run, …, model=…) takes that"
        )
    return build(source)


def published_classes(source: Source) -> Classes | None:
    """The classes of the published weights that a network has; None where it has none,
    or another head.
    """
    if source.origin is None or not source.origin.tag:
        return None
    tagged = f"{source.origin.architecture}.{source.origin.tag}"
    record = weight_records(source.origin.architecture, source.family).get(tagged)
    classes = record.classes if record else ""
    if record and not classes and (found := in_cache(resolve(tagged))):  # a vocabulary
        classes = tuple((read_about(found) or {}).get("classes") or ())
    if not classes:
        return None
    known = classes_from(classes)
    outputs = getattr(source.module, "num_classes", None)
    return known if outputs in (None, len(known)) else None

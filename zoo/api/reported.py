"""What publishers say of their weights, for tables and pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from zoo.api.records import default_tag, weight_records
from zoo.api.source import Source
from zoo.spec import Result
from zoo.weights.records import Metric

IMAGENET = "ILSVRC-2012 val"
CENTRE_CROP = re.compile(r"centre crop(?:,? (?P<size>\d+))?")
UNFIT = re.compile(r"another preprocessing|does not fit")


@dataclass(frozen=True)
class Reported:
    """Of the weights that a name takes: name and tag, licence, size of the input, and
    the accuracies that their publisher reports.
    """

    tagged: str
    licence: str
    input_size: tuple[int, ...]
    results: tuple[Result, ...]


def reported_of(source: Source) -> Reported | None:
    """Of the weights of a name and tag, or those that a bare name takes; None where
    none are recorded, or the numbers are others.
    """
    if source.origin is None or source.module is not None or source.weights is not None:
        return None
    name, tag = source.origin.architecture, source.origin.tag
    tagged = f"{name}.{tag or default_tag(name, source.family)}"
    record = weight_records(name, source.family).get(tagged)
    if record is None:
        return None
    size = record.preprocessing.input_size if record.preprocessing else ()
    return Reported(tagged, record.licence, size, reported_results(tagged, record.metrics, size))


def reported_results(
    tagged: str, metrics: Iterable[Metric], size: tuple[int, ...]
) -> tuple[Result, ...]:
    """The first figures for each data set. Of ImageNet only a single centre crop of the
    size that the weights take, by whatever resizing they ask for: figures of one axis.
    """
    found: dict[str, tuple[Result, ...]] = {}
    for metric in metrics:
        words = metric.protocol
        if metric.data == IMAGENET:
            crop = CENTRE_CROP.search(words)
            if not crop or UNFIT.search(words):
                continue
            if crop["size"] and int(crop["size"]) not in size:
                continue
            words = "single centre crop"
        figures = {"top-1": metric.top1, "top-5": metric.top5}
        found.setdefault(
            metric.data,
            tuple(
                Result(f"{kind} accuracy %", value, metric.data, words, f"weights {tagged}")
                for kind, value in figures.items()
                if value is not None
            ),
        )
    return tuple(result for results in found.values() for result in results)

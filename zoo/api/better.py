"""A variant of a network whose published weights are clearly better."""

from __future__ import annotations

from zoo.api.records import default_tag, weight_records
from zoo.api.source import Source
from zoo.errors import warn
from zoo.weights.records import Metric, WeightsRecord

CLEARLY = 1.0  # points of accuracy


def say_better(source: Source) -> None:
    """Name a variant of the same network whose default weights are clearly better, by
    the same data and protocol.
    """
    assert source.family is not None
    assert source.origin is not None
    assert source.record is not None
    name = source.origin.architecture
    for other, variant in source.family.variants.items():
        if other.startswith(f"{name}_") and (tag := default_tag(other, source.family)):
            theirs = weight_records(other, source.family)[f"{other}.{tag}"]
            if found := better(source.record, theirs):
                note = f" ({variant.note})" if variant.note else ""
                warn(f"{source.name}: {other}{note} has better weights: {found}")


def better(own: WeightsRecord, theirs: WeightsRecord) -> str:
    """In words how much better other weights are, where they clearly are, by the same
    data, protocol and measure; else "".
    """

    def comparable(metric: Metric) -> tuple[str, str]:
        return metric.data, metric.protocol.partition(";")[0]

    for one in own.metrics:
        for other in theirs.metrics:
            if comparable(one) != comparable(other):
                continue
            for kind, ours, them in (
                ("top-1", one.top1, other.top1),
                ("top-5", one.top5, other.top5),
            ):
                if ours is not None and them is not None:
                    where = ", ".join(comparable(one))
                    clearly = them - ours >= CLEARLY
                    return f"{them:g} % {kind} instead of {ours:g} ({where})" if clearly else ""
    return ""

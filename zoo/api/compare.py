"""Many networks in one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.list_models import WILDCARDS, list_models
from zoo.api.memory import Step
from zoo.api.profile import profile_source
from zoo.api.records import default_tag, weight_records
from zoo.api.reported import reported_of
from zoo.api.source import Source, resolve
from zoo.api.workload import real_workload
from zoo.errors import PluginError, UsageError, ZooError, check_choice, warn
from zoo.paths import picture

if TYPE_CHECKING:
    from torch import nn

    from zoo.tables.compare import Comparison
    from zoo.tables.rows import Row
    from zoo.training.run import Run

    What = str | os.PathLike[str] | Run | nn.Module
    Size = int | str | tuple[int, ...] | None


def compare(
    *networks: What | Iterable[What],
    input_size: Size = None,
    recount: bool = False,
    memory_batch_size: int | None = None,
    latency_batch_size: int | None = None,
    pretrained: bool = False,
    layers: bool = False,
    protocol: str = "",
    sort: str = "",
    descending: bool = False,
    progress: Callable[[list[Any]], Iterable[Any]] | None = None,
) -> Comparison:
    """Networks in one table: year, depth, input, parameters, MACs, FLOPs, size of the
    weights, and the error that the paper reports.

    `networks` are names, shell patterns (`vgg*`), and whatever else `profile` takes,
    one by one or in lists.
    The counts of names are the claims beside the model, which the tests recompute, so
    that nothing is built; `recount` counts them again, for one example of the network's
    own size. Modules, runs and weights files, and names with an `input_size`, are
    always counted; modules that zoo did not create need the size. The depth of a name
    is the paper's, that of a module the convolutions and matrix products on its longest
    path.

    `memory_batch_size`: also the predicted peak of a training step (SGD with momentum)
    and of a forward pass at this batch size, in single precision on a GPU.
    `latency_batch_size`: also the measured time per example of a forward pass of this
    many on this machine, on its GPU if it has one, the median and the minimum.
    `pretrained`: also the accuracy and the licence of the published weights that a name
    takes, which the picture of the kind "weights" shows.
    `layers`: also the modules of each network, which is counted for it.

    `protocol`: words that pick one protocol of the reported results, such as "top-1
    single crop"; then only networks that have such a result are shown, with it.
    `sort`: the column that gives the order, else it is that of `networks`. `progress`
    wraps the list where networks must be built, as `tqdm.tqdm` or
    `rich.progress.track` do.

    Raises UsageError for a pattern that nothing matches, an unknown column or protocol,
    and ZooError when a count contradicts a claim.
    """
    from zoo.tables.compare import comparison

    batches = {"memory_batch_size": memory_batch_size, "latency_batch_size": latency_batch_size}
    for option, value in batches.items():
        if value is not None and value < 1:
            raise UsageError(f"{option}={value}: needs a batch of one example or more")
    titles = _titles(memory_batch_size, latency_batch_size, pretrained)
    if sort:
        check_choice("this table", "sort", sort, titles)
    chosen = _chosen(networks)
    built = (
        recount
        or layers
        or memory_batch_size
        or latency_batch_size
        or input_size is not None
        or not all(isinstance(what, str) for what in chosen)
    )
    rows = []
    for what in progress(chosen) if progress and built else chosen:
        source = resolve(what)
        row = _row(source, input_size, recount, layers)
        if pretrained:
            row = _with_published(row, source)
        if memory_batch_size:
            row = _with_memory(row, source, input_size, memory_batch_size)
        if latency_batch_size:
            median, least = _latency(source, input_size, latency_batch_size)
            row = replace(row, ms=median, ms_min=least)
        rows.append(row)
    table = comparison(rows, titles, protocol)
    return table.sort(sort, descending) if sort else table


def _titles(
    memory_batch_size: int | None, latency_batch_size: int | None, pretrained: bool
) -> dict[str, str]:
    """The columns of the table that is asked for, with their titles."""
    from zoo.tables.rows import COLUMNS

    titles = dict(COLUMNS)
    for column in ("training", "inference"):
        if memory_batch_size:
            titles[column] = f"{column} at {memory_batch_size}, MiB"
        else:
            del titles[column]
    if latency_batch_size:
        titles["ms"] = f"ms/image ({_device()}, {latency_batch_size} at a time)"
    else:
        del titles["ms"], titles["ms_min"]
    if not pretrained:
        del titles["accuracy"], titles["licence"]
    return titles


def _row(source: Source, input_size: Size, recount: bool, with_layers: bool) -> Row:
    from zoo.tables.rows import from_claims, from_profile
    from zoo.tables.rows import layers as layers_of

    variant, family, origin = source.variant, source.family, source.origin
    named = source.module is None and source.weights is None
    if not named or variant is None or family is None or origin is None:
        counted = profile_source(source, input_size)
        return replace(from_profile(counted), layers=layers_of(counted) if with_layers else ())
    claims = variant.claims
    claimed = input_size is None and not (source.record and source.record.model_args)
    if recount or with_layers or not claimed:
        counted = profile_source(source, input_size)
        if claimed and (counted.params, counted.macs) != (claims.params, claims.macs):
            raise ZooError(
                f"{source.name}: counted {counted.params:,} parameters and {counted.macs:,} MACs, "
                f"but its model file claims {claims.params:,} and {claims.macs:,}: correct the "
                "claims there"
            )
        row = replace(
            from_profile(counted),
            depth=variant.depth,
            layers=layers_of(counted) if with_layers else (),
        )
    else:
        row = from_claims(source.name, claims, variant.depth, variant.input_shapes())
    return replace(
        row,
        year=family.paper.year,
        weights=_recorded_size(source) or row.weights,
        results=variant.results,
        paper=family.paper,
        note=variant.note,
        doc=family.doc,
        picture=picture(source.entry.family) if source.entry and source.entry.own else "",
    )


def _recorded_size(source: Source) -> int | None:
    """Bytes of the published file of a name's weights: of its tag's, or the default
    ones.
    """
    if source.origin is None:
        return None
    if source.record:
        return source.record.size or None
    name = source.origin.architecture
    tagged = f"{name}.{default_tag(name, source.family)}"
    record = weight_records(name, source.family).get(tagged)
    return (record.size or None) if record else None


def _with_published(row: Row, source: Source) -> Row:
    """With what is published of its weights. Where these take another size or other
    arguments than the row, their operations are counted.
    """
    known = reported_of(source)
    if known is None:
        return row
    weights = resolve(known.tagged)
    flops = row.flops
    other = known.input_size != row.input or weights.record is None or weights.record.model_args
    if known.results and other:
        flops = profile_source(weights, known.input_size or None).flops
    return replace(row, licence=known.licence, published=known.results, published_flops=flops)


def _with_memory(row: Row, source: Source, input_size: Size, batch_size: int) -> Row:
    def peak(mode: str) -> int:
        return Step(source, mode=mode, input_size=input_size).predict(batch_size).peak

    return replace(row, training=peak("train"), inference=peak("eval"))


def _latency(source: Source, input_size: Size, batch_size: int) -> tuple[float, float]:
    """Milliseconds per example of a forward pass with random numbers: median and
    minimum.
    """
    import torch

    from zoo.count.isolation import kept_random_state
    from zoo.count.timing import time_forward

    with torch.inference_mode(False), kept_random_state():
        workload = real_workload(source, input_size, batch_size, device=_device())
        found = time_forward(workload)
        return found.median / batch_size, found.minimum / batch_size


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _chosen(networks: Iterable[What | Iterable[What]]) -> list[What]:
    """What is to be compared, each once; of a pattern's names a broken plug-in's are
    left out.
    """
    from torch import nn

    def each(given: Any) -> Iterable[Any]:
        single = isinstance(given, (str, nn.Module)) or not isinstance(given, Iterable)
        return [given] if single else given

    chosen: dict[Any, Any] = {}
    for what in chain.from_iterable(map(each, networks)):
        if isinstance(what, str) and any(sign in what for sign in WILDCARDS):
            matching = list_models(what)
            if not matching:
                raise UsageError(f"no network matches {what!r}; `zoo list` shows all")
            chosen |= {name: name for name in matching if _loads(name)}
        else:
            chosen[what if isinstance(what, str) else id(what)] = what
    if not chosen:
        raise UsageError("there is nothing to compare: give names, patterns or modules")
    return list(chosen.values())


def _loads(name: str) -> bool:
    try:
        registry.family(name)
    except PluginError as error:
        warn(f"left out: {error}")
        return False
    return True

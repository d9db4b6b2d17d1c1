"""Many networks in one table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.counting import example, profile
from zoo.api.networks import create, info, list_models
from zoo.errors import PluginError, UsageError, ZooError, check_choice, note

if TYPE_CHECKING:
    from torch import nn

    from zoo.tables.compare import Comparison, Row

PASSES = 5  # measured ones, of which the median counts


def compare(
    names: str | nn.Module | Iterable[str | nn.Module],
    *,
    input_size: int | tuple[int, ...] | None = None,
    recount: bool = False,
    memory: int | None = None,
    measure: int | None = None,
    layers: bool = False,
    protocol: str = "",
    sort: str = "",
    descending: bool = False,
    progress: Callable[[list[Any]], Iterable[Any]] | None = None,
) -> Comparison:
    """Networks in one table: year, depth, input, parameters, MACs, FLOPs, size of the
    weights, and the error that the paper reports.

    `names` are names, shell patterns (`vgg*`) and modules. The counts of names are the
    claims beside the model, which the tests recompute, so that nothing is built;
    `recount` counts them again, for one image of the network's own size. Modules, and
    names with an `input_size`, are always counted; modules that zoo did not create need
    the size. The depth of a name is the paper's, that of a module the convolutions and
    matrix products on its longest path.

    `memory`: also the predicted peak of a training step (SGD with momentum) and of a
    forward pass at this batch size, in single precision on a GPU. `measure`: also the
    measured time per image of a forward pass of so many images on this machine, on its
    GPU if it has one. `layers`: also the modules of each network, which is counted for
    it.

    `protocol`: words that pick one protocol of the reported results, such as "top-1
    single crop"; then only its results are shown. `sort`: the column that gives the
    order, else it is that of `names`. `progress` wraps the list where networks must be
    built, as `tqdm.tqdm` or `rich.progress.track` do.

    Raises UsageError for a pattern that nothing matches, an unknown column or protocol,
    and ZooError when a count contradicts a claim.
    """
    from zoo.tables.compare import comparison

    for option, value in (("memory", memory), ("measure", measure)):
        if value is not None and value < 1:
            raise UsageError(f"{option}={value}: needs a batch of one image or more")
    titles = _titles(memory, measure)
    if sort:
        check_choice("this table", "sort", sort, titles)
    chosen = _chosen(names)
    built = (
        recount
        or layers
        or memory
        or measure
        or input_size is not None
        or not all(isinstance(what, str) for what in chosen)
    )
    rows = []
    for what in progress(chosen) if progress and built else chosen:
        row = _row(what, input_size, recount, layers)
        if memory:
            row = _with_memory(row, what, input_size, memory)
        if measure:
            row = replace(row, ms=_milliseconds(what, input_size, measure))
        rows.append(row)
    table = comparison(rows, titles, protocol)
    return table.sort(sort, descending) if sort else table


def _titles(memory: int | None, measure: int | None) -> dict[str, str]:
    """The columns of the table that is asked for, with their titles."""
    from zoo.tables.compare import COLUMNS

    titles = dict(COLUMNS)
    for column in ("training", "inference"):
        if memory:
            titles[column] = f"{column} at {memory}, MiB"
        else:
            del titles[column]
    if measure:
        titles["ms"] = f"ms/image ({_device()}, {measure} at a time)"
    else:
        del titles["ms"]
    return titles


def _row(
    what: str | nn.Module,
    input_size: int | tuple[int, ...] | None,
    recount: bool,
    with_layers: bool,
) -> Row:
    from zoo.tables.compare import from_claims, from_profile, layers

    if not isinstance(what, str):
        counted = profile(what, input_size)
        return replace(from_profile(counted), layers=layers(counted) if with_layers else ())
    known = info(what)
    claims, variant = known.variant.claims, known.variant
    row = from_claims(what, claims, variant.depth, variant.input_size)
    if recount or with_layers or input_size is not None:
        counted = profile(what, input_size)
        if input_size is None and (counted.params, counted.macs) != (claims.params, claims.macs):
            raise ZooError(
                f"{what}: counted {counted.params:,} parameters and {counted.macs:,} MACs, but its model file claims "
                f"{claims.params:,} and {claims.macs:,}: correct the claims there"
            )
        row = replace(
            from_profile(counted),
            depth=variant.depth,
            layers=layers(counted) if with_layers else (),
        )
    size = next(
        (record["size"] for record in known.weights.values() if "size" in record), row.weights
    )
    return replace(row, year=known.paper.year, weights=size, results=variant.results)


def _with_memory(
    row: Row, what: str | nn.Module, input_size: int | tuple[int, ...] | None, batch_size: int
) -> Row:
    from zoo.api.memory import memory

    peaks = [
        memory(what, batch_size, mode, input_size=input_size).peak for mode in ("train", "infer")
    ]
    return replace(row, training=peaks[0], inference=peaks[1])


def _milliseconds(
    what: str | nn.Module, input_size: int | tuple[int, ...] | None, batch_size: int
) -> float:
    """Time per image of a forward pass with real numbers: the median of PASSES, after
    one that warms up.
    """
    import torch

    from zoo.count.meta import unwrapped

    device = _device()
    with torch.random.fork_rng(), torch.inference_mode():
        model = create(what) if isinstance(what, str) else deepcopy(unwrapped(what))
        if any(parameter.is_meta for parameter in model.parameters()):
            raise UsageError(
                f"{type(model).__name__} is on the meta device: there are no numbers to measure with"
            )
        model = model.to(device).eval()
        shadows, _ = example(what, model, input_size, batch_size, None, {})
        args = [torch.zeros_like(shadow, device=device) for shadow in shadows]
        for arg in args:
            if arg.is_floating_point():
                arg.normal_()

        def run() -> float:
            begin = time.perf_counter()
            model(*args)
            if device == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter() - begin

        run()
        return 1000 * statistics.median(run() for _ in range(PASSES)) / batch_size


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _chosen(names: str | nn.Module | Iterable[str | nn.Module]) -> list[str | nn.Module]:
    """Names and modules, each once; of a pattern's names a broken plug-in's are left
    out.
    """
    from torch import nn

    chosen: dict[str | nn.Module, None] = {}
    for what in [names] if isinstance(names, (str, nn.Module)) else names:
        if isinstance(what, str) and any(sign in what for sign in "*?["):
            matching = list_models(what)
            if not matching:
                raise UsageError(f"no network matches {what!r}; `zoo list` shows all")
            chosen |= dict.fromkeys(name for name in matching if _loads(name))
        else:
            chosen[what] = None
    if not chosen:
        raise UsageError("there is nothing to compare: give names, patterns or modules")
    return list(chosen)


def _loads(name: str) -> bool:
    try:
        registry.family(name)
    except PluginError as error:
        note(f"left out: {error}")
        return False
    return True

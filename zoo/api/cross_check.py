"""Another counter's view of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.api.profile import profile_source
from zoo.api.source import resolve
from zoo.api.workload import meta_workload
from zoo.errors import UsageError, check_choice, warn

if TYPE_CHECKING:
    import os

    from torch import nn

    from zoo.count.cross_check import CrossCheck
    from zoo.training.run import Run


def cross_check(
    what: str | os.PathLike[str] | Run | nn.Module,
    engine: str = "fvcore",
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    mode: str = "eval",
    **model_args: Any,
) -> CrossCheck:
    """What another counter says of a network, side by side with ours. `print` shows it
    as a table.

    `engine`: "fvcore" (FlopCountAnalysis), which traces a run on zeros, or "torch"
    (FlopCounterMode), which sees the operators of a run on the meta device. All else is
    as for `profile`; mode "train" is for torch only. Where an engine fails, a note says
    so, and the table has our numbers alone.
    """
    from zoo.count.cross_check import run_engine

    check_choice("zoo.cross_check", "engine", engine, ("fvcore", "torch"))
    check_choice("zoo.cross_check", "mode", mode, ("eval", "train"))
    if (engine, mode) == ("fvcore", "train"):
        raise UsageError("fvcore counts forward passes only: leave mode='train' out, or ask torch")
    source = resolve(what)
    ours = profile_source(source, input_size, batch_size, inputs=inputs, mode=mode, **model_args)
    workload = meta_workload(source, input_size, batch_size, inputs=inputs, **model_args)
    found = run_engine(engine, ours, workload)
    if found.failure:
        warn(f"{engine} {found.version} gives no second opinion on {ours.name}: {found.failure}")
    return found

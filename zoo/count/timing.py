"""The measured time of a forward pass."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from zoo.count.workload import Workload
from zoo.errors import UsageError

WARM_UP = 2, 0.3  # passes, and seconds, at least
MEASURED = 7, 0.5


@dataclass(frozen=True)
class Timing:
    """Milliseconds of `passes` forward passes. Where other work goes on beside, the
    median tells how it went, and the minimum how long a pass takes.
    """

    median: float
    minimum: float
    passes: int


def time_forward(workload: Workload) -> Timing:
    """Time of a forward pass in evaluation, on the device where the workload lies,
    after passes that warm up. The module may change; pass a copy.

    Threads of torch that wait busily make a busy machine many times slower:
    OMP_WAIT_POLICY=passive in the environment, before torch is imported, keeps them
    from it. Raises UsageError for a module without numbers.
    """
    if workload.on_meta:
        raise UsageError(
            f"{workload.name} is on the meta device: there are no numbers to measure with"
        )
    model = workload.module.eval()
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))

    def run() -> float:
        begin = time.perf_counter()
        model(*workload.args, **workload.kwargs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    with torch.inference_mode():
        _repeat(run, *WARM_UP)
        seconds = _repeat(run, *MEASURED)
    return Timing(1000 * statistics.median(seconds), 1000 * min(seconds), len(seconds))


def _repeat(run: Callable[[], float], passes: int, seconds: float) -> list[float]:
    """The times of at least this many passes that take at least this long together."""
    times: list[float] = []
    while len(times) < passes or sum(times) < seconds:
        times.append(run())
    return times

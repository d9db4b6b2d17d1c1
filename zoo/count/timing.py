"""The measured time of a forward pass."""

from __future__ import annotations

import statistics
import time

import torch

from zoo.count.workload import Workload
from zoo.errors import UsageError

PASSES = 5  # measured ones, of which the median counts


def forward_milliseconds(workload: Workload) -> float:
    """Time of a forward pass in evaluation, on the device where the workload lies: the
    median of PASSES, after one that warms up. The module may change; pass a copy.

    Raises UsageError for a module without numbers.
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
        run()
        return 1000 * statistics.median(run() for _ in range(PASSES))

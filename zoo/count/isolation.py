"""What a pass leaves in this process as it was, and what it says when it fails."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zoo.count.torch_internals import plain_call, run_operator
from zoo.count.torch_late_imports import late_imports
from zoo.errors import ZooError

# Through these, and no others, a pass runs code that is not the counters' own.
GATES = {function.__code__ for function in (plain_call, run_operator)}


def load_kernels() -> None:
    """Have torch load its meta kernels outside of a pass: the first operator that needs
    them leaves its frame to the garbage collector, with the tensors in it, as torch
    2.11 does.
    """
    torch.empty(1, device="meta") + 1


@contextmanager
def paused_collector() -> Iterator[None]:
    """Python's garbage collector has nothing to find in a pass, but would look at all
    that torch has loaded, for half a second.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


ONE_PASS = threading.RLock()


@contextmanager
def counting() -> Iterator[None]:
    """Around all that builds a network for the counters and runs it on the meta device:
    no inference mode, in which operators arrive that are made of others, and neither
    the garbage collector nor what torch would load costs more time than the pass.
    """
    with torch.inference_mode(False), late_imports(), paused_collector():
        yield


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Every generator that a pass may use is afterwards as before.

    The generators are those of the process: passes of several threads wait for each
    other, or one would leave behind what another has drawn.
    """
    with ONE_PASS, _kept_random_state():
        yield


@contextmanager
def _kept_random_state() -> Iterator[None]:
    numpy = sys.modules.get("numpy.random")
    states = random.getstate(), numpy.get_state() if numpy else None
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    gpus = range(torch.cuda.device_count()) if started else ()
    with torch.random.fork_rng(gpus):
        try:
            yield
        finally:
            random.setstate(states[0])
            if numpy:
                numpy.set_state(states[1])


def is_own_fault(error: BaseException) -> bool:
    """Whether an exception in a pass arose in the counters themselves, and not in the
    network or an operator that they ran.
    """
    innermost, trace = None, error.__traceback__
    while trace:
        if trace.tb_frame.f_globals.get("__name__", "").startswith("zoo.count."):
            innermost = trace.tb_frame.f_code
        trace = trace.tb_next
    return innermost not in GATES


def own_fault(name: str, error: BaseException) -> ZooError:
    return ZooError(
        f"{name} cannot be counted: the counters themselves fail, which is a fault of zoo "
        f"({first_line(error)}); please report it with the network"
    )


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

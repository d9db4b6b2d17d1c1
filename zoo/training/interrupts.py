"""Ctrl-C and a polite kill: training ends after the step under way, with a
checkpoint.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGREE_EVERY = 10  # steps between two agreements of several processes


class Stopped(KeyboardInterrupt):
    """Training was told to stop, and has saved where it is."""


class Interrupts:
    """While it is entered, the first Ctrl-C (or SIGTERM) only sets `told`; the second
    one does what it always did. In a thread of its own a process gets no signals.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.told = False
        self.asked = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self.before[number] = signal.signal(number, self._tell)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def due(self, wanted: bool = False) -> bool:
        """Whether to save now: when told to stop, or where it is `wanted`. Several
        processes agree on it, now and then.
        """
        if self.accelerator.num_processes == 1:
            return wanted or self.told
        self.asked += 1
        if self.asked % AGREE_EVERY:
            return False
        flags = torch.tensor([self.told, wanted], device=self.accelerator.device).int()
        told, save = self.accelerator.reduce(flags).tolist()
        self.told = bool(told)
        return bool(told or save)

    def _tell(self, number: int, frame: FrameType | None) -> None:
        self.told = True
        self._restore()

    def _restore(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}

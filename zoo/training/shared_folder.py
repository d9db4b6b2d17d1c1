"""One run folder for all processes of a run: the first one writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zoo.training.metrics import Record
from zoo.training.run_folder import RunFolder

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn


def folder_of(accelerator: Accelerator, folder: RunFolder) -> RunFolder:
    """The folder itself; where there are several processes, as one of them sees it."""
    return SharedFolder(accelerator, folder) if accelerator.num_processes > 1 else folder


class SharedFolder(RunFolder):
    """Does in the first process what RunFolder does, and in the others nothing but to
    know its path. What fails in the first process fails in all.
    """

    def __init__(self, accelerator: Accelerator, folder: RunFolder) -> None:
        self.accelerator = accelerator
        self.folder = folder
        self.config = folder.config

    def __enter__(self) -> RunFolder:
        self._in_first(lambda: self.folder.__enter__().path)
        self.path: Path = self.found
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.accelerator.is_main_process:
            self.folder.__exit__(kind, error, trace)

    def save(self, state: Mapping[str, Any]) -> None:
        self._in_first(lambda: self.folder.save(state))

    def rewind(self, history: Sequence[Record], model: nn.Module, *, whole: bool) -> None:
        self._in_first(lambda: self.folder.rewind(history, model, whole=whole))

    def epoch(self, record: Record, model: nn.Module) -> None:
        self._in_first(lambda: self.folder.epoch(record, model))

    def finish(self) -> None:
        self._in_first(self.folder.finish)

    def _in_first(self, action: Any) -> None:
        from accelerate.utils import broadcast_object_list

        found: list[Any] = [None, None]
        if self.accelerator.is_main_process:
            try:
                found[0] = action()
            except Exception as error:  # the others wait: they must hear of it
                found[1] = error
        broadcast_object_list(found)
        self.found, failed = found
        if failed is not None:
            raise failed

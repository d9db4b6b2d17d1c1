"""A run's numbers for TensorBoard, where it is asked for (the extra `log`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from zoo.errors import UsageError
from zoo.training.metrics import PARTS, Record

FOLDER = "tensorboard"  # in the run folder


def check_tensorboard() -> None:
    """Raises UsageError where TensorBoard is not installed: to be asked before
    training.
    """
    if find_spec("tensorboard") is None:
        raise UsageError(
            "tensorboard is not installed: pip install 'classic-zoo[log]', or leave out tensorboard"
        )


class TensorBoardWriter:
    """Writes each epoch's numbers as scalars into the folder `tensorboard/` of a run:
    `loss/training` and `loss/validation` in one chart, `accuracy/…`, `lr` and the speed
    in their own. Raises UsageError where TensorBoard is not installed.
    """

    def __init__(self, run: Path, after: int | None = None) -> None:
        """`after`: the last epoch that counts, of a run that goes on; later ones, of
        before, are hidden.
        """
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        later = None if after is None else after + 1
        self.writer = SummaryWriter(str(run / FOLDER), purge_step=later)

    def __enter__(self) -> TensorBoardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.writer.close()

    def epoch(self, record: Record) -> None:
        """The numbers of an epoch, which can be seen from now on."""
        for name, value in record.items():
            part, _, metric = name.partition("_")
            tag = f"{metric}/{PARTS[part]}" if part in PARTS else name
            if name != "epoch":
                self.writer.add_scalar(tag, value, int(record["epoch"]))
        self.writer.flush()

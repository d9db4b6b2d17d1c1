"""Writing a run folder (see zoo.training.run) while training goes on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, UsageError, ZooError
from zoo.files import replaced, write, write_state
from zoo.training.curves import draw_curves
from zoo.training.metrics import ChartMetric, Record
from zoo.training.place import RUNS, check_free, check_place
from zoo.training.recipe import plain
from zoo.training.run import (
    BEST,
    CHECKPOINT,
    CHECKPOINT_VERSION,
    CONFIG,
    CURVES,
    LAST,
    METRICS,
    Run,
    best_record,
)
from zoo.training.run_text import run_title

if TYPE_CHECKING:
    from torch import nn

ABOUT = (  # what a weights file says of its network: it can be built again without the folder
    "architecture", "tag", "model_args", "num_classes", "classes", "preprocessing", "task",
    "head",
)  # fmt: skip


def _as_read_again(config: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json will give. Raises InputError for a value that would come back
    as another one.
    """
    try:
        found: dict[str, Any] = json.loads(json.dumps(config, default=_number_or_list))
    except TypeError as error:
        raise InputError(f"{CONFIG} cannot hold an argument of this run: {error}") from error
    return found


def _number_or_list(value: Any) -> Any:
    found = plain(value)
    if found is value:
        raise TypeError(f"{value!r} is no number, text, list or table of such")
    return list(found) if isinstance(found, tuple) else found


class RunFolder:
    """Writes a run while it goes on. Leaving the context before the first checkpoint
    takes away what was made here, and nothing else.
    """

    def __init__(
        self,
        out: Path | None,
        stem: str,
        config: Mapping[str, Any],
        metrics: Sequence[ChartMetric] = (ChartMetric("loss"),),
        *,
        resumed: Run | None = None,
    ) -> None:
        """`out` is the folder; None: the first free one of runs/`stem`-1, runs/`stem`-2
        … `config` names the `metric` that selects (default: the loss) and says whether
        `higher_is_better`; `metrics` are drawn. `resumed`: a run that goes on, in its
        own folder.
        """
        self.out = out
        self.stem = stem
        self.config = resumed.config if resumed else _as_read_again(config)
        self.metrics = metrics
        self.resumed = resumed
        self.history: list[Record] = []
        self.made: list[Path] = []  # folders

    def __enter__(self) -> RunFolder:
        if self.resumed:
            self.path = self.resumed.path
            return self
        if self.out:
            check_free(self.out)
            self._make(self.out)
            self.path = self.out
        else:
            check_place()
            names = (RUNS / f"{self.stem}-{number}" for number in count(1))
            self.path = next(filter(self._make, names))
        try:
            write(self.path / CONFIG, json.dumps(self.config, indent=2))
        except BaseException:
            self._take_away()
            raise
        return self

    def save(self, state: Mapping[str, Any]) -> None:
        """Save a TrainState. Raises ZooError where it cannot be written; the one before
        it then stays.
        """
        import torch

        path = self.path / CHECKPOINT
        try:
            with replaced(path) as temporary:
                torch.save({"version": CHECKPOINT_VERSION, "state": state}, temporary)
        except RuntimeError as error:  # torch's writer: it does not say why
            raise ZooError(f"{path} cannot be written (is the disk full?): {error}") from error

    def rewind(self, history: Sequence[Record], model: nn.Module, *, whole: bool) -> None:
        """Bring the folder to where a checkpoint was saved. `whole`: it was at the end
        of an epoch, of which `model` has the weights.
        """
        if whole and history:
            self.history = [*history[:-1]]
            self.epoch(history[-1], model)
            return
        self.history = [*history]
        self._write_metrics()

    def finish(self) -> None:
        """There is nothing to go on with."""
        (self.path / CHECKPOINT).unlink(missing_ok=True)

    def epoch(self, record: Record, model: nn.Module) -> None:
        """Save an epoch's record and weights."""
        history = [*self.history, record]
        about = {key: self.config[key] for key in ABOUT if key in self.config}
        write_state(self.path / LAST, model.state_dict(), about)
        if best_record(history, self.config) is record:
            with replaced(self.path / BEST) as temporary:
                shutil.copyfile(self.path / LAST, temporary)
        self.history = history
        self._write_metrics()

    def _write_metrics(self) -> None:
        lines = (json.dumps(line) + "\n" for line in self.history)
        write(self.path / METRICS, "".join(lines))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.history:
            best = best_record(self.history, self.config)
            with replaced(self.path / CURVES) as temporary:
                draw_curves(
                    self.history,
                    best,
                    temporary,
                    self.metrics,
                    title=run_title(self.config),
                    classes=self.config.get("num_classes", 0),
                )
            return
        if not self.resumed and not (self.path / CHECKPOINT).exists():
            self._take_away()

    def _take_away(self) -> None:
        for name in (CONFIG, METRICS, BEST, LAST):
            with suppress(OSError):
                (self.path / name).unlink(missing_ok=True)
        self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in self.made:
            with suppress(OSError):  # it is not there, or holds something else by now
                folder.rmdir()

    def _make(self, path: Path) -> bool:
        """Make a folder; False when it was there. Raises UsageError when it cannot be
        made.
        """
        try:
            self.made = [folder for folder in (path, *path.parents) if not folder.exists()]
            path.mkdir(parents=True)
        except OSError as error:
            if isinstance(error, FileExistsError) and os.path.lexists(path):
                return False
            self._remove_folders()
            reason = error.strerror or error
            raise UsageError(f"the run folder {path} cannot be made: {reason}") from error
        return True

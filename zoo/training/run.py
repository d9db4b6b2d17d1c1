"""The run folder: what was trained, how it went, the weights, and the curves. No file
in it is ever half written.

config.json         what rebuilds the network and feeds it, and the whole recipe
metrics.jsonl       a line per epoch
best.safetensors    the best epoch's weights, by the metric that config.json names;
                    ties: lowest loss
last.safetensors    those of the last epoch
curves.png          the metrics over the epochs
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, InputError, UsageError
from zoo.files import load_state, read_state, replaced, write, write_state
from zoo.formatting import Printable, Section
from zoo.training.curves import draw_curves
from zoo.training.metrics import ChartMetric, Record
from zoo.training.place import RUNS, check_free, check_place
from zoo.training.recipe import plain
from zoo.training.run_text import run_sections, run_title

if TYPE_CHECKING:
    from torch import nn

CONFIG, METRICS, CURVES = "config.json", "metrics.jsonl", "curves.png"
BEST, LAST = "best.safetensors", "last.safetensors"
ABOUT = (  # what a weights file says of its network: it can be built again without the folder
    "architecture", "tag", "model_args", "num_classes", "classes", "preprocessing", "task",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Run(Printable):
    """A finished run: its folder `path`, `config`, and `history`, a record per epoch.
    `model` is the trained module, with the last epoch's weights, where the run was made
    in this process.
    """

    path: Path
    config: dict[str, Any]
    history: list[Record]
    model: nn.Module | None = None

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a run folder. Raises UsageError when it is none, DataError when it is
        damaged.
        """
        path = Path(path)
        if not (path / CONFIG).is_file():
            raise UsageError(f"{path} is no run folder: it has no {CONFIG}")
        try:
            config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
            lines = (path / METRICS).read_text(encoding="utf-8").splitlines()
            return cls(path, config, [json.loads(line) for line in lines])
        except (OSError, ValueError) as error:
            raise DataError(f"the run folder {path} is damaged: {error}") from error

    @property
    def best(self) -> Record:
        """The record of the epoch whose weights are in best.safetensors."""
        return best_record(self.history, self.config)

    @property
    def metric(self) -> str:
        """The metric that selects the best epoch."""
        return _metric(self.config)

    @property
    def score(self) -> float:
        """The best epoch's value of that metric on the validation data; nan when the
        run has none.
        """
        return self.best.get(f"val_{self.metric}", math.nan)

    @property
    def accuracy(self) -> float:
        """The best epoch's accuracy on the validation data, from 0 to 1; nan when the
        run has none.
        """
        return self.best.get("val_accuracy", math.nan)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.config.get("classes") or ())

    def sections(self) -> list[Section]:
        return run_sections(self)

    def load_best(self, module: nn.Module) -> nn.Module:
        """Load the best epoch's weights into a module and return it, in evaluation
        mode. Raises WeightsError when they do not fit.
        """
        load_state(module, read_state(self.path / BEST), str(self.path / BEST))
        return module.eval()


def best_record(history: Sequence[Record], config: Mapping[str, Any]) -> Record:
    """The epoch that is best by the metric of `config`, the first of equal ones."""
    return max(history, key=lambda record: _quality(record, config))


def _metric(config: Mapping[str, Any]) -> str:
    return config.get("metric", "loss")


def _quality(record: Record, config: Mapping[str, Any]) -> tuple[float, float]:
    """What is larger for a better epoch; ties: lowest loss."""
    value = record.get(f"val_{_metric(config)}", 0.0)  # a loss of the user's own may measure none
    return value if config.get("higher_is_better") else -value, -record["val_loss"]


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
    """Writes a run while it goes on. Leaving the context before the first epoch has
    ended takes away what was made here, and nothing else.
    """

    def __init__(
        self,
        out: Path | None,
        stem: str,
        config: Mapping[str, Any],
        metrics: Sequence[ChartMetric] = (ChartMetric("loss"),),
    ) -> None:
        """`out` is the folder; None: the first free one of runs/`stem`-1, runs/`stem`-2
        … `config` names the `metric` that selects (default: the loss) and says whether
        `higher_is_better`; `metrics` are drawn.
        """
        self.out = out
        self.stem = stem
        self.config = _as_read_again(config)
        self.metrics = metrics
        self.history: list[Record] = []
        self.made: list[Path] = []  # folders

    def __enter__(self) -> RunFolder:
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

    def epoch(self, record: Record, model: nn.Module) -> None:
        """Save an epoch's record and weights."""
        history = [*self.history, record]
        about = {key: self.config[key] for key in ABOUT if key in self.config}
        write_state(self.path / LAST, model.state_dict(), about)
        if best_record(history, self.config) is record:
            with replaced(self.path / BEST) as temporary:
                shutil.copyfile(self.path / LAST, temporary)
        self.history = history
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

"""The run folder: what was trained, how it went, the weights, and the curves. No file
in it is ever half written.

config.json         what rebuilds the network and feeds it, and the whole recipe
metrics.jsonl       a line per epoch
best.safetensors    the best epoch's weights, by the metric that config.json names;
                    ties: lowest loss
last.safetensors    those of the last epoch
checkpoint.pt       all that the run needs to go on; while it is not finished
curves.png          the metrics over the epochs
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, UsageError
from zoo.files import load_state, read_state
from zoo.formatting import Printable, Section
from zoo.training.metrics import Record
from zoo.training.run_text import run_sections

if TYPE_CHECKING:
    from torch import nn

CONFIG, METRICS, CURVES = "config.json", "metrics.jsonl", "curves.png"
BEST, LAST = "best.safetensors", "last.safetensors"
CHECKPOINT, REPORT = "checkpoint.pt", "report.json"
CHECKPOINT_VERSION = 2  # goes up when a TrainState holds something else


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
            metrics = path / METRICS  # of a run that was stopped in its first epoch there are none
            lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.is_file() else []
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

    @property
    def report(self) -> dict[str, Any] | None:
        """What the task reported of the best weights (report.json); None where nothing
        was.
        """
        path = self.path / REPORT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    @property
    def finished(self) -> bool:
        """Whether training went on to its end."""
        return bool(self.history) and not (self.path / CHECKPOINT).exists()

    def checkpoint(self) -> dict[str, Any] | None:
        """The TrainState of a run that was stopped; None before its first one. Raises
        DataError for a file that is none.
        """
        import torch

        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises a dozen types
            raise DataError(f"{path} is no checkpoint that can be read: {error}") from error
        if not isinstance(state, dict) or state.get("version") != CHECKPOINT_VERSION:
            raise DataError(f"{path} is of another version of zoo: it cannot be gone on with")
        found: dict[str, Any] = state["state"]
        return found

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


def early_stop(
    config: Mapping[str, Any], patience: int | None
) -> Callable[[Sequence[Record]], bool]:
    """Whether the best epoch lies `patience` epochs back; None: never."""

    def stop(history: Sequence[Record]) -> bool:
        if patience is None:
            return False
        best = int(best_record(history, config)["epoch"])
        return int(history[-1]["epoch"]) - best >= patience

    return stop


def _metric(config: Mapping[str, Any]) -> str:
    return config.get("metric", "loss")


def _quality(record: Record, config: Mapping[str, Any]) -> tuple[float, float]:
    """What is larger for a better epoch; ties: lowest loss."""
    value = record.get(f"val_{_metric(config)}", 0.0)  # a loss of the user's own may measure none
    return value if config.get("higher_is_better") else -value, -record["val_loss"]

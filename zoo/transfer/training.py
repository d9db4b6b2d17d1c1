"""What a training is asked to do, whatever its strategy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from zoo.data.datasets import DataSplit
from zoo.tasks.base import Task
from zoo.training.loop import TrainState
from zoo.training.metrics import Record
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.run_folder import RunFolder
from zoo.training.shared_folder import folder_of
from zoo.training.step import Loss
from zoo.training.strategy import Strategy
from zoo.transfer.run_config import run_stem

if TYPE_CHECKING:
    from accelerate import Accelerator

Callback = Callable[[Record, nn.Module], None]


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A run that goes on. `state` is None where it was stopped before the first
    checkpoint.
    """

    run: Run
    state: TrainState | None


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is asked for. `identity` goes into config.json: what rebuilds the network. A
    family's loss takes the place of the task's, and the user's `loss` that of both.
    `features`: where those of a frozen network are kept.
    """

    split: DataSplit
    recipe: Recipe
    task: Task
    accelerator: Accelerator
    name: str
    identity: Mapping[str, Any]
    seed: int = 0
    family_loss: Loss | None = None
    loss: Loss | None = None
    out: Path | None = None
    resumed: Resumed | None = None
    callback: Callback | None = None
    progress: bool = True
    features: Path | None = None

    @property
    def strategy(self) -> Strategy:
        return Strategy.parse(self.recipe.strategy)

    @property
    def trained_before(self) -> bool:
        """Whether the weights that it starts from are known to be trained."""
        return self.identity["initial_weights"] not in ("random", "the module's own")

    def folder(self, config: Mapping[str, Any]) -> RunFolder:
        resumed = self.resumed.run if self.resumed else None
        stem = run_stem(self.name, self.split)
        metrics = self.task.chart_metrics
        own = RunFolder(self.out, stem, config, metrics, resumed=resumed)
        return folder_of(self.accelerator, own)

"""The run folder: what was trained, how it went, the weights, and the curves. No file
in it is ever half written.

config.json         what rebuilds the network and feeds it, and all settings
metrics.jsonl       a line per epoch
best.safetensors    the best epoch's weights: highest accuracy, ties: lowest loss
last.safetensors    those of the last epoch
curves.png          loss and accuracy over the epochs
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from zoo.errors import DataError, UsageError, WeightsError
from zoo.train.curves import draw_curves
from zoo.train.loop import Record


@dataclass(frozen=True)
class Run:
    """A finished run: its folder `path`, `config`, and `history`, a record per
    epoch.
    """

    path: Path
    config: dict[str, Any]
    history: list[Record]
    network: nn.Module | None = field(
        default=None, repr=False
    )  # the trained module, where the run was made in this process

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Read a run folder. Raises UsageError when it is none, DataError when it is
        damaged.
        """
        path = Path(path)
        if not (path / "config.json").is_file():
            raise UsageError(f"{path} is no run folder: it has no config.json")
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
            lines = (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
            return cls(path, config, [json.loads(line) for line in lines])
        except (OSError, ValueError) as error:
            raise DataError(f"the run folder {path} is damaged: {error}") from error

    @property
    def best(self) -> Record:
        """The record of the epoch whose weights are in best.safetensors."""
        return max(self.history, key=_quality)

    @property
    def accuracy(self) -> float:
        """Best accuracy on the held-out images, from 0 to 1; nan when the run's step
        measured none.
        """
        return self.best.get("val_accuracy", math.nan)

    def model(self, module: nn.Module | None = None) -> nn.Module:
        """The network with the best epoch's weights, in evaluation mode.

        `module` is the network to load them into; by default the one that was trained,
        which then holds them.
        """
        module = module or self.network
        if module is None:
            raise UsageError(
                f"{self.path} was opened from disk: pass the module that its weights belong to"
            )
        load_weights(module, self.path / "best.safetensors")
        return module.eval()


def load_weights(module: nn.Module, path: Path) -> None:
    """Load a safetensors file into a module. Raises WeightsError when they do not
    fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit {type(module).__name__}: {error}") from error


def check_free(folder: Path) -> None:
    """Raises UsageError when a run folder cannot be made there: nothing is ever
    overwritten.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not empty: choose another run folder, or remove it"
        )


class RunFolder:
    """Writes a run while it goes on. Leaving the context before the first epoch has
    ended leaves nothing behind.
    """

    def __init__(self, out: Path | None, stem: str, config: dict[str, Any]) -> None:
        """`out` is the folder; None: the first free one of runs/`stem`-1, runs/`stem`-2
        …
        """
        self.out = out
        self.stem = stem
        self.config = json.loads(json.dumps(config, default=str))  # as it will be read again
        self.history: list[Record] = []
        self.made: list[Path] = []

    def __enter__(self) -> RunFolder:
        if self.out:
            check_free(self.out)
            self._make(self.out)
            self.path = self.out
        else:
            self.path = next(
                filter(self._make, (Path("runs", f"{self.stem}-{number}") for number in count(1)))
            )
        self._write(
            "config.json",
            lambda file: file.write_text(json.dumps(self.config, indent=2), encoding="utf-8"),
        )
        return self

    def epoch(self, record: Record, model: nn.Module) -> None:
        """Keep an epoch's record and weights."""
        is_best = not self.history or _quality(record) > max(map(_quality, self.history))
        self._write("last.safetensors", lambda file: save_weights(model, file))
        if is_best:
            self._write(
                "best.safetensors",
                lambda file: shutil.copyfile(self.path / "last.safetensors", file),
            )
        self.history.append(record)
        lines = "".join(json.dumps(line) + "\n" for line in self.history)
        self._write("metrics.jsonl", lambda file: file.write_text(lines, encoding="utf-8"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.history:
            self._write(
                "curves.png",
                lambda file: draw_curves(self.history, max(self.history, key=_quality), file),
            )
            return
        for file in self.path.iterdir():
            file.unlink()
        for folder in self.made:
            if not any(folder.iterdir()):
                folder.rmdir()

    def _make(self, path: Path) -> bool:
        """Make a folder; False when it was there."""
        self.made = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            return False
        return True

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        temporary = self.path / f".partial.{name}"
        try:
            write(temporary)
            if name != "config.json":
                shutil.copymode(
                    self.path / "config.json", temporary
                )  # safetensors makes its files private
            os.replace(temporary, self.path / name)
        finally:
            temporary.unlink(missing_ok=True)


def save_weights(module: nn.Module, path: Path) -> None:
    from safetensors.torch import save_file

    state = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    save_file(state, path, metadata={"format": "pt"})


def _quality(record: Record) -> tuple[float, float]:
    return record.get("val_accuracy", 0.0), -record["val_loss"]

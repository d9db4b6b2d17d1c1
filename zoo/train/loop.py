"""The training loop. It knows no model: `step(model, batch)` says what a batch is, what
to minimise and what to measure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import DataError, UsageError, ZooError
from zoo.train.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

Step = Callable[[nn.Module, Any], tuple[Tensor, dict[str, Tensor]]]
Record = dict[str, float]  # of one epoch
LOOK = 10  # batches between two looks at the running means: reading them waits for the GPU


def classify(model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross entropy and accuracy of a batch: images (N, C, H, W), class numbers
    (N,).
    """
    images, labels = batch
    logits = model(images)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise UsageError(
            f"{type(model).__name__} gives no logits (N, classes) in training: write step(model, batch) -> (loss, metrics)"
        )
    try:
        loss = F.cross_entropy(logits, labels)
    except IndexError as error:
        raise DataError(
            f"class number {int(labels.max())} with {logits.shape[1]} classes: they count from 0"
        ) from error
    return loss, {"accuracy": (logits.argmax(1) == labels).float().mean()}


class Means:
    """Running means over images of what `step` returns; kept on the device until
    read.
    """

    def __init__(self, where: str, advice: str = "") -> None:
        self.images: int = 0
        self.sums: dict[str, Any] = {}
        self.where = where
        self.advice = advice

    def add(self, batch: Any, loss: Tensor, metrics: dict[str, Tensor]) -> None:
        from accelerate.utils import find_batch_size

        count = find_batch_size(batch)
        self.images += count
        for name, value in {"loss": loss, **metrics}.items():
            self.sums[name] = self.sums.get(name, 0) + torch.as_tensor(value).detach() * count

    def read(self) -> Record:
        """Raises ZooError when the loss is no longer a number."""
        means = {name: float(value) / self.images for name, value in self.sums.items()}
        if not math.isfinite(means["loss"]):
            raise ZooError(f"the loss became {means['loss']} {self.where}{self.advice}")
        return means


def fit(
    model: nn.Module,
    train: Iterable[Any],
    val: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    *,
    epochs: int,
    accelerator: Accelerator,
    step: Step = classify,
    progress: Progress,
    after_epoch: Callable[[Record, nn.Module], None],
) -> list[Record]:
    """Train for `epochs` epochs, evaluate after each, and return a record per epoch.

    `schedule` steps once per batch. `after_epoch(record, model)` gets the plain module.
    A record holds `epoch`, `lr`, `seconds`, `images_per_second` (training alone), and
    `train_` and `val_` means of the loss and of each metric.
    """
    model, optimizer, train, val = accelerator.prepare(model, optimizer, train, val)
    history: list[Record] = []
    advice = f": lower the learning rate (now {optimizer.defaults['lr']:g}), or check the images' scale (mean and std)"
    for epoch in range(1, epochs + 1):
        started, lr = time.perf_counter(), float(schedule.get_last_lr()[0])
        means = Means(f"in epoch {epoch}", advice)
        model.train()
        for number, batch in enumerate(train):
            loss, metrics = step(model, batch)
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            means.add(batch, loss, metrics)
            if number % LOOK == 0:
                progress.batch(epoch, means.images, means.read())
        trained = time.perf_counter() - started
        record = {"epoch": epoch, "lr": lr, "images_per_second": means.images / trained}
        record |= {f"train_{name}": value for name, value in means.read().items()}
        record |= {
            f"val_{name}": value
            for name, value in evaluate(
                model, val, step, f"on the held-out images in epoch {epoch}"
            ).items()
        }
        history.append(record | {"seconds": time.perf_counter() - started})
        after_epoch(history[-1], accelerator.unwrap_model(model))
        progress.epoch(history[-1])
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module, batches: Iterable[Any], step: Step = classify, where: str = ""
) -> Record:
    """Means over all images of the loss and each metric of `step`, in evaluation
    mode.
    """
    model.eval()
    means = Means(where)
    for batch in batches:
        loss, metrics = step(model, batch)
        means.add(batch, loss, metrics)
    return means.read()

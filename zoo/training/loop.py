"""The training loop. It knows no network and no task: a Step says what a batch gives,
what to minimise and what to measure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.training.environment import allow_skipped_parameters
from zoo.training.metrics import Mean, MetricAverager, Record
from zoo.training.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

LOG_EVERY = 10  # batches between two readings of the running means: reading waits for the GPU
Loss = Callable[[Any, Any, nn.Module], Tensor | Mean]  # (outputs, batch, model)


def _forward(model: nn.Module, batch: Any) -> Any:
    return model(batch[0])


def _no_metrics(outputs: Any, batch: Any) -> dict[str, Mean]:
    return {}


def _no_scores(model: nn.Module) -> dict[str, float]:
    return {}


def _nothing(epoch: int, training: bool) -> None:
    pass


def _as_it_is(batch: Any, training: bool) -> Any:
    return batch


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is done with a batch.

    `loss(outputs, batch, model)` is a scalar, the mean over the batch, or a Mean with
    its own count; `model` is the module itself, never a wrapper. `metrics` are Means by
    name. `scores(model)` are numbers of the whole validation set that are no means over
    batches. `begin_epoch(epoch, training)` is called before each pass over the data,
    `on_device(batch, training)` gives a batch as it is computed with.
    """

    loss: Loss
    forward: Callable[[nn.Module, Any], Any] = _forward
    metrics: Callable[[Any, Any], Mapping[str, Mean]] = _no_metrics
    scores: Callable[[nn.Module], Mapping[str, float]] = _no_scores
    begin_epoch: Callable[[int, bool], None] = _nothing
    on_device: Callable[[Any, bool], Any] = _as_it_is


def fit(
    model: nn.Module,
    train: Iterable[Any],
    val: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    *,
    step: Step,
    epochs: int,
    accelerator: Accelerator,
    progress: Progress,
    after_epoch: Callable[[Record, nn.Module], None],
    unit: str = "images",
) -> list[Record]:
    """Train for `epochs` epochs, evaluate after each, and return a record per epoch.

    `scheduler` steps once per batch. `after_epoch(record, model)` gets the plain
    module. A record holds `epoch`, `lr`, `seconds`, `<unit>_per_second` (training
    alone), and `train_` and `val_` means of the loss and of each metric.
    """
    from accelerate.utils import send_to_device

    module = model
    allow_skipped_parameters(accelerator, model)
    model, optimizer, train, val = accelerator.prepare(model, optimizer, train, val)
    history: list[Record] = []
    advice = (
        f": lower the learning rate (now {optimizer.defaults['lr']:g}), "
        "or check the inputs' scale (mean and std)"
    )
    for epoch in range(1, epochs + 1):
        started, lr = time.perf_counter(), float(scheduler.get_last_lr()[0])
        averages = MetricAverager(f"in epoch {epoch}", advice)
        model.train()
        step.begin_epoch(epoch, True)
        for number, given in enumerate(train):
            batch = step.on_device(send_to_device(given, accelerator.device), True)
            outputs = step.forward(model, batch)
            loss = step.loss(outputs, batch, module)
            accelerator.backward(loss[0] if isinstance(loss, tuple) else loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            averages.add(batch, {"loss": loss, **step.metrics(outputs, batch)})
            if number % LOG_EVERY == 0:
                progress.batch(epoch, averages.count, averages.read())
        trained = time.perf_counter() - started
        record = {"epoch": epoch, "lr": lr, f"{unit}_per_second": averages.count / trained}
        record |= {f"train_{name}": value for name, value in averages.read().items()}
        where = f"on the validation data in epoch {epoch}"
        found = evaluate(model, val, step, module=module, epoch=epoch, where=where)
        record |= {f"val_{name}": value for name, value in found.items()}
        history.append(record | {"seconds": time.perf_counter() - started})
        after_epoch(history[-1], module)
        progress.epoch(history[-1])
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Any],
    step: Step,
    *,
    module: nn.Module | None = None,
    epoch: int = 1,
    where: str = "",
) -> Record:
    """Means of the loss and each metric over the whole data, and its scores, in
    evaluation mode. `module` is what `model` wraps, where it is a wrapper.
    """
    from accelerate.utils import send_to_device

    module = model if module is None else module  # a compiled one has no truth value
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    model.eval()
    step.begin_epoch(epoch, False)
    averages = MetricAverager(where)
    for given in batches:
        batch = step.on_device(send_to_device(given, device), False)
        outputs = step.forward(model, batch)
        loss = step.loss(outputs, batch, module)
        averages.add(batch, {"loss": loss, **step.metrics(outputs, batch)})
    return {**averages.read(), **step.scores(module)}

"""What is done with a batch: what the loop knows of a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zoo.training.metrics import Mean

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


def _no_state() -> dict[str, Any]:
    return {}


def _forget(state: Mapping[str, Any]) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Step:
    """What is done with a batch.

    `loss(outputs, batch, model)` is a scalar, the mean over the batch, or a Mean with
    its own count; `model` is the module itself, never a wrapper. `metrics` are Means by
    name. `scores(model)` are numbers of the whole validation set that are no means over
    batches. `begin_epoch(epoch, training)` is called before each pass over the data,
    `on_device(batch, training)` gives a batch as it is computed with. `divisible`:
    whether a batch may be computed in parts. `state_dict` and `load_state_dict`: what a
    run that goes on later needs.
    """

    loss: Loss
    forward: Callable[[nn.Module, Any], Any] = _forward
    metrics: Callable[[Any, Any], Mapping[str, Mean]] = _no_metrics
    scores: Callable[[nn.Module], Mapping[str, float]] = _no_scores
    begin_epoch: Callable[[int, bool], None] = _nothing
    on_device: Callable[[Any, bool], Any] = _as_it_is
    divisible: bool = True
    state_dict: Callable[[], dict[str, Any]] = _no_state
    load_state_dict: Callable[[Mapping[str, Any]], None] = _forget

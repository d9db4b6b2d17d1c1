"""The optimizers by name, the same in training, memory prediction, recipes and on the
command line. torch is imported where one is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, check_choice

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class OptimizerSpec:
    """A class of torch.optim with what makes it this optimizer, and our defaults."""

    kind: str
    lr: float
    weight_decay: float
    options: Mapping[str, Any] = field(default_factory=dict)


OPTIMIZERS = {
    "sgd": OptimizerSpec("SGD", 0.1, 5e-4),
    "momentum": OptimizerSpec("SGD", 0.01, 5e-4, {"momentum": 0.9}),
    "nesterov": OptimizerSpec("SGD", 0.01, 5e-4, {"momentum": 0.9, "nesterov": True}),
    "adagrad": OptimizerSpec("Adagrad", 0.01, 0.0),
    "rmsprop": OptimizerSpec("RMSprop", 1e-3, 0.0),
    "adam": OptimizerSpec("Adam", 1e-3, 0.0),
    "adamw": OptimizerSpec("AdamW", 1e-3, 0.01),
    "lbfgs": OptimizerSpec("LBFGS", 1.0, 0.0),
}
TAKES = {  # options beside the rates, by torch's names
    "momentum": ("momentum", "nesterov", "rmsprop"),
    "alpha": ("rmsprop",),
    "eps": ("adagrad", "rmsprop", "adam", "adamw"),
}
STEPWISE = tuple(name for name in OPTIMIZERS if name != "lbfgs")  # that take a step per batch


def check_rates(
    name: str, lr: float | None, weight_decay: float | None, lr_decay: float | None = None
) -> None:
    """Raises InputError for what `make_optimizer` and `param_groups` do not take."""
    check_choice("zoo", "optimizer", name, OPTIMIZERS)
    if not (lr is None or lr > 0):  # nan too
        raise InputError(f"lr={lr}: needs a number above 0")
    if not (weight_decay is None or weight_decay >= 0):
        raise InputError(f"weight_decay={weight_decay}: needs a number from 0 on")
    if not (lr_decay is None or 0 < lr_decay <= 1):
        raise InputError(f"lr_decay={lr_decay}: needs a number above 0 and at most 1")
    if name == "lbfgs" and weight_decay:
        raise InputError(f"weight_decay={weight_decay}: lbfgs has none, add it to the loss")


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raises InputError for an option of TAKES that the optimizer does not have."""
    for option, value in options.items():
        if option in TAKES and name not in TAKES[option]:
            shown = "rms_decay" if option == "alpha" else option
            raise InputError(f"{shown}={value}: {name} has none")
    if name == "nesterov" and options.get("momentum") == 0:
        raise InputError("momentum=0: nesterov needs more")


def make_optimizer(
    name: str,
    parameters: Iterable[Any],
    lr: float | None = None,
    weight_decay: float | None = None,
    **options: Any,
) -> torch.optim.Optimizer:
    """An optimizer of OPTIMIZERS over parameters, or groups of them; a group that names
    its own rate or weight decay keeps it. None is the default above, `options` are
    torch's. Raises InputError.
    """
    import torch

    check_rates(name, lr, weight_decay)
    check_options(name, options)
    spec = OPTIMIZERS[name]
    options = {**spec.options, **options, "lr": spec.lr if lr is None else lr}
    if name == "lbfgs":  # which has no groups
        given = list(parameters)
        parameters = [
            each for group in given if isinstance(group, dict) for each in group["params"]
        ]
        parameters = parameters or given
    else:
        options["weight_decay"] = spec.weight_decay if weight_decay is None else weight_decay
    made: torch.optim.Optimizer = getattr(torch.optim, spec.kind)(parameters, **options)
    return made

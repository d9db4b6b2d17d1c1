"""The learning-rate range test (L. N. Smith, Cyclical Learning Rates for Training
Neural Networks, arXiv:1506.01186, section 3.3), with rates that rise exponentially.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.errors import DataError, InputError, UsageError, ZooError
from zoo.files import replaced
from zoo.formatting import Printable, Section, Table
from zoo.training.curves import COLOURS, GREY
from zoo.training.step import Step
from zoo.training.untouched import as_before

SMOOTHING = 0.9  # of the running mean of the loss, from which its start is taken out
DIVERGED = 4.0  # times the lowest smoothed loss: here the test stops
MARGIN = 10.0  # by which the suggested rate lies below that of the lowest loss
FEW = 10  # steps that the running mean goes over: fewer are no mean
ROWS = 12  # that are shown


@dataclass(frozen=True, repr=False)
class RangeTest(Printable):
    """`losses` by rate, `smoothed` ones beside them. `steepest`: the rate at which the
    smoothed loss falls fastest per factor of the rate; `lowest`: at which it is least.
    `suggestion`: a tenth of `lowest`. `diverged`: whether the test ended for that.
    """

    name: str
    data: str
    optimizer: str
    rates: Sequence[float]
    losses: Sequence[float]
    smoothed: Sequence[float]
    diverged: bool

    @property
    def lowest(self) -> float:
        return self.rates[min(range(len(self.rates)), key=lambda step: self.smoothed[step])]

    @property
    def suggestion(self) -> float:
        return self.lowest / MARGIN

    @property
    def steepest(self) -> float:
        """Rates rise by one factor, so that a difference per step is one per factor.
        The first means are over too few steps to count, and what falls behind the
        lowest loss falls from a height.
        """
        end = max(self.rates.index(self.lowest), 1)
        steps = range(min(FEW, end - 1), end)
        return self.rates[
            min(steps, key=lambda step: self.smoothed[step + 1] - self.smoothed[step])
        ]

    def to_dict(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in ("suggestion", "lowest", "steepest")}
        return {**found, **asdict(self)}

    def sections(self) -> list[Section]:
        last = len(self.rates) - 1
        shown = sorted({round(last * row / (ROWS - 1)) for row in range(ROWS)})
        rows = [
            [f"{self.rates[step]:.2g}", f"{self.losses[step]:.4g}", f"{self.smoothed[step]:.4g}"]
            for step in shown
        ]
        return [Table(["learning rate", "loss", "smoothed"], rows), self.facts()]

    def facts(self) -> dict[str, str]:
        steps = len(self.rates)
        how = "until the loss diverged" if self.diverged else "to the last rate, without divergence"
        return {
            "test": f"{self.name} on {self.data}, {self.optimizer}, {steps} steps, {how}",
            "suggestion": f"{self.suggestion:.2g}, a tenth of the rate of the lowest loss",
            "lowest loss at": f"{self.lowest:.2g}",
            "steepest fall at": f"{self.steepest:.2g}",
        }

    def plot(self, path: str | Path) -> None:
        """Draw the loss over the rate into a PNG, with the suggestion. Raises
        UsageError for another kind of file.
        """
        from matplotlib.figure import Figure

        check_plot(path)

        figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color=GREY, alpha=0.4, linewidth=1, label="loss")
        axes.plot(self.rates, self.smoothed, color=COLOURS["train"], label="smoothed")
        for rate, style, label in (
            (self.suggestion, "--", f"suggestion: {self.suggestion:.2g}"),
            (self.steepest, ":", f"steepest fall: {self.steepest:.2g}"),
        ):
            axes.axvline(rate, color=COLOURS["val"], linestyle=style, label=label)
        axes.set_xscale("log")
        low, high = (
            min(self.smoothed),
            max(self.smoothed[0], *self.smoothed[: len(self.rates) // 2]),
        )
        axes.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low) + 1e-9)
        axes.set_xlabel("learning rate")
        axes.set_ylabel("loss")
        axes.set_title(f"{self.name} on {self.data}, {self.optimizer}", fontsize=11)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=9)
        with replaced(Path(path)) as temporary:
            figure.savefig(temporary, format="png")


def check_plot(path: str | Path) -> None:
    """Raises UsageError for a file that the curve is not drawn into."""
    if Path(path).suffix != ".png":
        raise UsageError(f"{path}: the curve is a .png file")


def range_test(
    model: nn.Module,
    batches: Iterable[Any],
    step: Step,
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    *,
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    device: torch.device | None = None,
    **about: str,
) -> RangeTest:
    """Train a copy of the model for `steps` batches at rates from `lowest` to
    `highest`, each by the same factor higher; the batches begin again where they end.
    All groups of the optimizer keep the ratio of their rates. It ends early where the
    loss is no number, or the smoothed one DIVERGED times the lowest.

    The model and the random state are afterwards as before. `about`: name, data and
    optimizer, for the result. Raises InputError for rates or steps that are none,
    DataError without a batch, and ZooError for a loss that is no number at once.
    """
    if not 0 < lowest < highest < math.inf:
        raise InputError(f"lowest={lowest}, highest={highest}: need 0 < lowest < highest")
    if steps < 2:
        raise InputError(f"steps={steps}: needs two or more")
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    mean, diverged = 0.0, False
    with torch.inference_mode(False), torch.enable_grad(), as_before(batches):
        try:
            tried, step = copy.deepcopy((model, step))
        except Exception as error:
            raise UsageError(f"{type(model).__name__} cannot be copied: {error}") from error
        tried.to(device).train()
        optimizer = make_optimizer(tried)
        base = [group["lr"] for group in optimizer.param_groups]
        given = _endless(batches, step)
        for number in range(steps):
            rate = lowest * (highest / lowest) ** (number / (steps - 1))
            for group, own in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = rate * own / base[0]
            loss = _train_step(tried, next(given), step, optimizer)
            diverged = not math.isfinite(loss)
            if diverged:
                break
            mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
            rates.append(rate)
            losses.append(loss)
            smoothed.append(mean / (1 - SMOOTHING ** (number + 1)))
            diverged = number >= FEW and smoothed[-1] > DIVERGED * min(smoothed) > 0
            if diverged:
                break
    if len(rates) < 2:
        raise ZooError(
            f"the loss is no number from the start (learning rate {lowest:g}): check the inputs' "
            "scale (mean and std)"
        )
    return RangeTest(rates=rates, losses=losses, smoothed=smoothed, diverged=diverged, **about)


def _train_step(
    model: nn.Module, batch: Any, step: Step, optimizer: torch.optim.Optimizer
) -> float:
    from accelerate.utils import send_to_device

    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    batch = step.on_device(send_to_device(batch, device), True)
    found = step.loss(step.forward(model, batch), batch, model)
    loss = found[0] if isinstance(found, tuple) else found
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return float(loss.detach())


def _endless(batches: Iterable[Any], step: Step) -> Iterator[Any]:
    epoch = 0
    while True:
        epoch += 1
        step.begin_epoch(epoch, True)
        batch = None
        for batch in batches:
            yield batch
        if batch is None:
            raise DataError("there is no batch to try rates on: the data are empty")

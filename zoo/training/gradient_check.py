"""The analytic gradient of each parameter against the numerical one, in float64, by the
centred difference and the relative error of the lecture notes of Stanford's CS231n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.errors import InputError, UsageError
from zoo.formatting import Printable, Section, Table, figure
from zoo.training.environment import seeded

STEPS = (1e-5, 1e-6, 1e-7)  # h of the difference, times max(1, |w|)
TOLERANCE = 1e-5  # relative error; lecture: 1e-7 is good, with corners up to 1e-4
WRONG = 1e-2  # the lecture's bound from which on it usually is
ROUNDING = 64 * torch.finfo(torch.float64).eps  # of the loss, relative; a deep network adds up

Entry = Literal["agrees", "kink", "too small", "wrong"]
Evaluate = Callable[[], Tensor]


@dataclass(frozen=True)
class GradientRow:
    """A tensor: how many of its entries were compared, and how. `kinks`: where the loss
    has a corner within the step (ReLU, maximum), so that both sides differ.
    `too_small`: where the gradient is less than the loss's rounding shows. `error`: the
    largest relative error of those that can be compared, None without any; `index`,
    `analytic` and `numerical` are of that entry.
    """

    name: str
    shape: tuple[int, ...]
    entries: int
    kinks: int
    too_small: int
    wrong: int
    error: float | None
    index: tuple[int, ...] = ()
    analytic: float = math.nan
    numerical: float = math.nan


@dataclass(frozen=True, repr=False)
class GradientCheck(Printable):
    """A row per parameter, then per input that is no integer."""

    name: str
    loss: float
    rows: tuple[GradientRow, ...]

    @property
    def ok(self) -> bool:
        return not any(row.wrong for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "tolerance": TOLERANCE, **asdict(self)}

    def sections(self) -> list[Section]:
        headers = ["tensor", "shape", "entries", "kinks", "too small", "wrong", "relative error"]
        rows = [
            [
                row.name,
                figure(row.shape),
                *map(str, (row.entries, row.kinks, row.too_small, row.wrong)),
                "" if row.error is None else f"{row.error:.1e}",
            ]
            for row in self.rows
        ]
        return [Table(headers, rows, ["tensor"], optional=["shape"]), self.summary()]

    def summary(self) -> str:
        bad = [row for row in self.rows if row.wrong]
        count = sum(row.entries for row in self.rows)
        text = f"{self.name}: {count} entries of {len(self.rows)} tensors, "
        if not bad:
            return f"{text}numerical and analytic gradient agree (relative error to {TOLERANCE:g})"
        worst = max(bad, key=lambda row: row.error or 0)
        return (
            f"{text}{len(bad)} tensors with a wrong gradient, the worst {worst.name} at "
            f"{list(worst.index)}: analytic {worst.analytic:.6g}, numerical {worst.numerical:.6g}"
        )


def compare_gradients(
    module: nn.Module, evaluate: Evaluate, inputs: Mapping[str, Tensor], name: str, entries: int = 4
) -> GradientCheck:
    """Compare `entries` values of each parameter that requires a gradient, and of each
    of `inputs`: half of them where the analytic gradient is largest, half at random,
    the same in every call.

    `evaluate` is the loss, a scalar in float64, as a function of the tensors' present
    values, which are changed and put back. Every evaluation draws the same random
    numbers (dropout) and begins with the same buffers.

    Raises InputError for a loss that is no number, not in float64, or another one each
    time, and UsageError where nothing requires a gradient.
    """
    with torch.inference_mode(False):
        wanted: dict[str, Tensor]
        wanted = {key: each for key, each in module.named_parameters() if each.requires_grad}
        wanted |= {key: each.requires_grad_() for key, each in inputs.items()}
        if not wanted:
            raise UsageError(f"{name} has neither a parameter nor an input with a gradient")
        loss = _Loss(module, evaluate)
        analytic = loss.gradients(wanted)
        value = loss()
        _check_loss(name, loss, value)
        chosen = torch.Generator().manual_seed(0)
        rows = []
        for key, tensor in wanted.items():
            gradient = analytic[key]
            indices = _indices(gradient, entries, chosen)
            rows.append(_row(key, tensor, gradient, indices, _Differences(loss, tensor, value)))
        return GradientCheck(name, value, tuple(rows))


class _Loss:
    """The loss as a function without memory."""

    def __init__(self, module: nn.Module, evaluate: Evaluate) -> None:
        self.evaluate = evaluate
        self.buffers = [(each, each.clone()) for each in module.buffers()]
        self.dtype = torch.float64

    @torch.no_grad()
    def __call__(self) -> float:
        with self._same_start():
            return float(self.evaluate())

    def gradients(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Zeros where the loss does not depend on a tensor."""
        with self._same_start(), torch.enable_grad():
            loss = self.evaluate()
            if loss.ndim:
                raise InputError(f"the loss has the shape {tuple(loss.shape)}: needs a scalar")
            self.dtype = loss.dtype
            found: Any = [None] * len(tensors)
            if loss.requires_grad:
                found = torch.autograd.grad(loss, [*tensors.values()], allow_unused=True)
        return {
            key: torch.zeros_like(each) if given is None else given
            for (key, each), given in zip(tensors.items(), found, strict=True)
        }

    @contextmanager
    def _same_start(self) -> Iterator[None]:
        with seeded(0):
            for buffer, kept in self.buffers:
                buffer.data.copy_(kept)
            yield


def _check_loss(name: str, loss: _Loss, value: float) -> None:
    if loss.dtype is not torch.float64:
        raise InputError(
            f"{name}: the loss comes out in {loss.dtype}, too coarse for a numerical gradient: "
            "something in it is not computed in float64"
        )
    if not math.isfinite(value):
        raise InputError(f"{name}: the loss is {value}: there is no gradient to compare")
    if value != loss():
        raise InputError(
            f"{name}: the loss is another one each time, with the same random numbers: "
            "there is no numerical gradient of it"
        )


class _Differences:
    """Differences of the loss where one value of a tensor is moved."""

    def __init__(self, loss: _Loss, tensor: Tensor, value: float) -> None:
        self.loss, self.tensor, self.value = loss, tensor, value

    def sides(self, index: tuple[int, ...], h: float) -> tuple[float, float]:
        """To the left and to the right."""
        values = self.tensor.data
        kept = values[index].item()
        try:
            found = []
            for moved in (kept - h, kept + h):
                values[index] = moved
                found.append((self.loss() - self.value) / (moved - kept))
        finally:
            values[index] = kept
        return found[0], found[1]

    def compare(self, index: tuple[int, ...], analytic: float) -> tuple[Entry, float, float]:
        """What becomes of an entry, its numerical gradient, and the relative error."""
        scale = max(1.0, abs(self.tensor.data[index].item()))
        tried: list[tuple[float, float]] = []  # relative error, numerical gradient
        for number, h in enumerate(STEPS):
            left, right = self.sides(index, h * scale)
            numerical = (left + right) / 2
            rounding = ROUNDING * max(abs(self.value), 1e-300) / (h * scale)
            distance, largest = abs(analytic - numerical), max(abs(analytic), abs(numerical))
            if largest <= rounding:
                return "too small", numerical, 0.0
            tried.append((distance / largest, numerical))
            if distance <= TOLERANCE * largest + rounding:
                return "kink" if number else "agrees", numerical, distance / largest
        slack = TOLERANCE * largest + rounding
        at_corner = abs(left - right) > 2 * slack
        between = min(left, right) - slack <= analytic <= max(left, right) + slack
        first, last = tried[0][0], tried[-1][0]
        if (at_corner and between) or (last < WRONG and last <= first / 4):
            return "kink", numerical, last
        error, numerical = min(tried)
        return "wrong", numerical, error


def _row(
    name: str,
    tensor: Tensor,
    gradient: Tensor,
    indices: list[tuple[int, ...]],
    differences: _Differences,
) -> GradientRow:
    counts: dict[Entry, int] = {"agrees": 0, "kink": 0, "too small": 0, "wrong": 0}
    judged: list[tuple[bool, float, tuple[int, ...], float, float]] = []
    for index in indices:
        analytic = gradient[index].item()
        kind, numerical, error = differences.compare(index, analytic)
        counts[kind] += 1
        if kind in ("agrees", "wrong") or (kind == "kink" and error <= TOLERANCE):
            judged.append((kind == "wrong", error, index, analytic, numerical))
    worst = max(judged, default=None)
    shown: dict[str, Any] = {"error": None}
    if worst:
        shown = dict(zip(("error", "index", "analytic", "numerical"), worst[1:], strict=True))
    return GradientRow(
        name=name,
        shape=tuple(tensor.shape),
        entries=len(indices),
        kinks=counts["kink"],
        too_small=counts["too small"],
        wrong=counts["wrong"],
        **shown,
    )


def _indices(gradient: Tensor, entries: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    flat = gradient.detach().abs().flatten()
    count = min(entries, len(flat))
    largest = flat.topk((count + 1) // 2).indices.tolist()
    others = torch.randperm(len(flat), generator=generator)[: 2 * count].tolist()
    numbers = list(dict.fromkeys([*largest, *others]))[:count]
    found = torch.unravel_index(torch.tensor(numbers, dtype=torch.long), gradient.shape)
    return [tuple(each) for each in torch.stack(found, 1).tolist()] if gradient.ndim else [()]

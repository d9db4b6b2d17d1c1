"""What is checked before a long run, on a copy of the network: the first loss, what
regularisation adds to it, that a few examples can be fitted, that every parameter gets
a gradient, and dead ReLUs (after the lecture notes of Stanford's CS231n, "Learning").
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import chain, islice, repeat
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from zoo.errors import ZooError
from zoo.formatting import some_of
from zoo.training.dead_units import DeadUnits
from zoo.training.findings import Checked, Finding
from zoo.training.step import Step
from zoo.training.untouched import as_before

TOLERANCE = 0.1  # of the loss of guessing: how far the first loss may lie from it
WIDE = 0.3  # standard deviation of logits from which on they explain a higher first loss
PASS_EXAMPLES, PASSES = 32, 3  # in a pass that looks for gradients and dead ReLUs
SKIPPING_PASSES = 12  # of networks that leave out parts at random: a half each time
FIT_EXAMPLES, FIT_STEPS = 8, 100
FITTED, FALLING = 0.5, 0.8  # of the first loss: from here on it is fitted, or at least falls
DEAD = 0.8  # share of a layer; an untrained deep network without batch norm may reach a half

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


def check_before(
    model: nn.Module,
    batches: Iterable[Any],
    step: Step,
    *,
    chance_loss: float | None,
    make_optimizer: MakeOptimizer,
    decay: float | None,
    seconds: float,
    device: torch.device | None = None,
) -> Checked:
    """Check a network on the first of `batches`, in training mode and on `device`.

    `chance_loss`: ln(classes), that of guessing; what equal logits give takes its place
    where the loss is no plain cross-entropy; None where nothing is known.
    `make_optimizer` gives that of the run for a copy of the network, `decay` is its
    weight decay. One pass is always made, the rest while it lasts no longer than
    `seconds`.

    The model, the random state and a loader's own generator are afterwards as before.
    Raises what the network or the loss raises for these batches.
    """
    started = perf_counter()
    with torch.inference_mode(False), torch.enable_grad(), as_before(batches):
        try:
            tried, step = copy.deepcopy((model, step))
        except Exception as error:
            text = f"{type(model).__name__} cannot be copied, so nothing was tried: {error}"
            return Checked((Finding("copy", None, text),), {}, perf_counter() - started)
        trial = _Trial(tried.to(device).train(), step, make_optimizer, started, seconds)
        findings, dead = trial.findings(batches, chance_loss, decay)
    return Checked(tuple(findings), dead, perf_counter() - started)


class _Trial:
    """A copy of the network, which is tried for `seconds`, half of it in passes."""

    def __init__(
        self,
        model: nn.Module,
        step: Step,
        make_optimizer: MakeOptimizer,
        started: float,
        seconds: float,
    ) -> None:
        self.model, self.step = model, step
        self.half_time, self.deadline = started + seconds / 2, started + seconds
        model.zero_grad(set_to_none=True)
        self.optimizer = make_optimizer(model)
        parts = (getattr(part, "skips_parameters", False) is True for part in model.modules())
        self.skips = any(parts)
        self.device = next((each.device for each in model.parameters()), torch.device("cpu"))
        self.trained = [name for name, each in model.named_parameters() if each.requires_grad]
        self.without = set(self.trained)  # no gradient yet
        self.zero = set(self.trained)  # none that is not zero

    @property
    def late(self) -> bool:
        return perf_counter() >= self.deadline

    def findings(
        self, batches: Iterable[Any], chance_loss: float | None, decay: float | None
    ) -> tuple[list[Finding], dict[str, float]]:
        given = iter(batches)
        batch = self._on_device(next(given, None))
        units = DeadUnits(self.model)
        some = _first(batch, PASS_EXAMPLES)
        outputs, loss = self._backward(some)
        first = float(loss.detach())
        shown = None if chance_loss is None else self._guessing(chance_loss, outputs, some)
        found = [_first_loss(first, outputs, shown), self._regularised(first, decay)]
        passes = SKIPPING_PASSES if self.skips else PASSES
        others = chain(map(self._on_device, islice(given, PASSES - 1)), repeat(batch))
        for _ in range(passes - 1):
            if perf_counter() >= self.half_time:
                break
            other = next(others)
            if other is batch and not self.without:
                break
            self._backward(_first(other, PASS_EXAMPLES))
        dead = units.shares()
        units.remove()
        found.append(self._fitted(_first(batch, FIT_EXAMPLES)))
        found.append(self._gradients(tried=found[-1].ok is not None))
        found.append(_dead(dead))
        return found, dead

    def _on_device(self, batch: Any) -> Any:
        from accelerate.utils import send_to_device

        if batch is None:
            raise ZooError("there is no batch to check the network on: the data are empty")
        return self.step.on_device(send_to_device(batch, self.device), True)

    def _backward(self, batch: Any) -> tuple[Any, Tensor]:
        """The outputs and the loss, as a first batch of an epoch has them."""
        self.optimizer.zero_grad(set_to_none=True)
        self.step.begin_epoch(1, True)
        outputs = self.step.forward(self.model, batch)
        found = self.step.loss(outputs, batch, self.model)
        loss = found[0] if isinstance(found, tuple) else found
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in self.model.named_parameters() if self.zero else ():
            if name in self.zero and parameter.grad is not None:
                self.without.discard(name)
                if parameter.grad.count_nonzero():
                    self.zero.discard(name)
        return outputs, loss

    @torch.no_grad()
    def _guessing(self, expected: float, outputs: Any, batch: Any) -> tuple[float, str]:
        """The loss of equal logits, and how it is called."""
        equal = tree_map_only(Tensor, _equal, outputs)
        found = self.step.loss(equal, batch, self.model)
        loss = float(found[0] if isinstance(found, tuple) else found)
        if math.isclose(loss, expected, rel_tol=1e-3):
            return loss, f"guessing gives ln(classes) = {expected:.3g}"
        return loss, f"equal logits give {loss:.3g} with this loss"

    def _regularised(self, loss: float, decay: float | None) -> Finding:
        name = "with regularisation"
        penalty = sum(
            0.5 * group.get("weight_decay", 0.0) * float(parameter.detach().double().square().sum())
            for group in self.optimizer.param_groups
            for parameter in group["params"]
        )
        if penalty > 0:
            more = f"{loss:.3g} + {penalty:.2g} = {loss + penalty:.3g}"
            return Finding(
                name, True, f"{more}, weight decay taken as a penalty on squared weights"
            )
        if not decay:
            return Finding(name, None, "no weight decay")
        return Finding(name, False, f"weight decay {decay:g} adds nothing: no weights have it")

    def _fitted(self, batch: Any) -> Finding:
        """Whether the run's optimizer brings the loss of a few examples down."""
        name, losses = "a few examples fitted", []

        def closure() -> Tensor:
            loss = self._backward(batch)[1]
            losses.append(float(loss.detach()))
            return loss

        for _ in range(FIT_STEPS):
            if self.late:
                break
            self.optimizer.step(closure)  # type: ignore[arg-type]  # a tensor, as L-BFGS takes it
            if not math.isfinite(losses[-1]) or losses[-1] <= FITTED * losses[0]:
                break
        if not losses:
            return Finding(name, None, "no time for it")
        steps = f"in {len(losses)} step{'s' if len(losses) > 1 else ''}"
        text = f"loss from {losses[0]:.3g} to {losses[-1]:.3g} {steps}"
        if not math.isfinite(losses[-1]):
            return Finding(name, False, f"{text}: lower the learning rate")
        best = min(losses)
        if best <= FITTED * losses[0]:
            return Finding(name, True, text)
        if self.late:
            return Finding(name, None, f"{text}; no time for more")
        if best <= FALLING * losses[0]:
            return Finding(name, True, f"{text}: it falls, slowly")
        rate = self.optimizer.param_groups[0]["lr"]
        why = f"learning rate {rate:g} is too low or too high, or labels do not go with inputs"
        return Finding(name, False, f"{text}: {why}")

    def _gradients(self, tried: bool) -> Finding:
        name, count = "gradients", len(self.trained)
        if missing := [each for each in self.trained if each in self.without]:
            shown = f"{len(missing)} of {count} parameter tensors have none: {some_of(missing, 4)}"
            left = " (parts are left out at random)" if self.skips else ""
            return Finding(name, None if self.skips else False, shown + left)
        if zero := [each for each in self.trained if each in self.zero]:
            shown = f"{len(zero)} of {count} parameter tensors have zeros only: {some_of(zero, 4)}"
            return Finding(name, False if tried else None, shown)
        return Finding(name, True, f"all {count} parameter tensors have one")


def _first_loss(loss: float, outputs: Any, guessing: tuple[float, str] | None) -> Finding:
    name = "first loss"
    if not math.isfinite(loss):
        return Finding(name, False, f"{loss}: check the inputs' scale (mean and std)")
    if guessing is None:
        return Finding(name, None, f"{loss:.3g}; what guessing gives is not known of this loss")
    chance, text = guessing[0], f"{loss:.3g}; {guessing[1]}"
    if abs(loss - chance) <= TOLERANCE * chance:
        return Finding(name, True, text)
    if loss < chance:
        return Finding(name, None, f"{text}: the head knows these classes already")
    spread = _spread(outputs)
    why = "the logits are nearly equal: check that the outputs are logits, and the classes"
    if spread is None:
        why = "the outputs are no logits"
    elif spread > WIDE:
        why = f"the logits have std {spread:.2g} at the start: the head's initialisation"
    return Finding(name, False, f"{text}; {why}")


def _dead(shares: Mapping[str, float]) -> Finding:
    name, unseen = "dead ReLUs", "ReLUs that are functions are not seen"
    if not shares:
        return Finding(name, None, f"no module is a ReLU; {unseen}")
    worst = max(shares, key=lambda path: shares[path])
    many = [path for path, share in shares.items() if share > DEAD]
    text = f"at most {shares[worst]:.0%} of a layer ({worst or 'the whole'}); {unseen}"
    if many:
        text = f"more than {DEAD:.0%} in {some_of(many, 4)}; {unseen}"
    return Finding(name, not many, text)


def _equal(logits: Tensor) -> Tensor:
    return logits.mean().expand_as(logits) if logits.is_floating_point() else logits


def _spread(outputs: Any) -> float | None:
    """Standard deviation of the logits of an example, mean over the examples."""
    logits = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
    if not isinstance(logits, Tensor) or logits.ndim < 2 or not logits.is_floating_point():
        return None
    return float(logits.detach().float().std(-1, correction=0).mean())


def _first(batch: Any, count: int) -> Any:
    """The first examples of a batch."""
    from accelerate.utils import find_batch_size

    size = find_batch_size(batch)

    def cut(tensor: Tensor) -> Tensor:
        return tensor[:count] if tensor.ndim and len(tensor) == size else tensor

    return tree_map_only(Tensor, cut, batch)

"""Many convex problems of the same shape at once, on their tensors' device: limited-
memory BFGS (J. Nocedal, 1980), and for L1 penalties its orthant-wise variant (G.
Andrew, J. Gao, 2007).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 10  # pairs of steps and changes of the gradient
DECREASE = 1e-4  # of the slope, that a step must bring (Armijo)
HALVINGS = 25

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@torch.no_grad()
def minimize(
    objective: Objective,
    start: Tensor,
    *,
    l1: Tensor | None = None,
    steps: int = 300,
    tolerance: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """The minimum of each problem, from `start` (B, P), and whether it was reached
    (B,).

    `objective(which, x)` gives values (b,) and gradients (b, P) of the smooth parts of
    the problems `which` (b,) at x (b, P). `l1` (B, P): weights of the absolute values,
    which are added to it. A problem has converged when the largest entry of its
    gradient is `tolerance` of what it is at zero or less.
    """
    x = start.clone()
    everything = torch.arange(len(x), device=x.device)
    penalty = torch.zeros_like(x) if l1 is None else l1
    zero = torch.zeros_like(x)
    scale = _descent(zero, objective(everything, zero)[1], penalty).abs().amax(1)
    enough = (tolerance * scale).clamp_min(torch.finfo(x.dtype).tiny)
    converged = torch.zeros_like(scale, dtype=torch.bool)
    state = _Problems(objective, everything, start.clone(), penalty)
    for _ in range(steps):
        done = state.slope().abs().amax(1) <= enough[state.which]
        converged[state.which[done]] = True
        x[state.which] = state.x
        state.keep(~done)
        if not len(state.which):
            break
        stuck = ~state.step()
        x[state.which] = state.x
        converged[state.which[stuck]] = True  # to the last digits
        state.keep(~stuck)
    x[state.which] = state.x
    return x, converged


class _Problems:
    """Those of the problems that are not solved yet."""

    def __init__(self, objective: Objective, which: Tensor, x: Tensor, l1: Tensor) -> None:
        self.objective, self.which, self.x, self.l1 = objective, which, x, l1
        self.value, self.gradient = objective(which, x)
        self.value = self.value + (l1 * x.abs()).sum(1)
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # s, y, 1 / (s·y) or 0

    def slope(self) -> Tensor:
        """Minus the direction of steepest descent."""
        return -_descent(self.x, self.gradient, self.l1)

    def keep(self, these: Tensor) -> None:
        if not these.all():
            for name in ("which", "x", "l1", "value", "gradient"):
                setattr(self, name, getattr(self, name)[these])
            self.pairs = [(s[these], y[these], r[these]) for s, y, r in self.pairs]

    def step(self) -> Tensor:
        """One step of each; False for those that found none that goes down."""
        descent = _descent(self.x, self.gradient, self.l1)
        direction = self._newton(descent)
        penalised = self.l1 > 0
        direction = torch.where(penalised & (direction * descent <= 0), 0.0, direction)
        wrong = (direction * descent).sum(1) <= 0
        direction[wrong] = descent[wrong]
        orthant = torch.where(self.x != 0, self.x.sign(), descent.sign())
        size = torch.ones_like(self.value)
        if not self.pairs:
            size = 1 / direction.abs().sum(1).clamp_min(1e-12)
        rounding = 4 * torch.finfo(self.x.dtype).eps * self.value.abs()
        open_ = torch.ones_like(wrong)
        x, value, gradient = self.x.clone(), self.value.clone(), self.gradient.clone()
        for _ in range(HALVINGS):
            trial = self.x[open_] + size[open_, None] * direction[open_]
            flipped = penalised[open_] & (trial * orthant[open_] <= 0)
            trial = torch.where(flipped, 0.0, trial)
            found, slope = self.objective(self.which[open_], trial)
            found = found + (self.l1[open_] * trial.abs()).sum(1)
            gain = ((trial - self.x[open_]) * descent[open_]).sum(1)
            good = found <= self.value[open_] - DECREASE * gain + rounding[open_]
            where = open_.nonzero()[:, 0][good]
            x[where], value[where], gradient[where] = trial[good], found[good], slope[good]
            open_[where] = False
            if not open_.any():
                break
            size[open_] *= 0.5
        s, y = x - self.x, gradient - self.gradient
        product = (s * y).sum(1)
        useful = product > 1e-10 * (y * y).sum(1).clamp_min(1e-30)
        inverse = torch.where(useful, 1 / product.where(useful, torch.ones_like(product)), 0.0)
        self.pairs = [*self.pairs[1 - MEMORY :], (s, y, inverse)]
        moved = (x != self.x).any(1)
        self.x, self.value, self.gradient = x, value, gradient
        return moved

    def _newton(self, descent: Tensor) -> Tensor:
        """The descent times the inverse Hessian, as the pairs tell it."""
        q = descent.clone()
        factors = []
        for s, y, inverse in reversed(self.pairs):
            a = inverse * (s * q).sum(1)
            q -= a[:, None] * y
            factors.append(a)
        if self.pairs:
            s, y, inverse = self.pairs[-1]
            squares = (y * y).sum(1).clamp_min(1e-30)
            q *= torch.where(inverse > 0, 1 / (inverse.clamp_min(1e-30) * squares), 1.0)[:, None]
        for (s, y, inverse), a in zip(self.pairs, reversed(factors), strict=True):
            q += s * (a - inverse * (y * q).sum(1))[:, None]
        return q


def _descent(x: Tensor, gradient: Tensor, l1: Tensor) -> Tensor:
    """The steepest descent of the sum with the L1 penalty: minus the gradient, and at
    zero what of it is more than the penalty.
    """
    at_zero = torch.sign(gradient) * (gradient.abs() - l1).clamp_min(0)
    return -torch.where((x != 0) | (l1 == 0), gradient + l1 * x.sign(), at_zero)

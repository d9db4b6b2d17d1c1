"""A search over the options of a recipe: where it looks, what it found, and the best as
a recipe's file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from zoo.errors import InputError, nearest
from zoo.formatting import Printable, Section, Table
from zoo.optimizers import OPTIMIZERS
from zoo.training.recipe import Recipe

LR_FACTOR = 30.0  # of the recipe's rate, to both sides
WEIGHT_DECAY = (1e-6, 1e-1)

Range = tuple[float, float]


def search_ranges(
    recipe: Recipe, fixed: Sequence[str], given: Mapping[str, Range] | None
) -> dict[str, Range]:
    """Lowest and highest value of each option that is searched: the given ones, else
    learning rate and weight decay, but for what is `fixed`. Raises InputError for what
    is no range of a number.
    """
    if given is None:
        lr = OPTIMIZERS[recipe.optimizer].lr if recipe.lr is None else recipe.lr
        usual = {"lr": (lr / LR_FACTOR, lr * LR_FACTOR), "weight_decay": WEIGHT_DECAY}
        given = {name: found for name, found in usual.items() if name not in fixed}
    numbers = [each.name for each in fields(Recipe) if each.metadata["option"].kind is float]
    for name, (low, high) in given.items():
        if name not in numbers:
            near = nearest(name, numbers) or f": expected {', '.join(numbers)}"
            raise InputError(f"ranges: {name!r} is no number of a recipe{near}")
        if name in fixed:
            raise InputError(f"ranges: {name} is given as {name}=…, too: leave one out")
        if not 0 < low < high < math.inf:
            raise InputError(f"ranges: {name} from {low} to {high}: need 0 < lowest < highest")
    if not given:
        raise InputError("nothing is left to search: give ranges, or fewer fixed options")
    return dict(given)


def rounded(value: float) -> float:
    """To three digits: as it is shown, it is tried and written."""
    return float(f"{value:.3g}")


@dataclass(frozen=True)
class SearchTrial:
    """One short run. `score` is its best epoch's on the validation data; None where the
    loss was no longer a number.
    """

    number: int
    values: Mapping[str, float]
    score: float | None
    seconds: float
    path: str


@dataclass(frozen=True, repr=False)
class Search(Printable):
    """The trials, the best first. `recipe` is the file of the best one's options."""

    name: str
    path: Path
    metric: str
    recipe: Path
    trials: tuple[SearchTrial, ...]

    @property
    def best(self) -> SearchTrial:
        return self.trials[0]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "recipe": str(self.recipe)}

    def sections(self) -> list[Section]:
        names = list(self.best.values)
        rows = [
            [
                str(each.number),
                *(f"{each.values[name]:g}" for name in names),
                "diverged" if each.score is None else f"{each.score:.4f}",
                f"{each.seconds:.1f}",
            ]
            for each in self.trials
        ]
        table = Table(["trial", *names, f"validation {self.metric}", "seconds"], rows)
        return [table, {"best": f"trial {self.best.number}", "its recipe": str(self.recipe)}]


def by_score(trials: Sequence[SearchTrial], higher_is_better: bool) -> tuple[SearchTrial, ...]:
    """The best first, those without a score last."""
    worst = -math.inf if higher_is_better else math.inf

    def key(trial: SearchTrial) -> float:
        score = worst if trial.score is None else trial.score
        return -score if higher_is_better else score

    return tuple(sorted(trials, key=key))


def recipe_toml(recipe: Recipe, comment: str) -> str:
    """A recipe's file with the options that are not the default."""
    lines = [f"# {comment}"]
    for each in fields(Recipe):
        value = getattr(recipe, each.name)
        if value != each.default and value is not None:
            shown = list(value) if isinstance(value, tuple) else value
            lines.append(f"{each.name} = {json.dumps(shown)}")
    return "\n".join(lines) + "\n"

"""Which learning rate to train with."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.training.lr_range import RangeTest
    from zoo.training.metrics import Mean
    from zoo.training.recipe import Recipe
    from zoo.training.recipe_changes import RecipeChanges
    from zoo.training.run import Run


def lr_find(
    what: str | os.PathLike[str] | Run | nn.Module,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    *,
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    pretrained: bool | None = None,
    recipe: str | os.PathLike[str] | Recipe = "finetune",
    lowest: float = 1e-7,
    highest: float = 10.0,
    steps: int = 100,
    seed: int = 0,
    loss: Callable[[Any, Any, nn.Module], Tensor | Mean] | None = None,
    **changes: Unpack[RecipeChanges],
) -> RangeTest:
    """Smith's range test (arXiv:1506.01186): a copy of what `zoo.finetune` would train
    with these arguments is trained for `steps` batches at rates that rise from `lowest`
    to `highest`, each by the same factor, until the smoothed loss is four times its
    lowest or no number.

    The result's `suggestion` is a tenth of the rate at which the smoothed loss was
    lowest; `steepest` the rate at which it fell fastest; `diverged` whether the test
    ended for that; `plot("lr.png")` draws the curve. Nothing is written, and a module
    at hand stays as it is.

    Raises what `zoo.finetune` raises before it trains, InputError for rates or steps
    that are none, and ZooError when the loss is no number from the start.
    """
    from zoo.api.trial import trial
    from zoo.training.lr_range import range_test
    from zoo.training.recipe_files import load_recipe

    chosen = load_recipe(recipe).changed(changes)
    with trial(
        what,
        data,
        chosen,
        verb="lr_find",
        val=val,
        classes=classes,
        pretrained=pretrained,
        seed=seed,
        loss=loss,
    ) as tried:
        return range_test(
            tried.model,
            tried.batches,
            tried.step,
            tried.make_optimizer,
            lowest=lowest,
            highest=highest,
            steps=steps,
            device=tried.device,
            name=tried.name,
            data=tried.data,
            optimizer=chosen.optimizer,
        )

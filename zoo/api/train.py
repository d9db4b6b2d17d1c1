"""Training from nothing, as a paper did."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

from zoo.api.finetune import finetune
from zoo.api.source import resolve
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.training.metrics import Mean
    from zoo.training.recipe import Recipe
    from zoo.training.recipe_changes import RecipeChanges
    from zoo.training.run import Run


def train(
    what: str,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any] | None = None,
    *,
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    model_args: Mapping[str, Any] | None = None,
    recipe: str | os.PathLike[str] | Recipe | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    loss: Callable[[Any, Any, nn.Module], Tensor | Mean] | None = None,
    callback: Callable[[dict[str, float], nn.Module], None] | None = None,
    progress: bool = True,
    **changes: Unpack[RecipeChanges],
) -> Run:
    """Train the network of a name from random weights, and write a run folder.

    Without `recipe` as its paper did: each recipe in `zoo/recipes` says what of it is
    the paper's. Without `data` on the set that the recipe names; on others its
    `val_fraction` does not count. Everything else is as in `zoo.finetune`.

    Raises UsageError where no paper's recipe is known, where the recipe names no data,
    and for what has weights already; and what `zoo.finetune` raises.
    """
    from zoo.training.recipe_files import recipe_file, recipe_of

    source = resolve(what)
    if source.origin is None or source.module is not None or source.weights or source.record:
        raise UsageError(
            f"{source.name} has weights, and train begins from nothing: give the name of a "
            "network, or finetune it"
        )
    if recipe is not None:
        found = recipe_file(recipe)
    else:
        of_paper = recipe_of(source.origin.architecture)
        if of_paper is None:
            raise UsageError(
                f"no paper's recipe is known for {source.name}: recipe=… names another, such as "
                "resnet or resnet_cifar10, or a TOML file"
            )
        found = of_paper
    chosen = found.recipe
    if data is None:
        data = found.data
    elif found.data and data != found.data:  # whose part for validation it is
        chosen = chosen.changed({"val_fraction": None})
    if data is None:
        named = f"the recipe {found.name}" if found.name else "a Recipe"
        raise UsageError(f"{named} names no data set: give data=…")
    return finetune(
        what,
        data,
        val=val,
        classes=classes,
        pretrained=False,
        model_args=model_args,
        recipe=replace(found, recipe=chosen),
        out=out,
        seed=seed,
        loss=loss,
        callback=callback,
        progress=progress,
        **changes,
    )

"""A network, data and a recipe as a training begins with them, to try something before:
nothing is written, and what was given stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.api.build import build
from zoo.api.job import initial_weights
from zoo.api.pretrained import published, with_backbones
from zoo.api.records import default_tag
from zoo.api.source import Source, resolve
from zoo.errors import UsageError

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn

    from zoo.training.recipe import Recipe
    from zoo.training.step import Loss, Step

EXAMPLES = 8  # of random inputs


@dataclass(frozen=True)
class Trial:
    """`chance_loss`: of guessing; None where it is not known. `model` is a copy."""

    name: str
    data: str
    model: nn.Module
    batches: Any
    step: Step
    recipe: Recipe
    chance_loss: float | None
    device: Any = "cpu"

    def make_optimizer(self, model: nn.Module, **options: Any) -> torch.optim.Optimizer:
        """That of the recipe for a copy of the model; `options` take its place."""
        from zoo.transfer.param_groups import recipe_optimizer

        return recipe_optimizer(self.recipe, model, **options)


@contextmanager
def trial(
    what: Any,
    data: Any,
    recipe: Recipe,
    *,
    verb: str,
    val: Any = None,
    classes: Any = None,
    pretrained: bool | None = None,
    seed: int = 0,
    loss: Loss | None = None,
) -> Iterator[Trial]:
    """What `zoo.finetune` would train with these arguments, with a head for the data's
    classes; without data the network as it is, and an example of its inputs. Raises
    what `zoo.finetune` raises.
    """
    from zoo.training.environment import accelerator_for, seeded, threads_for

    source = resolve(what)
    source.require_whole(verb)
    if source.run:
        source = replace(source, module=None)
    with seeded(seed), accelerator_for(recipe) as accelerator:
        if data is None:
            found = _example(source, recipe, loss)
        else:
            given = {"val": val, "classes": classes, "pretrained": pretrained, "seed": seed}
            found = _opened(source, data, recipe, loss, accelerator, **given)
        device = accelerator.device
        with threads_for(found.model):
            yield replace(found, model=found.model.to(device), device=device)


def _opened(
    source: Source,
    data: Any,
    recipe: Recipe,
    loss: Loss | None,
    accelerator: Accelerator,
    *,
    val: Any,
    classes: Any,
    pretrained: bool | None,
    seed: int,
) -> Trial:
    from zoo.count.meta import copy_of_numbers
    from zoo.tasks import task_of
    from zoo.transfer.batch_size import DEFAULT_BATCH
    from zoo.transfer.freeze import freeze_groups
    from zoo.transfer.new_head import with_head
    from zoo.transfer.param_groups import at_its_rate
    from zoo.transfer.training import Training
    from zoo.weights.cache import cache_folder

    task = task_of(source.task)()
    task.cache = cache_folder() / "features"
    split = task.open(
        data,
        val=val,
        classes=classes,
        val_fraction=recipe.val_fraction,
        test_fraction=recipe.test_fraction,
        seed=seed,
        progress=False,
    )
    if loss is None:
        task.check(split)
    if source.module is None and not source.weights and source.origin:
        known = source.record or default_tag(source.origin.architecture, source.family)
        wanted = known if pretrained is None else pretrained
        source = published(source) if wanted else with_backbones(source)
    own = source.module
    model = (
        build(source, **task.model_args(split, source.family))
        if own is None
        else copy_of_numbers(own)
    )
    prepared = task.prepare(model, split, recipe)
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else DEFAULT_BATCH
    train, evaluation = task.loaders(prepared.split, recipe, batch_size=size, seed=seed)
    asked = Training(
        split=split,
        recipe=recipe,
        task=task,
        accelerator=accelerator,
        name=source.name,
        identity={"initial_weights": initial_weights(source, None)},
        seed=seed,
        loss=loss,
        progress=False,
        features=task.cache,
    )
    model, names, fitted = with_head(model, asked, evaluation)
    if last := asked.strategy.last:
        freeze_groups(model, last=last)
    minimised = loss or (source.family.loss if source.family else None)
    guessing = len(names) > 1 and not (fitted or loss)
    return Trial(
        name=source.name,
        data=split.name,
        model=model,
        batches=train,
        step=task.step(prepared.split, minimised),
        recipe=at_its_rate(recipe, asked.trained_before),
        chance_loss=math.log(len(names)) if guessing else None,
    )


def _example(source: Source, recipe: Recipe, loss: Loss | None) -> Trial:
    """A batch of random inputs, with targets that fit: a classifier's are all 0."""
    import torch

    from zoo.api.workload import real_workload
    from zoo.tasks import task_of
    from zoo.training.step import Step

    if source.variant is None:
        raise UsageError(f"what {source.name} is for is not known: give data")
    task = task_of(source.task)()
    size = recipe.batch_size if isinstance(recipe.batch_size, int) else EXAMPLES
    workload = real_workload(source, recipe.input_size, min(size, EXAMPLES))
    with torch.no_grad():
        outputs = workload.module.eval()(*workload.args)
    minimised = loss or (source.family.loss if source.family else None)
    logits = isinstance(outputs, torch.Tensor) and outputs.ndim == 2
    guessing = task.name == "classify" and logits and loss is None
    return Trial(
        name=source.name,
        data="random inputs",
        model=workload.module,
        batches=[task.example_batch(workload.args, outputs)],
        step=Step(forward=task.forward, loss=minimised or task.loss, begin_epoch=task.begin_epoch),
        recipe=recipe,
        chance_loss=math.log(outputs.shape[1]) if guessing else None,
    )

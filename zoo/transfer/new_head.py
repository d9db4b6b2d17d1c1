"""The head that a network gets for the classes of the data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import nn

from zoo.errors import warn
from zoo.training.environment import seeded
from zoo.transfer.heads import fit_head, output_shape, output_width
from zoo.transfer.probe import plain, with_probe
from zoo.transfer.quick_probe import can_probe, quick_probe
from zoo.transfer.training import Training

MOST = 10_000  # images that it is fitted on


def with_head(
    model: nn.Module, asked: Training, val: Any
) -> tuple[nn.Module, tuple[str, ...], bool]:
    """The network with a head for the data's classes, these, and whether the head is
    new and fitted already.
    """
    split, classes = asked.split, asked.split.classes
    inputs = asked.task.head_inputs(val)
    if inputs is None:
        return model, (), False
    classes = classes or tuple(map(str, range(output_width(model, inputs))))
    fits = output_shape(model, inputs)[1:] == (len(classes),)
    model = fit_head(model, len(classes), inputs)
    goes_on = asked.resumed is not None and asked.resumed.state is not None
    first = asked.recipe.probe_first and not fits and not goes_on and can_probe(asked)
    fitted = first and fit_first_head(model, asked)
    if asked.loss is None and classes != split.classes:  # their number is known only now
        with seeded(asked.seed):
            asked.task.check(replace(split, classes=classes))
    return model, classes, fitted


def fit_first_head(model: nn.Module, asked: Training) -> bool:
    """Give the network a linear head that is fitted while the rest is frozen: gradients
    of a random one would spoil what is trained already (Kumar et al., "Fine-Tuning can
    Distort Pretrained Features and Underperform Out-of-Distribution", 2022, section 3).
    False where its own last layer cannot take that head; then that one is as new.
    """
    classes = len(asked.split.classes)
    found = quick_probe(model, asked, max(1, MOST // classes))
    task = type(asked.task)()
    prepared = task.prepare(model, asked.split, plain(asked.recipe)).split
    if with_probe(model, prepared, task, asked.recipe, found).module is not model:
        model.requires_grad_(True)  # the probe around it had frozen it
        return False
    share = found.cross_validated or found.accuracy
    warn(f"the new head is fitted first, the rest frozen: {share:.1%} by cross-validation")
    return True

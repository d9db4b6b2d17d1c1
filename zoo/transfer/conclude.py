"""What people look at after a run."""

from __future__ import annotations

from torch import nn

from zoo.spec import Preprocessing
from zoo.tasks.base import EvaluationOptions
from zoo.training.run import Run
from zoo.training.run_card import write_card
from zoo.transfer.training import Training


def conclude(
    run: Run, model: nn.Module, asked: Training, preprocessing: Preprocessing | None
) -> None:
    """What people look at after a run: what the best weights are worth, and the card.
    The first process writes it.
    """
    if not (asked.recipe.report and asked.accelerator.is_main_process):
        return
    now = {key: value.clone() for key, value in model.state_dict().items()}
    training = model.training
    options = EvaluationOptions(
        batch_size=run.config["recipe"]["batch_size"],
        workers=asked.recipe.workers,
        progress=asked.progress,
    )
    try:
        report = asked.task.report(
            run.load_best(model),
            asked.split,
            run.path,
            options,
            classes=run.classes,
            preprocessing=preprocessing,
            selected="" if asked.strategy.kind.startswith("probe") else "epoch",
        )
    finally:
        model.load_state_dict(now)
        model.train(training)
    write_card(run, report)

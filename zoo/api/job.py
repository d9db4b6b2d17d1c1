"""What a training run is asked to do, and a run that goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import DataError, UsageError

if TYPE_CHECKING:
    from zoo.api.source import Source
    from zoo.training.recipe import Recipe
    from zoo.training.run import Run
    from zoo.transfer.training import Resumed


@dataclass(frozen=True)
class Job:
    """What is trained, on what, and how: as it was asked for, or as a run that goes on
    was begun.
    """

    what: Any
    data: Any
    recipe: Recipe
    seed: int
    _: KW_ONLY
    pretrained: bool | None = None
    checkpoint_path: str | os.PathLike[str] | None = None
    layout: str = ""
    recipe_name: str = ""  # "" of a Recipe that was given
    model_args: Mapping[str, Any] = field(default_factory=dict)  # of a network that is built
    out: Path | None = None
    resumed: Resumed | None = None

    def begun(self, loss: Any) -> dict[str, Any]:
        """What config.json says of it, so that it can go on, or be done again; None
        stands for an object.
        """

        def named(value: Any) -> str | None:
            if not isinstance(value, (str, os.PathLike)):
                return None
            path = Path(value)
            return str(path.absolute()) if path.exists() else os.fspath(value)

        return {
            "what": self.what if isinstance(self.what, str) else named(self.what),
            "pretrained": self.pretrained,
            "checkpoint_path": named(self.checkpoint_path),
            "layout": self.layout,
            "recipe": self.recipe_name,
            "model_args": dict(self.model_args),
            "own_loss": loss is not None,
        }


def resumed(
    resume: str | os.PathLike[str] | Run, what: Any, data: Any, given: list[str], own_loss: bool
) -> Job:
    """The job of a run that was stopped. Raises UsageError where it is finished, or
    `given` are options that it was begun with.
    """
    from zoo.training.recipe import Recipe
    from zoo.training.run import Run
    from zoo.transfer.training import Resumed

    run = Run.open(resume.path if isinstance(resume, Run) else Path(resume))
    if given:
        raise UsageError(
            f"{run.path} goes on with the options that it was begun with: leave out "
            f"{', '.join(given)}"
        )
    if run.finished:
        raise UsageError(
            f"{run.path} is finished, after {len(run.history)} epochs: `zoo finetune {run.path} "
            "--data …` begins a new run with its weights"
        )
    begun = run.config.get("begun")
    if begun is None:
        raise DataError(f"{run.path} is of another version of zoo: it cannot be gone on with")
    reopened = run.config["data"]["reopen"] or None
    for word, value, known in (("data", data, reopened), ("a module", what, begun["what"])):
        if value is None and known is None:
            raise UsageError(f"{run.path} was begun with {word} that is an object: give it again")
    if begun["own_loss"] and not own_loss:
        raise UsageError(f"{run.path} was begun with a loss of its own: give loss=… again")
    state = run.checkpoint()
    return Job(
        what if what is not None else begun["what"],
        data if data is not None else reopened,
        Recipe().changed(run.config["recipe"]),
        run.config["seed"],
        pretrained=begun["pretrained"],
        checkpoint_path=begun["checkpoint_path"],
        layout=begun["layout"],
        recipe_name=begun.get("recipe", ""),
        model_args=begun.get("model_args", {}),
        resumed=Resumed(run=run, state=state),
    )


def initial_weights(source: Source, checkpoint: Path | None) -> str:
    """What the weights were before training, apart from a new head: "random", a file,
    the `name.tag` of published ones, or "the module's own".
    """
    if source.module is not None:
        return "the module's own"
    if source.published:
        return source.name
    found = checkpoint or source.weights
    return str(found) if found else "random"

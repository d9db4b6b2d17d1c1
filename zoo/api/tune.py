"""A search for the options to train with."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

from zoo.api.finetune import finetune
from zoo.api.source import resolve
from zoo.errors import (
    DataError,
    UsageError,
    WeightsError,
    ZooError,
    ZooWarning,
    check_choice,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn
    from torch.utils.data import DataLoader, Dataset

    from zoo.training.metrics import Mean
    from zoo.training.recipe import Recipe
    from zoo.training.recipe_changes import RecipeChanges
    from zoo.training.run import Run
    from zoo.training.search import Search, SearchTrial

EPOCHS = 3  # of a trial
SAMPLERS = ("random", "tpe")


def tune(
    what: str | os.PathLike[str] | Run | nn.Module,
    data: str | os.PathLike[str] | Dataset[Any] | DataLoader[Any],
    trials: int = 20,
    *,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    sampler: str = "random",
    val: Dataset[Any] | DataLoader[Any] | None = None,
    classes: Sequence[str] | None = None,
    pretrained: bool | None = None,
    recipe: str | os.PathLike[str] | Recipe = "finetune",
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    loss: Callable[[Any, Any, nn.Module], Tensor | Mean] | None = None,
    progress: bool = True,
    **changes: Unpack[RecipeChanges],
) -> Search:
    """Random search for options of a recipe: `trials` short runs of `zoo.finetune` with
    values drawn evenly on a logarithmic scale, sorted by the score that selects epochs,
    on the validation data. The best one's score is therefore too high by chance.

    `ranges`: lowest and highest value by option (`{"lr": (1e-4, 1e-1)}`); by default
    the learning rate, thirty times to both sides of the recipe's, and weight decay,
    1e-6 to 0.1, but for what `changes` fix. `epochs` are those of a trial: 3.
    `minutes`: no trial begins after so many. `sampler`: "random", or "tpe", optuna's
    own, which learns from the trials before.

    The folder `out`, by default the first free runs/tune-NAME-N, holds the trials' run
    folders, `trials.json` and `best.toml`, both after every trial: the recipe with the
    best values, and its own epochs. A module at hand stays as it is.

    Needs optuna (the extra `tune`). Raises what `zoo.finetune` raises, but for a loss
    that is no longer finite: such a trial has no score.
    """
    from zoo.training.place import check_free, check_place
    from zoo.training.recipe_files import load_recipe
    from zoo.training.search import Search, search_ranges

    check_choice("zoo.tune", "sampler", sampler, SAMPLERS)
    if trials < 1:
        raise UsageError(f"trials={trials}: needs one or more")
    minutes = changes.pop("minutes", None)
    if minutes is not None and not minutes > 0:
        raise UsageError(f"minutes={minutes}: needs a number above 0")
    begun = load_recipe(recipe)
    tried = begun.changed(
        {"epochs": EPOCHS, "strategy": "full", **changes, "check": False, "report": False}
    )
    looked = search_ranges(tried, list(changes), ranges)
    optuna = _optuna()
    source = resolve(what)
    if out is not None:
        folder = Path(out).expanduser()
        check_free(folder)
    else:
        check_place()
        stem = re.sub(r"[^\w.-]+", "_", source.name)
        names = (Path("runs") / f"tune-{stem}-{number}" for number in count(1))
        folder = next(path for path in names if not path.exists())
    kept = begun.changed({key: value for key, value in changes.items() if key != "epochs"})
    log = _Log(source.name, folder, kept, trials, progress)

    def objective(trial: Any) -> float:
        values = {name: _suggested(trial, name, *found) for name, found in looked.items()}
        run_folder = folder / f"trial-{trial.number + 1}"
        started = perf_counter()
        score = None
        try:
            run = finetune(
                _fresh(what),
                data,
                val=val,
                classes=classes,
                pretrained=pretrained,
                recipe=tried.changed(values),
                out=run_folder,
                seed=seed,
                loss=loss,
                progress=False,
            )
            log.metric = run.metric
            log.higher_is_better = bool(run.config.get("higher_is_better"))
            score = run.score
        except (UsageError, DataError, WeightsError):
            raise
        except ZooError as error:  # the loss is no longer a number
            log.say(str(error))
        log.add(trial.number + 1, values, score, perf_counter() - started, run_folder)
        if score is None:
            raise optuna.TrialPruned()
        return score if log.higher_is_better else -score

    with _quiet(optuna):
        samplers = optuna.samplers
        kind = samplers.RandomSampler if sampler == "random" else samplers.TPESampler
        study = optuna.create_study(direction="maximize", sampler=kind(seed=seed))
        timeout = None if minutes is None else 60 * minutes
        study.optimize(objective, n_trials=trials, timeout=timeout)
    if all(each.score is None for each in log.trials):
        raise ZooError(
            f"the loss of all {len(log.trials)} trials became no number: lower the rates"
        )
    return Search(source.name, folder, log.metric, folder / "best.toml", log.sorted)


class _Log:
    """What the folder says of the trials so far."""

    def __init__(self, name: str, folder: Path, recipe: Recipe, count: int, show: bool) -> None:
        self.name, self.folder, self.recipe = name, folder, recipe
        self.count, self.show = count, show
        self.trials: list[SearchTrial] = []
        self.metric, self.higher_is_better = "loss", False

    @property
    def sorted(self) -> tuple[SearchTrial, ...]:
        from zoo.training.search import by_score

        return by_score(self.trials, self.higher_is_better)

    def add(
        self,
        number: int,
        values: Mapping[str, float],
        score: float | None,
        seconds: float,
        folder: Path,
    ) -> None:
        from zoo.files import write
        from zoo.training.search import SearchTrial, recipe_toml

        self.trials.append(SearchTrial(number, values, score, seconds, str(folder)))
        shown = ", ".join(f"{key} {value:g}" for key, value in values.items())
        result = "diverged" if score is None else f"validation {self.metric} {score:.4f}"
        self.say(f"trial {number} of {self.count}: {shown}: {result}")
        best = self.sorted[0]
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [{**vars(each)} for each in self.sorted]
        write(self.folder / "trials.json", json.dumps(lines, indent=2) + "\n")
        if best.score is not None:
            comment = f"{self.name}, trial {best.number}: validation {self.metric} {best.score:.4f}"
            toml = recipe_toml(self.recipe.changed(best.values), comment)
            write(self.folder / "best.toml", toml)

    def say(self, line: str) -> None:
        if self.show:
            print(line, file=sys.stderr, flush=True)


def _suggested(trial: Any, name: str, low: float, high: float) -> float:
    from zoo.training.search import rounded

    return rounded(trial.suggest_float(name, low, high, log=True))


def _fresh(what: Any) -> Any:
    """A module is trained in place: each trial gets its own."""
    torch = sys.modules.get("torch")
    if not torch or not isinstance(what, torch.nn.Module):
        return what
    from zoo.count.meta import copy_of_numbers

    return copy_of_numbers(what)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            "zoo.tune needs optuna, which is not installed: pip install 'classic-zoo[tune]'"
        ) from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """optuna's own lines are ours already, and each run's notes would be repeated."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ZooWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)

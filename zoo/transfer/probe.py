"""Probes: heads fitted on the features of a frozen network, which are computed once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn

from zoo.data.datasets import DataSplit
from zoo.data.labels import first_batch
from zoo.errors import UsageError
from zoo.formatting import Printable, Section, Table
from zoo.tasks.base import Task
from zoo.tasks.scores import wilson
from zoo.training.metrics import PARTS
from zoo.training.recipe import Recipe
from zoo.transfer.features import Features, compute_features
from zoo.transfer.fitted import FittedHead, accuracy, best_trial, deepest_good, logits_of
from zoo.transfer.head_options import HeadOptions, fit_head_on_features
from zoo.transfer.probe_module import with_fitted_head
from zoo.transfer.probe_plot import draw_depth
from zoo.transfer.stages import INPUT, PRE_LOGITS, stage_names

SAMPLE = 8  # images that the network with its new head is tried on


@dataclass(frozen=True, repr=False)
class ProbeResult(Printable):
    """A head on some stages of a network: the sweep by cross-validation on the training
    images, and how many of the `val_images`, which took no part in it, are `right`.
    `module` is the network with that head.
    """

    stages: tuple[str, ...]
    options: HeadOptions
    head: FittedHead
    width: int  # columns of the features
    train_images: int
    val_images: int
    right: int
    seconds: float  # of the fit, without the features
    num_classes: int
    measured: Mapping[str, float]  # loss and accuracy on both parts, as a run records them
    module: nn.Module | None = field(default=None, compare=False)

    @property
    def accuracy(self) -> float:
        """On the validation images, from 0 to 1."""
        return self.right / self.val_images

    @property
    def cross_validated(self) -> float | None:
        """The accuracy on the training images, from 0 to 1, of the setting that was
        chosen; None where only one was given. It chooses among probes.
        """
        return best_trial(self.head.trials).accuracy if self.head.trials else None

    def sections(self) -> list[Section]:
        low, high = wilson(self.right, self.val_images)
        facts = {
            "head": f"{self.options.kind} on {' + '.join(self.stages)} ({self.width:,} values)",
            "chosen": ", ".join(f"{key} {_text(value)}" for key, value in self.head.values.items()),
            "accuracy": f"{100 * self.accuracy:.2f} % of {self.val_images:,} validation images "
            f"(95 % interval {low:.2f} to {high:.2f})",
            "fitted": f"on {self.train_images:,} images in {self.seconds:.1f} s",
        }
        if not self.head.trials:
            return [facts]
        keys = list(self.head.values)
        rows = [
            [
                *(_text(trial.values[key]) for key in keys),
                f"{100 * trial.accuracy:.2f}",
                f"{trial.loss:.3f}",
                "chosen" if trial.values == self.head.values else "",
            ]
            for trial in self.head.trials
        ]
        return [facts, Table([*keys, "accuracy (%)", "loss", ""], rows, left=("",)), CHOSEN_BY]

    def to_dict(self) -> dict[str, Any]:
        trials = [
            {**trial.values, "accuracy": trial.accuracy, "loss": trial.loss}
            for trial in self.head.trials
        ]
        return {
            "stages": list(self.stages),
            "options": self.options.to_dict(),
            "chosen": dict(self.head.values),
            "trials": trials,
            "accuracy": self.accuracy,
            "train_images": self.train_images,
            "val_images": self.val_images,
            "seconds": self.seconds,
        }


CHOSEN_BY = "accuracy and loss of each setting: by cross-validation on the training images"


@dataclass(frozen=True, repr=False)
class StageProbes(Printable):
    """A probe per stage, from input to head."""

    network: str
    data: str
    results: tuple[ProbeResult, ...]

    @property
    def best(self) -> ProbeResult:
        """The deepest whose accuracy, by cross-validation on the training images (where
        there was none, on the validation images), is within a standard error of the
        highest: of few images the highest is often one by chance.
        """
        shares = [
            each.accuracy if each.cross_validated is None else each.cross_validated
            for each in self.results
        ]
        return self.results[deepest_good(shares, self.results[0].train_images)]

    def sections(self) -> list[Section]:
        rows = []
        for each in self.results:
            low, high = wilson(each.right, each.val_images)
            chosen = ", ".join(f"{key} {_text(value)}" for key, value in each.head.values.items())
            own = each.cross_validated
            rows.append(
                [
                    " + ".join(each.stages),
                    f"{each.width:,}",
                    chosen,
                    "" if own is None else f"{100 * own:.2f}",
                    f"{100 * each.accuracy:.2f}",
                    f"{low:.1f} to {high:.1f}",
                ]
            )
        headers = ["stage", "values", "chosen", "cross-val. (%)", "validation (%)", "95 % interval"]
        return [Table(headers, rows, left=("stage", "chosen"))]

    def plot(self, path: str | Path) -> None:
        """Write a PNG: accuracy against depth."""
        title = f"{self.network} on {self.data}: a {self.results[0].options.kind} head per stage"
        points = {
            " + ".join(each.stages): (each.cross_validated, each.accuracy) for each in self.results
        }
        draw_depth(points, Path(path), title=title)

    def to_dict(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "data": self.data,
            "best": list(self.best.stages),
            "stages": [each.to_dict() for each in self.results],
        }


def probe(
    model: nn.Module,
    split: DataSplit,
    task: Task,
    recipe: Recipe,
    *,
    stages: str | Sequence[str] = PRE_LOGITS,
    head: HeadOptions | None = None,
    mirrored: bool = False,
    cache: Path | None = None,
    progress: bool = True,
) -> ProbeResult:
    """A head on the stages of a network, or on several side by side, fitted on the
    training images without augmentation. Raises UsageError for a stage that there is
    not.
    """
    train, val = split_features(
        model, split, task, recipe, stages, mirrored=mirrored, cache=cache, progress=progress
    )
    return fit_probe(train, val, head or HeadOptions(), next(model.parameters()).device)


def with_probe(
    model: nn.Module,
    split: DataSplit,
    task: Task,
    recipe: Recipe,
    found: ProbeResult,
    *,
    mirrored: bool = False,
) -> ProbeResult:
    """The probe with its `module`, the network with the fitted head: the network
    itself, changed in place, where its own last layer could take the head, else a Probe
    around it. `split` is as it was prepared for the network.
    """
    _, loader = task.loaders(split, recipe, batch_size=SAMPLE, seed=0)
    images = first_batch(loader, range(min(SAMPLE, len(loader.dataset))))[0]
    module = with_fitted_head(
        model, found.stages, found.head.module, images, mirrored=mirrored, seed=found.options.seed
    )
    return replace(found, module=module)


def plain(recipe: Recipe) -> Recipe:
    """The recipe for images as evaluation sees them; files are read again only where
    their features are not kept.
    """
    return replace(recipe, augment="none", cache="off")


def probe_stages(
    model: nn.Module,
    split: DataSplit,
    task: Task,
    recipe: Recipe,
    *,
    stages: Sequence[str] = (),
    head: HeadOptions | None = None,
    mirrored: bool = False,
    cache: Path | None = None,
    progress: bool = True,
) -> StageProbes:
    """A probe per stage, on features of one pass. By default all but the pixels, and
    what the head takes only where it is not what the last stage gives.
    """
    wanted = tuple(stages) or tuple(name for name in stage_names(model) if name != INPUT)
    train, val = split_features(
        model, split, task, recipe, wanted, mirrored=mirrored, cache=cache, progress=progress
    )
    if not stages and len(wanted) > 1 and wanted[-1] == PRE_LOGITS:
        before, last = train.of(wanted[-2]).x, train.of(PRE_LOGITS).x
        if before.shape == last.shape and (before - last).abs().max() <= 1e-5 * last.abs().max():
            wanted = (*wanted[:-2], PRE_LOGITS)
    device = next(model.parameters()).device
    results = [
        fit_probe(train.of(stage), val.of(stage), head or HeadOptions(), device) for stage in wanted
    ]
    network = getattr(model, "architecture", "") or type(model).__name__
    return StageProbes(network, split.name, tuple(results))


def split_features(
    model: nn.Module,
    split: DataSplit,
    task: Task,
    recipe: Recipe,
    stages: str | Sequence[str],
    **options: Any,
) -> tuple[Features, Features]:
    """Features of the training and of the validation images, both as evaluation sees
    them, in the batches and the precision of the recipe; options of `compute_features`.
    """
    prepared = task.prepare(model, split, plain(recipe)).split
    given: Any = (task, recipe, stages)
    train, val = (part_features(model, prepared, part, *given, **options) for part in PARTS)
    return train, val


def part_features(
    model: nn.Module,
    prepared: DataSplit,
    part: str,
    task: Task,
    recipe: Recipe,
    stages: str | Sequence[str],
    **options: Any,
) -> Features:
    """Of one part of prepared data, in its order; options of `compute_features`."""
    batch_size = recipe.batch_size if isinstance(recipe.batch_size, int) else 32
    chosen = replace(prepared, val=getattr(prepared, part))
    _, loader = task.loaders(chosen, recipe, batch_size=batch_size, seed=0)
    return compute_features(
        model,
        loader,
        stages,
        classes=prepared.classes,
        mixed_precision=recipe.mixed_precision or "no",
        title=f"features of the {PARTS[part]} images",
        on_device=task.on_device,
        **options,
    )


def fit_probe(
    train: Features, val: Features, options: HeadOptions, device: Any = "cpu"
) -> ProbeResult:
    """A head fitted on features, on this device. Raises UsageError for validation
    classes that were not trained.
    """
    if not len(val):
        raise UsageError("there are no validation images to test a probe on")
    begin = time.perf_counter()
    classes = len(train.classes) or int(train.y.max()) + 1
    if int(val.y.max()) >= classes:
        raise UsageError(f"the validation data have the class number {int(val.y.max())}")
    head = fit_head_on_features(train.x.to(device), train.y.to(device), classes, options)
    seconds = time.perf_counter() - begin
    measured = {}
    for part, features in (("train", train), ("val", val)):
        x, y = features.x.to(device), features.y.to(device)
        measured[f"{part}_loss"] = float(F.cross_entropy(logits_of(head.module, x), y))
        measured[f"{part}_accuracy"] = accuracy(head.module, x, y)
    return ProbeResult(
        train.stages,
        options,
        head,
        width=train.x.shape[1],
        train_images=len(train),
        val_images=len(val),
        right=round(measured["val_accuracy"] * len(val)),
        seconds=seconds,
        num_classes=classes,
        measured=measured,
    )


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

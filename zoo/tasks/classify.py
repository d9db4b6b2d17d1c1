"""Images and their classes: one label each, cross-entropy, accuracy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing import current_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from zoo.data.cache import prepared
from zoo.data.datasets import DataSplit, ImageDataset
from zoo.data.image import EvalTransform
from zoo.data.labelled import open_labelled
from zoo.data.labels import check_batch, check_labels, first_batch, is_labelled
from zoo.data.mixing import Mixing
from zoo.data.open import open_data
from zoo.data.order import Order, OrderedLoader
from zoo.data.pixels import PixelBatch, PixelDataset
from zoo.data.transforms import preprocessing_of
from zoo.errors import DataError, UsageError, warn
from zoo.spec import Family, Preprocessing
from zoo.tasks.base import EvaluationOptions, Prepared, Task, Tested
from zoo.tasks.classify_files import classify_files
from zoo.tasks.evaluation import evaluate_networks
from zoo.tasks.fit_images import fit_preprocessing
from zoo.tasks.image_files import Files
from zoo.tasks.predictions import Predictions
from zoo.tasks.run_report import RunReport, report_run
from zoo.tasks.scores import Evaluation, Evaluations
from zoo.training.metrics import ChartMetric, Mean

if TYPE_CHECKING:
    from zoo.training.recipe import Recipe

DAEMONIC = "this process, as those of multiprocessing.Pool, may start no others"


class Classify(Task):
    """Image classification: batches of (images (N, C, H, W), class numbers (N,)), by a
    network that gives logits (N, classes).
    """

    name = "classify"
    unit = "images"
    metric = "accuracy"
    higher_is_better = True
    chart_metrics = (
        ChartMetric("loss"),
        ChartMetric("accuracy", "accuracy (%)", percent=True, chance=True),
    )
    use = "zoo predict {run} IMAGE..."
    predicts = "image files"

    def __init__(self) -> None:
        self._checked_in_batches = 0  # classes, where the labels are not all known before
        self._transforms: dict[bool, Any] = {}  # of images held in memory: training or not
        self._mixing = Mixing()

    # ------------------------------------------------------------------------- the data

    def open(
        self,
        data: Any,
        *,
        val: Any = None,
        classes: Sequence[str] | None = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> DataSplit:
        """`digits`, a folder of images, a Dataset or a DataLoader."""
        return open_data(
            data,
            val=val,
            classes=classes,
            val_fraction=val_fraction,
            test_fraction=test_fraction,
            seed=seed,
            progress=progress,
        )

    def model_args(self, split: DataSplit, family: Family | None = None) -> dict[str, Any]:
        """None: a network by name keeps its own classes until its head is fitted, which
        may be of another kind than its paper's.
        """
        if not split.classes:
            raise UsageError("the number of classes is not known: name them with classes=…")
        return {}

    def check(self, split: DataSplit) -> None:
        """Labels are class numbers (N,) in int64, below the number of classes: before
        training all that are at hand, else some, and the others when their batch
        comes.
        """
        parts = {"training": split.train, "validation": split.val, "test": split.test}
        count = len(split.classes)
        known = [
            check_labels(part, count, title, images=split.size is not None)
            for title, part in parts.items()
            if part is not None and not isinstance(part, (ImageDataset, PixelDataset))
        ]
        self._checked_in_batches = 0 if all(known) else count

    def prepare(self, model: nn.Module, split: DataSplit, recipe: Recipe) -> Prepared:
        """Images get the preprocessing of the network, in training with augmentation;
        tensors stay as they are.
        """
        shares = recipe.label_smoothing, recipe.mixup, recipe.cutmix
        self._mixing = Mixing(*shares, classes=len(split.classes))
        if not split.size:
            return Prepared(split)
        preprocessing = fit_preprocessing(model, split, recipe.input_size)
        augment = recipe.augment
        if augment == "auto":
            augment = "small" if split.small else "photo"
        ready = prepared(split, preprocessing, augment, cache=recipe.cache)
        return Prepared(ready, preprocessing)

    def loaders(
        self,
        split: DataSplit,
        recipe: Recipe,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> tuple[DataLoader, DataLoader]:
        if isinstance(split.train, DataLoader):
            if current_process().daemon and (split.train.num_workers or split.val.num_workers):
                raise UsageError(f"{DAEMONIC}: give the DataLoaders num_workers=0")
            return split.train, split.val
        self._transforms = {
            training: part.transform
            for training, part in ((True, split.train), (False, split.val))
            if isinstance(part, PixelDataset)
        }
        files = bool(split.image_modes) and not isinstance(split.train, PixelDataset)
        workers = _workers(files, recipe.workers)
        options: dict[str, Any] = {
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "pin_memory": torch.cuda.is_available() and not recipe.cpu,
        }

        def loader(part: Any, shuffle: bool) -> OrderedLoader:
            order = Order(len(part), batch_size, seed=seed, shuffle=shuffle, rank=rank, world=world)
            return OrderedLoader(part, order, **options)

        return loader(split.train, True), loader(split.val, False)

    def head_inputs(self, loader: DataLoader) -> Tensor | None:
        """A batch of images; None when the batches are something that only the user's
        loss knows.
        """
        batch = first_batch(loader)
        return batch[0] if is_labelled(batch) else None

    # ------------------------------------------------------------------------ one batch

    def on_device(self, batch: Any, training: bool) -> Any:
        """Images that are held in memory are prepared here, many at once. With label
        smoothing, mixup or cutmix a batch for training has, instead of class numbers,
        the shares of the classes (N, classes).
        """
        if isinstance(batch, PixelBatch):
            batch = self._transforms[training](batch.data, batch.draws), batch.targets
        if self._checked_in_batches:
            check_batch(
                batch[1], self._checked_in_batches, "training" if training else "validation"
            )
        return self._mixing(batch) if training and self._mixing else batch

    def loss(self, outputs: Any, batch: Any, model: nn.Module) -> Tensor:
        """Cross-entropy. Raises UsageError for outputs that are no logits, DataError
        for class numbers beyond them.
        """
        if not isinstance(outputs, Tensor) or outputs.ndim != 2:
            raise UsageError(
                f"{type(model).__name__} gives no logits (N, classes) in training: "
                "pass loss=, a function of (outputs, batch, model)"
            )
        try:
            return F.cross_entropy(outputs, batch[1])
        except IndexError as error:
            raise DataError(
                f"class number {int(batch[1].max())} with {outputs.shape[1]} classes: "
                "they count from 0"
            ) from error

    def metrics(self, outputs: Any, batch: Any) -> Mapping[str, Mean]:
        """Accuracy, where the batch has class numbers, or shares of which the largest
        counts, and the output logits.
        """
        logits = outputs[0] if isinstance(outputs, tuple) else outputs  # (logits, aux1, …)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            return {}
        if self._mixing and batch[1].shape == logits.shape:
            batch = batch[0], batch[1].argmax(1)
        if not is_labelled(batch) or batch[1].shape != logits.shape[:1]:
            return {}
        right = (logits.detach().argmax(1) == batch[1]).float().mean()
        return {"accuracy": Mean(right, len(logits))}

    def example_batch(self, args: tuple[Any, ...], outputs: Any) -> tuple[Any, Tensor]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return args[0], torch.zeros(len(logits), dtype=torch.long, device=logits.device)

    def predict(
        self,
        model: nn.Module,
        given: Files,
        *,
        classes: Sequence[str] = (),
        transform: Callable[[Any], Tensor] | None = None,
        top: int = 5,
    ) -> Predictions:
        transform = transform or EvalTransform(preprocessing_of(model))
        # a user's own transform may be one that no other process can be given
        workers = _workers(isinstance(transform, EvalTransform), None)
        return classify_files(
            model, given, transform=transform, classes=classes, top=top, workers=workers
        )

    def test(
        self, networks: Sequence[Tested], data: Any, options: EvaluationOptions
    ) -> Evaluation | Evaluations:
        """Top-1 and top-5 accuracy."""
        opened = open_labelled(data)
        workers = _workers(isinstance(opened.data, ImageDataset), options.workers)
        return evaluate_networks(networks, opened, replace(options, workers=workers))

    def report(
        self,
        model: nn.Module,
        split: DataSplit,
        folder: Path,
        options: EvaluationOptions,
        *,
        classes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
        selected: str = "",
    ) -> RunReport | None:
        """Accuracy, scores per class, confused classes and the worst mistakes; None,
        and said, where the data or the outputs are no such (a loss of the user's own).
        """
        if not classes:
            return None
        part = split.reported[1]
        workers = _workers(
            isinstance(part, ImageDataset) and bool(split.image_modes), options.workers
        )
        options = replace(options, workers=workers)
        try:
            return report_run(
                model,
                split,
                folder,
                options,
                classes=classes,
                preprocessing=preprocessing,
                selected=selected,
            )
        except (DataError, UsageError) as error:
            warn(f"{folder} has no report: {error}")
            return None


def _workers(files: bool, wanted: int | None) -> int:
    """Processes that read images, as many as are wanted. By default none for images in
    memory, nor on a system that does not say how many cores are ours, as such start
    processes slowly. A daemonic process may start none.
    """
    if wanted is None:
        known = files and hasattr(os, "sched_getaffinity")
        wanted = min(4, len(os.sched_getaffinity(0))) if known else 0
    if wanted and current_process().daemon:
        warn(f"{DAEMONIC}: workers=0")
        return 0
    return wanted

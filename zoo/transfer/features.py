"""What the stages of a frozen network make of images: computed once, in evaluation
mode, and kept in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from zoo.data.labels import check_batch
from zoo.errors import DataError, check_choice, warn
from zoo.tasks.layout import evaluation_layout
from zoo.training.environment import threads_for
from zoo.transfer.feature_cache import FeatureCache, cache_for, spread_rows
from zoo.transfer.stages import PRE_LOGITS, check_stages, evaluating, stage_features

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


OnDevice = Callable[[Any, bool], Any]  # a batch, in training or not


@dataclass(frozen=True)
class Features:
    """Rows `x` (N, D) in float32 with their class numbers `y` (N,). `widths`: of each
    stage, whose columns stand side by side in this order.
    """

    x: Tensor
    y: Tensor
    widths: dict[str, int]
    classes: tuple[str, ...] = ()

    @property
    def stages(self) -> tuple[str, ...]:
        return tuple(self.widths)

    def __len__(self) -> int:
        return len(self.x)

    def of(self, *stages: str) -> Features:
        """Some of the stages, in this order."""
        parts = dict(
            zip(self.widths, torch.split(self.x, list(self.widths.values()), 1), strict=True)
        )
        x = parts[stages[0]] if len(stages) == 1 else torch.cat([parts[s] for s in stages], 1)
        widths = {stage: self.widths[stage] for stage in stages}
        return Features(x, self.y, widths, self.classes)


def compute_features(
    model: nn.Module,
    loader: DataLoader[Any],
    stages: str | Sequence[str] = PRE_LOGITS,
    *,
    classes: Sequence[str] = (),
    mirrored: bool = False,
    mixed_precision: str = "no",
    cache: Path | None = None,
    progress: bool = True,
    title: str = "features",
    on_device: OnDevice = lambda batch, training: batch,
) -> Features:
    """Features of all batches (images (N, C, H, W), class numbers (N,)), in their
    order, on the CPU: one pass of the network, on its device, for all stages that the
    folder `cache` does not have.

    A stage's map becomes the means of its channels, the pixels are flattened.
    `mirrored`: the mean of those of the image and of its mirror image. `on_device`: as
    in `zoo.training.step.Step`. Data without
    transforms of the user's are known again by their files' places, sizes and times, or
    by their numbers; a few stored rows are computed again each time, to see that they
    still hold.

    Raises UsageError for stages that there are not, DataError for other batches and for
    features that are not finite.
    """
    wanted = check_stages(model, stages)
    check_choice("features", "mixed_precision", mixed_precision, PRECISIONS)
    run = _Pass(model, mirrored, PRECISIONS[mixed_precision], on_device)
    about = {"mirrored": mirrored, "mixed_precision": mixed_precision}
    store = cache_for(cache, model, loader, about)
    found = _stored(store, run, loader, wanted) if store else {}
    if missing := [stage for stage in wanted if stage not in found]:
        found |= run.all(loader, missing, len(classes), progress, title)
        for stage in missing:
            _check_finite(found[stage][0], model, stage)
            if store:
                store.save(stage, *found[stage])
    parts = [found[stage][0] for stage in wanted]
    return Features(
        parts[0] if len(parts) == 1 else torch.cat(parts, 1),
        found[wanted[0]][1],
        {stage: part.shape[1] for stage, part in zip(wanted, parts, strict=True)},
        tuple(classes),
    )


@dataclass(frozen=True)
class _Pass:
    """How a network is run."""

    model: nn.Module
    mirrored: bool
    autocast: torch.dtype | None
    on_device: OnDevice

    def batch(self, images: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """The features (N, D) of each stage, on the CPU."""
        like = next(self.model.parameters(), images)
        images = images.to(like.device, like.dtype)
        device = images.device.type
        images = evaluation_layout(images)
        precision = torch.autocast(device, self.autocast) if self.autocast else nullcontext()
        with evaluating(self.model), precision:
            found = stage_features(self.model, images, stages, mirrored=self.mirrored)
        return {stage: x.cpu() for stage, x in found.items()}

    def all(
        self,
        loader: DataLoader[Any],
        stages: Sequence[str],
        classes: int,
        progress: bool,
        title: str,
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Features (N, D) and class numbers (N,) of each stage."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        hidden = not (progress and console.is_terminal)
        batches: Iterable[Any] = track(
            loader, title, len(loader), console=console, transient=True, disable=hidden
        )
        rows: dict[str, list[Tensor]] = {stage: [] for stage in stages}
        labels = []
        with threads_for(self.model):
            for batch in batches:
                images, numbers = _checked(self.on_device(batch, False), classes)
                for stage, x in self.batch(images, stages).items():
                    rows[stage].append(x)
                labels.append(numbers)
        if not labels:
            raise DataError("there are no images to compute features of")
        y = torch.cat(labels)
        return {stage: (torch.cat(parts), y) for stage, parts in rows.items()}


def _checked(batch: Any, classes: int) -> tuple[Tensor, Tensor]:
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not all(isinstance(part, Tensor) for part in batch):
        raise DataError("features: the batches are no pairs of images and class numbers")
    check_batch(batch[1], classes, "given")
    return batch[0], batch[1].cpu()


def _check_finite(x: Tensor, model: nn.Module, stage: str) -> None:
    if not x.isfinite().all():
        raise DataError(
            f"{type(model).__name__}: the features of {stage!r} are not finite: its weights or "
            "the images' scale are wrong"
        )


def _stored(
    store: FeatureCache, run: _Pass, loader: DataLoader[Any], stages: tuple[str, ...]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Stored features, where some that are computed again agree: code that changed, or
    a file rewritten within its old size and time, shows in no digest.
    """
    found = store.load(stages)
    if not found:
        return {}
    rows = spread_rows(len(loader.dataset))  # type: ignore[arg-type]
    fresh = run.batch(torch.stack([loader.dataset[row][0] for row in rows]), list(found))
    tolerance = 0.05 if run.autocast else 1e-3
    for stage, (x, _) in list(found.items()):
        again, kept = fresh[stage], x[rows]
        if again.shape != kept.shape or (again - kept).norm() > tolerance * again.norm():
            warn(f"the stored features of {stage!r} are of another network: computed anew")
            del found[stage]
    return found

"""Which share of labelled images a network has right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zoo.data.classes import Classes, match
from zoo.data.labelled import LabelledData
from zoo.data.labels import whole
from zoo.data.views import Views
from zoo.errors import DataError, InputError, UsageError, warn
from zoo.tasks.scores import Evaluation


def evaluate_images(
    model: nn.Module,
    data: LabelledData,
    *,
    network: str,
    classes: Classes | None,
    views: Views | None,
    among: bool = False,
    batch_size: int = 32,
    workers: int = 0,
    progress: bool = True,
) -> Evaluation:
    """The network's top-1 and top-5 accuracy. `classes` are those of its outputs (None:
    not known), `views` what it sees of an image (None: the data are tensors). `among`:
    only the outputs of the data's classes count.

    Raises UsageError and DataError where labels and outputs do not belong together.
    """
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size}: needs one image or more")
    outputs_of, used = _outputs_of(data, classes, network)
    if among and not used:
        raise UsageError("among=True restricts the outputs to the data's classes: these have none")
    chosen = torch.tensor(used) if among else None
    counts = _Counts(classes, outputs_of, chosen)
    skipped: list[str] = []
    training = model.training
    model.eval()
    try:
        for images, labels, errors in _batches(data, views, batch_size, workers, progress):
            skipped += errors
            if len(labels):
                counts.add(_scores(model, images, chosen, batch_size), labels)
    finally:
        model.train(training)
    if skipped:
        named = ", ".join(skipped[:3])
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        warn(f"{len(skipped)} images cannot be read and are left out: {named}{more}")
    if not counts.images:
        raise DataError(f"{data.source}: there is no image that can be read")
    seen = str(views) if views else "tensors as the data give them"
    return Evaluation(
        network,
        data.source,
        counts.images,
        counts.right,
        counts.right5 if counts.scored > 5 else None,
        f"{seen}; {_outputs_in_words(counts, len(used), among, bool(data.classes))}",
        tuple(skipped),
    )


def _outputs_of(
    data: LabelledData, classes: Classes | None, network: str
) -> tuple[Tensor | None, list[int]]:
    """From the data's class numbers to outputs, and which outputs the data have; None
    where the numbers are outputs themselves.
    """
    if not data.classes:
        return None, []
    if classes is None:
        raise UsageError(
            f"the classes of {network} are not known, and those of the data are matched by name, "
            "never by position: classes=… names them in the order of its outputs (or: imagenet, "
            "cifar10)"
        )
    found = match(data.classes, classes)
    outputs = [found[name] for name in data.classes]
    return torch.tensor(outputs), sorted(set(outputs))


def _outputs_in_words(counts: _Counts, used: int, among: bool, named: bool) -> str:
    if not named:
        return f"class numbers taken as the network's {counts.width:,} outputs"
    if among and used < counts.width:
        return (
            f"only the {used:,} outputs of the data's classes, of the network's {counts.width:,}, "
            "take part"
        )
    if used < counts.width:
        return f"over all {counts.width:,} outputs, of which the data have {used:,} classes"
    return f"over all {counts.width:,} outputs"


class _Counts:
    """Right answers so far."""

    def __init__(
        self, classes: Classes | None, outputs_of: Tensor | None, chosen: Tensor | None
    ) -> None:
        self.classes, self.outputs_of, self.chosen = classes, outputs_of, chosen
        self.images = self.right = self.right5 = self.width = 0

    @property
    def scored(self) -> int:
        """How many outputs take part."""
        return self.width if self.chosen is None else len(self.chosen)

    def add(self, found: tuple[Tensor, int], labels: Tensor) -> None:
        """Scores (N, outputs that take part) with the number of all outputs, and the
        data's class numbers (N,).
        """
        scores, self.width = found
        if self.classes is not None and self.width != len(self.classes):
            raise InputError(
                f"the network gives {self.width} classes, {len(self.classes)} are named"
            )
        known = self.width if self.outputs_of is None else len(self.outputs_of)
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= known:
            wrong = low if low < 0 else high
            raise DataError(f"the data have the class number {wrong}, of {known}: 0 to {known - 1}")
        target = labels if self.outputs_of is None else self.outputs_of[labels]
        if self.chosen is not None:
            target = torch.searchsorted(self.chosen, target)
        own = scores.gather(1, target[:, None])
        place = torch.arange(scores.shape[1])
        before = (scores > own) | ((scores == own) & (place < target[:, None]))  # first of equals
        rank = before.sum(1)
        self.images += len(labels)
        self.right += int((rank < 1).sum())
        self.right5 += int((rank < 5).sum())


# -------------------------------------------------------------------------- the images


class _Viewed(Dataset[tuple[Any, Any, str]]):
    """The views of each image (V, C, H, W), its class number, and what is wrong with a
    file that cannot be read.
    """

    def __init__(self, data: Any, views: Views | None) -> None:
        self.data, self.views = data, views

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Any, Any, str]:
        try:
            image, label = self.data[index]
        except DataError as error:
            return None, None, str(error)
        if self.views is None:
            return image[None], label, ""
        try:
            return self.views(image), label, ""
        except DataError as error:
            files = getattr(self.data, "images", None)
            return None, None, f"{files[index] if files else f'image {index}'}: {error}"


Batch = tuple[Tensor, Tensor, list[str]]  # (N, V, C, H, W), (N,), what cannot be read


def _collate(items: Sequence[tuple[Any, Any, str]]) -> tuple[list[Tensor], list[Any], list[str]]:
    """Errors are for the main process, whose message has no traceback in it."""
    good = [(image, label) for image, label, error in items if not error]
    return [x for x, _ in good], [y for _, y in good], [error for _, _, error in items if error]


def _stacked(items: tuple[list[Tensor], list[Any], list[str]]) -> Batch:
    images, labels, errors = items
    numbers = [whole(label) for label in labels]
    if wrong := [number for number in numbers if not isinstance(number, int)]:
        raise DataError(f"the labels of the data are no class numbers: {wrong[0]!r}")
    shapes = sorted({tuple(image.shape[1:]) for image in images})
    if len(shapes) > 1:
        raise DataError(
            f"the images have several shapes: {shapes[0]} and {shapes[1]}; give PIL images, or "
            "tensors of one size"
        )
    stacked = torch.stack(images) if images else torch.empty(0)
    return stacked, torch.tensor(numbers, dtype=torch.long), errors


def _batches(
    data: LabelledData, views: Views | None, batch_size: int, workers: int, progress: bool
) -> Iterator[Batch]:
    given: Any = data.data
    if isinstance(given, DataLoader):
        batches: Iterable[Any] = map(_checked, given)
        count = len(given) if hasattr(given.dataset, "__len__") else None
    else:
        loader = DataLoader(
            _Viewed(given, views), batch_size, num_workers=workers, collate_fn=_collate
        )
        batches, count = map(_stacked, loader), len(loader)
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not (progress and console.is_terminal)
    title = f"evaluating on {data.source}"
    yield from track(batches, title, count, console=console, transient=True, disable=hidden)


def _checked(batch: Any) -> Batch:
    """A batch of a user's DataLoader."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not all(isinstance(part, Tensor) for part in batch):
        raise DataError("the batches are no pairs of images (N, C, H, W) and class numbers (N,)")
    images, labels = batch
    if labels.ndim != 1 or labels.is_floating_point() or len(images) != len(labels):
        raise DataError(
            f"the labels have the shape {tuple(labels.shape)} and are {labels.dtype}: needs class "
            "numbers (N,), one per image"
        )
    return images[:, None], labels.long().cpu(), []


@torch.no_grad()
def _scores(
    model: nn.Module, images: Tensor, chosen: Tensor | None, batch_size: int
) -> tuple[Tensor, int]:
    """(N, V, C, H, W) to scores (N, outputs that take part), on the CPU, and the number
    of all outputs: the logits of one view, the mean softmax of several.
    """
    count, views = images.shape[:2]
    like = next(model.parameters(), None)
    parts = []
    flat = images.flatten(0, 1)
    for start in range(0, len(flat), batch_size):
        part = flat[start : start + batch_size]
        given = part if like is None else part.to(like.device, like.dtype)
        logits = model(given)
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise UsageError(f"{type(model).__name__} gives no logits (N, classes)")
        parts.append(logits.float().cpu())
    logits = torch.cat(parts)
    if logits.isnan().any():
        raise DataError(
            f"{type(model).__name__} gives NaN: its weights or the images' scale are wrong"
        )
    width = logits.shape[1]
    if chosen is not None and int(chosen[-1]) < width:
        logits = logits[:, chosen]
    if views > 1:
        return logits.softmax(1).view(count, views, -1).mean(1), width
    return logits, width

"""Which share of labelled images a network has right, or several together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from zoo.data.classes import Classes, match
from zoo.data.labelled import LabelledData
from zoo.data.views import Views
from zoo.errors import DataError, InputError, UsageError, warn
from zoo.tasks.base import EvaluationOptions, Tested
from zoo.tasks.labelled_batches import Batch, batches_of
from zoo.tasks.layout import evaluation_layout
from zoo.tasks.scores import Evaluation, Evaluations

Observer = Callable[[Batch, Tensor, Tensor], None]  # batch, probabilities (N, K), outputs (N,)


def evaluate_networks(
    networks: Sequence[Tested],
    data: LabelledData,
    options: EvaluationOptions,
    observe: Observer | None = None,
) -> Evaluation | Evaluations:
    """The top-1 and top-5 accuracy of a network; of several, in one pass over the data,
    those of each and of their average, the mean of the softmax. `observe` gets what the
    network, or the average, made of each batch.

    Raises UsageError and DataError where labels and outputs do not belong together, and
    UsageError for networks of different classes.
    """
    if options.batch_size < 1:
        raise InputError(f"batch_size={options.batch_size}: needs one image or more")
    classes = _common_classes(networks)
    outputs_of, used = _outputs_of(data, classes, networks[0].name)
    if options.among and not used:
        raise UsageError("among=True restricts the outputs to the data's classes: these have none")
    ways, way_of = _ways(networks, data, options)
    chosen = torch.tensor(used) if options.among else None
    counts = [_Counts(classes, outputs_of, chosen) for _ in networks]
    average = _Counts(classes, outputs_of, chosen)
    skipped: list[str] = []
    batches = batches_of(
        data,
        ways,
        batch_size=options.batch_size,
        workers=options.workers or 0,
        progress=options.progress,
    )
    with _in_evaluation_mode([each.model for each in networks]), torch.no_grad():
        for batch in batches:
            skipped += batch.errors
            if not len(batch.labels):
                continue
            found = [
                _scores(each.model, batch.images[way], chosen, options.batch_size)
                for each, way in zip(networks, way_of, strict=True)
            ]
            for own, scores in zip(counts, found, strict=True):
                target = own.add(scores, batch.labels)
            if len(networks) == 1 and observe is None:
                continue
            mean = _average(networks, found)
            if len(networks) > 1:
                target = average.add(mean, batch.labels)
            if observe:
                observe(batch, mean.values, target)
    _say_skipped(data, skipped, counts[0].images)

    def result(name: str, counted: _Counts, before: str) -> Evaluation:
        return Evaluation(
            name,
            data.source,
            counted.images,
            counted.right,
            counted.right5 if counted.scored > 5 else None,
            before + _in_words(counted, len(used), options.among, bool(data.classes)),
            tuple(skipped),
        )

    seen = [f"{ways[way]}; " if ways else "tensors as the data give them; " for way in way_of]
    rows = [
        result(each.name, own, before)
        for each, own, before in zip(networks, counts, seen, strict=True)
    ]
    if len(rows) == 1:
        return rows[0]
    first = seen[0] if len(set(seen)) == 1 else "each network with its own preprocessing; "
    title = f"softmax averaged over {len(rows)} networks; "
    return Evaluations(tuple(rows), result(f"average of {len(rows)}", average, first + title))


# ------------------------------------------------------------------------ what is asked


def _common_classes(networks: Sequence[Tested]) -> Classes | None:
    """The classes of the outputs. Raises UsageError where they are not the same."""
    first = networks[0]
    for other in networks[1:]:
        ours, theirs = (each.classes.names if each.classes else None for each in (first, other))
        if ours == theirs:
            continue
        if ours is None or theirs is None:
            unknown = other if ours else first
            raise UsageError(
                f"the classes of {unknown.name} are not known, so that its outputs cannot be "
                "averaged with those of the others"
            )
        what = f"{len(ours)} and {len(theirs)} classes"
        if len(ours) == len(theirs):
            one, another = next(pair for pair in zip(ours, theirs, strict=True) if len({*pair}) > 1)
            what = f"other classes, {one!r} and {another!r}"
        raise UsageError(
            f"{first.name} and {other.name} have {what}: only outputs that mean the same, in the "
            "same order, can be averaged"
        )
    return first.classes


def _ways(
    networks: Sequence[Tested], data: LabelledData, options: EvaluationOptions
) -> tuple[list[Views], list[int]]:
    """The different ways in which networks see an image, and which is each one's; none
    of tensors. Raises UsageError for views of tensors.
    """
    asked = options.crops != 1 or options.scales or options.resize
    if not data.images:
        if asked or options.input_size is not None:
            raise UsageError(
                f"{data.source} gives tensors as the network takes them: crops, scales, resize "
                "and input_size are for images"
            )
        return [], [0] * len(networks)
    wanted = [each.preprocessing() for each in networks]
    if options.input_size is not None:
        wanted = [each.resized(options.input_size) for each in wanted]
    different = [each for number, each in enumerate(wanted) if each not in wanted[:number]]
    ways = [
        Views(each, crops=options.crops, scales=options.scales, resize=options.resize)
        for each in different
    ]
    return ways, [different.index(each) for each in wanted]


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


def _in_words(counts: _Counts, used: int, among: bool, named: bool) -> str:
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


def _say_skipped(data: LabelledData, skipped: Sequence[str], images: int) -> None:
    """Raises DataError where nothing is left."""
    if skipped:
        named = ", ".join(skipped[:3])
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        warn(f"{len(skipped)} images cannot be read and are left out: {named}{more}")
    if not images:
        raise DataError(f"{data.source}: there is no image that can be read")


# ------------------------------------------------------------------------ what is found


class Scores(NamedTuple):
    """Of the outputs that take part, with the number of all outputs; `softmax`: they
    are probabilities, not logits.
    """

    values: Tensor  # (N, outputs that take part)
    width: int
    softmax: bool


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

    def add(self, found: Scores, labels: Tensor) -> Tensor:
        """Count for the data's class numbers (N,), and return which of the outputs that
        take part they are.
        """
        scores, self.width = found.values, found.width
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
        return target


def _average(networks: Sequence[Tested], found: Sequence[Scores]) -> Scores:
    """The mean of the softmax. Raises UsageError for outputs of several widths."""
    for each, scores in zip(networks, found, strict=True):
        if scores.width != found[0].width:
            raise UsageError(
                f"{networks[0].name} gives {found[0].width} outputs, {each.name} {scores.width}: "
                "they cannot be averaged"
            )
    shares = [each.values if each.softmax else each.values.softmax(1) for each in found]
    return Scores(torch.stack(shares).mean(0), found[0].width, True)


def _scores(model: nn.Module, images: Tensor, chosen: Tensor | None, batch_size: int) -> Scores:
    """Of (N, V, C, H, W), on the CPU: the logits of one view, the mean softmax of
    several.
    """
    count, views = images.shape[:2]
    like = next(model.parameters(), None)
    parts = []
    flat = images.flatten(0, 1)
    for start in range(0, len(flat), batch_size):
        part = flat[start : start + batch_size]
        given = part if like is None else part.to(like.device, like.dtype)
        logits = model(evaluation_layout(given))
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
        return Scores(logits.softmax(1).view(count, views, -1).mean(1), width, True)
    return Scores(logits, width, False)


@contextmanager
def _in_evaluation_mode(models: Sequence[nn.Module]) -> Iterator[None]:
    before = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, training in zip(models, before, strict=True):
            model.train(training)

"""What a trained classifier makes of the images that its run reports on: accuracy,
scores per class, which classes it confuses, and its worst mistakes, from one pass.

report.json      all of it, in numbers
classes.csv      precision, recall and F1 per class
confusion.png    the confusion matrix, or of many classes the most confused pairs
mistakes.png     the mistakes in which the true class had the lowest probability
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.data.classes import Classes, known_classes
from zoo.data.datasets import DataSplit
from zoo.data.image import image_of
from zoo.data.labelled import open_labelled
from zoo.errors import UsageError
from zoo.files import replaced, write
from zoo.formatting import Printable, Section, Table
from zoo.spec import Preprocessing
from zoo.tasks.base import EvaluationOptions, Tested
from zoo.tasks.confusion_plot import draw_confusion
from zoo.tasks.contact_sheet import Panel, draw_sheet
from zoo.tasks.evaluation import evaluate_networks
from zoo.tasks.labelled_batches import Batch
from zoo.tasks.scores import Evaluation

REPORT, CLASSES = "report.json", "classes.csv"
CONFUSION, MISTAKES = "confusion.png", "mistakes.png"
WORST = 20  # mistakes on the contact sheet
PAIRS = 10  # confused pairs that are listed
LISTED = 40  # classes in a table; of more those with the lowest F1


@dataclass(frozen=True)
class ClassScores:
    """Of one class: images, images predicted as it, and shares from 0 to 1; None where
    there is nothing to take a share of.
    """

    name: str
    images: int
    predicted: int
    right: int

    @property
    def precision(self) -> float | None:
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        return self.right / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        both = self.images + self.predicted
        return 2 * self.right / both if both else None


@dataclass(frozen=True)
class Mistake:
    """A wrong answer, with the probabilities of the given and of the predicted class.
    `file`: the image, below its class folder's parent; "" where it is no file.
    """

    file: str
    truth: str
    truth_probability: float
    predicted: str
    probability: float


@dataclass(frozen=True, repr=False)
class RunReport(Printable):
    """`part`: test or validation. `selected`: what these images chose; "" for nothing.
    `confused`: pairs (true, predicted, number of images), the most frequent first.
    """

    part: str
    selected: str
    evaluation: Evaluation
    classes: tuple[ClassScores, ...]
    confused: tuple[tuple[str, str, int], ...]
    mistakes: tuple[Mistake, ...]

    def sections(self) -> list[Section]:
        accuracy, facts = self.evaluation.sections()
        assert isinstance(facts, dict)
        del facts["network"]
        if self.selected:
            facts["chosen on the same"] = (
                f"these images also chose the {self.selected}, so that the figures are a little "
                "too good; a test part is free of that"
            )
        found: list[Section] = [accuracy, facts, *self._classes()]
        if self.confused:
            pairs = [
                [readable(true), readable(other), f"{n:,}"] for true, other, n in self.confused
            ]
            headers = ["true", "predicted as", "images"]
            found.append(Table(headers, pairs[:PAIRS], left=headers[:2]))
        if files := [each for each in self.mistakes if each.file]:
            rows = [
                [
                    each.file,
                    readable(each.truth),
                    readable(each.predicted),
                    _percent(each.probability),
                ]
                for each in files[:PAIRS]
            ]
            headers = ["worst mistakes", "true", "predicted", "with %"]
            found.append(Table(headers, rows, left=headers[:3]))
        return found

    def to_dict(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "selected": self.selected,
            **self.evaluation.to_dict(),
            "classes": [
                {**asdict(each), "precision": each.precision, "recall": each.recall, "f1": each.f1}
                for each in self.classes
            ],
            "confused": [list(pair) for pair in self.confused],
            "mistakes": [asdict(each) for each in self.mistakes],
        }

    def to_csv(self) -> str:
        """A line per class."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["class", "images", "predicted", "right", "precision", "recall", "f1"])
        for each in self.classes:
            shares = (each.precision, each.recall, each.f1)
            writer.writerow(
                [each.name, each.images, each.predicted, each.right]
                + ["" if share is None else f"{share:.6f}" for share in shares]
            )
        return out.getvalue()

    def _classes(self) -> list[Section]:
        shown, more = list(self.classes), ""
        if len(shown) > LISTED:
            shown = sorted((each for each in shown if each.images), key=lambda each: each.f1 or 0)
            shown = shown[:LISTED]
            more = (
                f"{len(shown)} classes, those with the lowest F1; {CLASSES} has all "
                f"{len(self.classes):,}"
            )
        rows = [
            [readable(each.name), f"{each.images:,}"]
            + [_percent(share) for share in (each.precision, each.recall, each.f1)]
            for each in shown
        ]
        headers = ["class", "images", "precision %", "recall %", "F1 %"]
        return [Table(headers, rows, left=("class",)), *filter(None, [more])]


def report_run(
    model: nn.Module,
    split: DataSplit,
    folder: Path,
    options: EvaluationOptions,
    *,
    classes: Sequence[str],
    preprocessing: Preprocessing | None = None,
    selected: str = "",
) -> RunReport:
    """Test a network, whose outputs are `classes`, on the part of the data that its run
    reports on, as they were opened, and write the files above into the run's folder.
    `preprocessing` is None where the data are tensors, which have no pictures;
    `selected`: what the validation images chose.

    Raises UsageError and DataError where labels and outputs do not belong together.
    """

    def known() -> Preprocessing:
        if preprocessing is None:
            raise UsageError("how images become inputs is not known")
        return preprocessing

    word, part = split.reported
    collected = _Collected(len(classes), preprocessing)
    evaluation = evaluate_networks(
        [
            Tested(
                name=str(folder),
                model=model,
                classes=Classes(tuple(classes)),
                preprocessing=known,
            )
        ],
        open_labelled(split),
        options,
        collected.add,
    )
    assert isinstance(evaluation, Evaluation)
    mistakes = [
        Mistake(
            file=_file(part, wrong.number),
            truth=classes[wrong.truth],
            truth_probability=wrong.truth_probability,
            predicted=classes[wrong.predicted],
            probability=wrong.probability,
        )
        for wrong in collected.worst
    ]
    matrix = collected.matrix
    report = RunReport(
        word,
        selected if word == "validation" else "",
        evaluation,
        tuple(
            ClassScores(
                name, int(matrix[row].sum()), int(matrix[:, row].sum()), int(matrix[row, row])
            )
            for row, name in enumerate(classes)
        ),
        tuple((classes[true], classes[other], count) for true, other, count in _confused(matrix)),
        tuple(mistakes),
    )
    title = f"{evaluation.top1:.1f} % of {evaluation.images:,} {word} images are right"
    write(folder / CLASSES, report.to_csv())
    with replaced(folder / CONFUSION) as temporary:
        draw_confusion(matrix, list(map(readable, classes)), temporary, title=title)
    if preprocessing and mistakes:
        panels = [
            Panel(
                image_of(wrong.image, preprocessing),
                readable(mistake.predicted),
                mistake.probability,
                readable(mistake.truth),
            )
            for wrong, mistake in zip(collected.worst, mistakes, strict=True)
        ]
        with replaced(folder / MISTAKES) as temporary:
            title = (
                f"the worst of {evaluation.images - evaluation.right:,} mistakes on {word} images"
            )
            draw_sheet(panels, temporary, title=title)
    else:
        (folder / MISTAKES).unlink(missing_ok=True)
    write(folder / REPORT, json.dumps(report.to_dict(), indent=2))
    return report


def readable(name: str) -> str:
    """ImageNet's name of a WordNet id; any other name as it is."""
    imagenet = known_classes("imagenet")
    return imagenet.names[imagenet.ids.index(name)] if name in imagenet.ids else name


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _file(part: Any, number: int) -> str:
    """The name of an image's file with that of its folder."""
    files = getattr(part, "images", None)
    found = files[number] if files is not None and number >= 0 else None
    return f"{found.parent.name}/{found.name}" if isinstance(found, Path) else ""


def _confused(matrix: Tensor) -> list[tuple[int, int, int]]:
    """Pairs (true, predicted, count) of different classes, the most frequent first."""
    wrong = matrix.clone().fill_diagonal_(0)
    pairs = [(*pair, int(wrong[tuple(pair)])) for pair in wrong.nonzero().tolist()]
    return sorted(pairs, key=lambda pair: -pair[2])[: max(PAIRS, WORST)]


@dataclass(frozen=True)
class _Wrong:
    truth_probability: float
    truth: int
    predicted: int
    probability: float
    number: int  # of the image; -1: not known
    image: Tensor  # (C, H, W), as the network sees it


class _Collected:
    """The confusion matrix, and the worst mistakes with their images."""

    def __init__(self, classes: int, preprocessing: Preprocessing | None) -> None:
        self.matrix = torch.zeros(classes, classes, dtype=torch.long)  # true, predicted
        self.worst: list[_Wrong] = []

    def add(self, batch: Batch, shares: Tensor, truth: Tensor) -> None:
        width = self.matrix.shape[1]
        predicted = shares.argmax(1)
        self.matrix += torch.bincount(truth * width + predicted, minlength=width**2).view(
            width, width
        )
        own = shares.gather(1, truth[:, None])[:, 0]
        found = [
            _Wrong(
                float(own[row]),
                int(truth[row]),
                int(predicted[row]),
                float(shares[row, predicted[row]]),
                batch.numbers[row] if batch.numbers else -1,
                batch.images[0][row, 0].clone(),
            )
            for row in (truth != predicted).nonzero()[:, 0].tolist()
        ]
        merged = sorted([*self.worst, *found], key=lambda each: each.truth_probability)
        self.worst = merged[:WORST]

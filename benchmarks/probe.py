"""Linear probes on the last pooled map of frozen networks: accuracy with few photos,
and time against the usual loop.

ZOO_DATA=FOLDER python benchmarks/probe.py [NAME...]

The photos are those of FOLDER/imagenette_small, 224x224, taken as they are. Of the
training photos 100 and 10 per class are drawn, three times; the penalty is chosen by
cross-validation on them. `several` are the last two different maps side by side,
`mirrored` the mean over a photo and its mirror image. GOALS were measured by a plain
logistic regression whose penalty was chosen on the validation photos themselves.

The usual loop has the frozen network in it, and trains a new head with AdamW for 20
epochs. Without augmentation each of its epochs sees the same features: its accuracy is
computed from stored ones, its time is that of 20 passes as measured.
"""

import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

import zoo
from zoo.tasks.classify import Classify
from zoo.training.recipe import Recipe
from zoo.transfer.features import Features
from zoo.transfer.fitted import accuracy
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import fit_probe, split_features
from zoo.transfer.stages import PRE_LOGITS, stage_names

NAMES = ("squeezenet1_0", "googlenet", "resnet50_v1_5.pqf31x_in1k")
GOALS = {  # 100 and 10 photos per class
    "squeezenet1_0": (92.6, 86.5),
    "googlenet": (97.6, 96.2),
    "resnet50_v1_5.pqf31x_in1k": (98.3, 96.4),
}
DRAWS, EPOCHS = 3, 20


def rows_of(features: Features, per_class: int | None, draw: int) -> list[int]:
    """The numbers of the photos that are drawn, in the order of the data; None: all."""
    if per_class is None:
        return list(range(len(features)))
    generator = torch.Generator().manual_seed(draw)
    found = []
    for number in range(len(features.classes)):
        own = (features.y == number).nonzero()[:, 0]
        found += own[torch.randperm(len(own), generator=generator)[:per_class]].tolist()
    return sorted(found)


def taken(features: Features, rows: list[int]) -> Features:
    return replace(features, x=features.x[rows], y=features.y[rows])


def drawn(features: Features, per_class: int, draw: int) -> Features:
    """The features of that many images of each class."""
    return taken(features, rows_of(features, per_class, draw))


def usual_loop(train: Features, val: Features) -> float:
    """The accuracy of a head after 20 epochs of AdamW."""
    torch.manual_seed(0)
    head = nn.Linear(train.x.shape[1], len(train.classes))
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(train)).split(32):
            optimizer.zero_grad()
            F.cross_entropy(head(train.x[rows]), train.y[rows]).backward()
            optimizer.step()
        schedule.step()
    return accuracy(head, val.x, val.y)


def measure(name: str, data: Path) -> None:
    model = zoo.create(name, pretrained=True)
    model.preprocessing = replace(model.preprocessing, crop_pct=1.0).resized(224)
    task = Classify()
    split = task.open(data)
    stages = stage_names(model)[-3:]
    found = {}
    for mirrored in (False, True):
        begin = time.perf_counter()
        found[mirrored] = split_features(
            model, split, task, Recipe(), stages, mirrored=mirrored, progress=False
        )
        if not mirrored:
            images = sum(map(len, found[False]))
            one = (time.perf_counter() - begin) / images
    several = (stages[0], PRE_LOGITS)
    rows = {
        "last map": (False, (PRE_LOGITS,)),
        "mirrored": (True, (PRE_LOGITS,)),
        "several": (False, several),
        "several, mirrored": (True, several),
    }
    for place, per_class in enumerate((100, 10)):
        for title, (mirrored, wanted) in rows.items():
            train, val = (each.of(*wanted) for each in found[mirrored])
            results = [
                fit_probe(drawn(train, per_class, draw), val, HeadOptions())
                for draw in range(DRAWS)
            ]
            shares = [100 * each.accuracy for each in results]
            goal = f"goal {GOALS[name][place]}" if name in GOALS and title == "last map" else ""
            draws = " ".join(f"{share:.1f}" for share in shares)
            print(
                f"{name}, {per_class} per class, {title}: {statistics.mean(shares):.2f} % "
                f"({draws}) {goal}",
                flush=True,
            )
            if title == "last map":
                few = drawn(train, per_class, 0)
                loop = 100 * usual_loop(few, val)
                fit = statistics.median(each.seconds for each in results)
                whole = one * len(few)
                print(
                    f"  one pass {whole:.1f} s, sweep of 20 penalties {fit:.1f} s: ratio "
                    f"{(whole + fit) / whole:.2f}, goal <= 1.3; the usual loop {loop:.1f} %, "
                    f"{EPOCHS * whole / (whole + fit):.1f} times as long, goal >= 15",
                    flush=True,
                )


if __name__ == "__main__":
    place = os.environ.get("ZOO_DATA")
    if not place:
        sys.exit("ZOO_DATA names the folder with imagenette_small")
    for name in sys.argv[1:] or NAMES:
        measure(name, Path(place, "imagenette_small"))

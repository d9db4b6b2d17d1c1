"""The course's table of transfer learning, measured: few or many photos, of a set like
ImageNet or very different from it, each strategy in each cell.

ZOO_DATA=FOLDER python benchmarks/transfer.py [--networks N,…] [--data D,…]

Of the training photos of each class 10 are drawn, three times, or all are taken. The
photos of val/ choose nothing: penalties and stages are chosen by cross-validation on
the training photos, what is trained is trained for so many EPOCHS, and its last weights
are tested. Rows are written to docs/data/transfer as they come, and not measured again;
docs/build.py makes the page of them. `--strategies S,…`: some of them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from probe import rows_of, taken  # beside this file

import zoo
from zoo.errors import ZooWarning
from zoo.files import write
from zoo.tasks.classify import Classify
from zoo.training.recipe import Recipe
from zoo.transfer.choose import QUICK
from zoo.transfer.features import Features
from zoo.transfer.head_options import HeadOptions
from zoo.transfer.probe import ProbeResult, StageProbes, fit_probe, split_features
from zoo.transfer.probe_plot import draw_depth
from zoo.transfer.stages import INPUT, PRE_LOGITS, stage_names

NETWORKS = ("squeezenet1_0", "googlenet")
DATA = ("flowers5", "bloodcells8", "imagenette_small")
STRATEGIES = ("probe", "probe-stages", "last:2", "full")
FEW, DRAWS = 10, 3
EPOCHS = {"few": 10, "all": 3}
OUT = Path(__file__).parent.parent / "docs" / "data" / "transfer"
IMAGES = OUT.parent.parent / "images" / "transfer"
Row = dict[str, Any]


class Cell:
    """A network and a data set."""

    def __init__(self, network: str, data: Path, out: Path) -> None:
        self.network, self.data = network, data
        self.path = out / f"{network}-{data.name}.json"
        self.found: dict[str, Any] = {"network": network, "data": data.name, "rows": []}
        if self.path.exists():
            self.found = json.loads(self.path.read_text(encoding="utf-8"))
        self.split = Classify().open(data)
        self.features: tuple[Features, Features] | None = None

    def stages(self) -> tuple[Features, Features]:
        """The features of every stage, of both parts: one pass."""
        if self.features is None:
            model = zoo.create(self.network, pretrained=True)
            wanted = [name for name in stage_names(model) if name != INPUT]
            began = time.perf_counter()
            self.features = split_features(
                model, self.split, Classify(), Recipe(), wanted, progress=False
            )
            images = sum(map(len, self.features))
            self.found |= {
                "train": len(self.features[0]),
                "val": len(self.features[1]),
                "classes": len(self.features[0].classes),
                "images_per_second": images / (time.perf_counter() - began),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
            }
        return self.features

    def measure(self, strategies: list[str]) -> None:
        cases = [(FEW, draw) for draw in range(DRAWS)] + [(None, 0)]
        for strategy in strategies:
            for per_class, draw in cases:
                case = {"strategy": strategy, "per_class": per_class, "draw": draw}
                if any(case.items() <= row.items() for row in self.found["rows"]):
                    continue
                began = time.perf_counter()
                row = case | self.one(strategy, per_class, draw)
                row.setdefault("seconds", time.perf_counter() - began)
                self.found["rows"].append(row)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write(self.path, json.dumps(self.found, indent=1) + "\n")
                about = f"{per_class or 'all'} per class, draw {draw}"
                print(
                    f"{self.network} {self.data.name}, {about}: {strategy} "
                    f"{100 * row['accuracy']:.1f} %, {row['seconds']:.0f} s",
                    flush=True,
                )

    def draw(self, path: Path) -> None:
        """Accuracy against depth, of all photos."""
        for row in self.found["rows"]:
            if "depth" in row and row["per_class"] is None:
                title = f"{self.network} on {self.data.name}: a linear head per stage"
                points = {stage: tuple(shares) for stage, shares in row["depth"].items()}
                path.parent.mkdir(parents=True, exist_ok=True)
                draw_depth(points, path, title=title)

    def one(self, strategy: str, per_class: int | None, draw: int) -> Row:
        every, val = self.stages()
        rows = rows_of(every, per_class, draw)
        train = taken(every, rows)
        if strategy == "probe":
            return as_row(fit_probe(train.of(PRE_LOGITS), val.of(PRE_LOGITS), HeadOptions()))
        if strategy == "probe-stages":
            return self.every_stage(train, val)
        return self.trained(strategy, rows, "few" if per_class else "all")

    def every_stage(self, train: Features, val: Features) -> Row:
        """The stage that cross-validation chooses; with what a quick probe says, by
        which `auto` chooses.
        """
        results = [
            fit_probe(train.of(stage), val.of(stage), HeadOptions()) for stage in train.stages
        ]
        best = StageProbes(self.network, self.data.name, tuple(results)).best
        found = dict(zip(train.stages, results, strict=True))
        few = taken(train, rows_of(train, QUICK, 0)).of(PRE_LOGITS)
        quick = fit_probe(few, few, HeadOptions()).cross_validated or 0.0
        return as_row(best) | {
            "depth": {
                stage: [each.cross_validated, each.accuracy] for stage, each in found.items()
            },
            "quick_probe": quick,
        }

    def trained(self, strategy: str, rows: list[int], budget: str) -> Row:
        """Trained from the published weights. A run needs validation photos: one per
        class, which chooses nothing, as the last weights are tested.
        """
        train, val = self.split.train, self.split.val
        chosen = [(train.images[row], train.targets[row]) for row in rows]
        firsts = [val.targets.index(number) for number in range(len(self.split.classes))]
        some = [(val.images[row], val.targets[row]) for row in firsts]
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            write_csv(
                Path(folder, "photos.csv"), {"train": chosen, "val": some}, self.split.classes
            )
            run = zoo.finetune(
                self.network,
                Path(folder, "photos.csv"),
                strategy=strategy,
                epochs=EPOCHS[budget],
                channels_last=True,
                check=False,
                report=False,
                out=Path(folder, "run"),
                progress=False,
            )
            seconds = time.perf_counter() - began
            found = zoo.evaluate(run.model, self.data / "val", classes=run.classes, progress=False)
        return {"accuracy": found.top1 / 100, "epochs": EPOCHS[budget], "seconds": seconds}


def write_csv(path: Path, parts: dict[str, Any], classes: tuple[str, ...]) -> None:
    lines = ["path,label,split"]
    for part, pairs in parts.items():
        for image, target in pairs:
            lines.append(f"{image},{classes[target]},{part}")
    write(path, "\n".join(lines) + "\n")


def as_row(found: ProbeResult) -> Row:
    return {
        "accuracy": found.accuracy,
        "stage": "+".join(found.stages),
        "cross_validated": found.cross_validated,
        "chosen": dict(found.head.values),
        "seconds": found.seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, known in (("networks", NETWORKS), ("data", DATA), ("strategies", STRATEGIES)):
        parser.add_argument(f"--{name}", default=",".join(known))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    place = os.environ.get("ZOO_DATA")
    if not place:
        sys.exit("ZOO_DATA names the folder with the data sets")
    warnings.simplefilter("ignore", ZooWarning)
    for data in given.data.split(","):
        for network in given.networks.split(","):
            cell = Cell(network, Path(place, data), given.out)
            cell.measure(given.strategies.split(","))
            cell.draw(IMAGES / f"{network}-{data}.png")


if __name__ == "__main__":
    main()

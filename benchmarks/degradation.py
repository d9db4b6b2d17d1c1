"""The picture that residual networks came from: plain and residual networks of 20 and
of 56 layers on CIFAR-10, by one recipe (He et al. 2015, section 4.2, Fig. 6).

ZOO_DATA=FOLDER python benchmarks/degradation.py [--epochs N] [--images N]

The networks are trained one after the other on FOLDER/cifar10_full, or on so many
images of each of its classes, with the recipe cifar10_fast of so many epochs; the test
images are only looked at. A run that was stopped goes on. The errors are written to
docs/data/degradation.json, the curves to docs/images/degradation.png.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure

import zoo
from zoo.files import replaced, write
from zoo.training.run import Run

NETWORKS = {  # colours: the deeper the darker
    "plain20_cifar10": ("#f4a582", "plain, 20 layers"),
    "plain56_cifar10": ("#b2182b", "plain, 56 layers"),
    "resnet20_cifar10": ("#92c5de", "residual, 20 layers"),
    "resnet56_cifar10": ("#2166ac", "residual, 56 layers"),
}
DOCS = Path(__file__).parent.parent / "docs"


def linked(data: Path, out: Path, per_class: int | None) -> Path:
    """A folder whose train/ is that of the data, or a part of it, and whose val/ is its
    test/.
    """
    place = out / f"cifar10-{per_class or 'all'}"
    if place.exists():
        return place
    for folder in sorted((data / "train").iterdir()):
        (place / "train" / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:per_class]:
            (place / "train" / folder.name / file.name).symlink_to(file)
    (place / "val").symlink_to(data / "test", target_is_directory=True)
    return place


def trained(name: str, data: Path, epochs: int, out: Path) -> Run:
    if (out / "config.json").exists():
        run = Run.open(out)
        return run if run.finished else zoo.finetune(resume=out)
    return zoo.train(name, data, recipe="cifar10_fast", epochs=epochs, report=False, out=out)


def draw(found: dict, path: Path) -> None:
    figure = Figure(figsize=(7, 4.4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, (colour, title) in NETWORKS.items():
        if name not in found["errors"]:
            continue
        errors = found["errors"][name]
        steps = range(1, len(errors["train"]) + 1)
        axes.plot(steps, errors["train"], color=colour, linestyle="--", linewidth=1)
        axes.plot(steps, errors["test"], color=colour, label=title)
    axes.set_xlabel("epoch")
    axes.set_ylabel("error (%): test, dashed: training (augmented)")
    axes.set_ylim(bottom=0)
    axes.set_title(
        f"CIFAR-10, {found['images']:,} training images, {found['epochs']} epochs of one cycle",
        fontsize=10,
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as temporary:
        figure.savefig(temporary, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--images", type=int, help="of each class; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/degradation"))
    given = parser.parse_args()
    place = os.environ.get("ZOO_DATA")
    if not place:
        sys.exit("ZOO_DATA names the folder with cifar10_full")
    data = linked(Path(place, "cifar10_full"), given.out, given.images)
    found = {"epochs": given.epochs, "torch": torch.__version__, "errors": {}}
    for name in NETWORKS:
        run = trained(name, data, given.epochs, given.out / f"{name}-{given.epochs}-{data.name}")
        found["images"] = run.config["data"]["train_images"]
        found["errors"][name] = {
            title: [round(100 * (1 - each[f"{part}_accuracy"]), 2) for each in run.history]
            for title, part in (("train", "train"), ("test", "val"))
        }
        last = {title: shares[-1] for title, shares in found["errors"][name].items()}
        print(f"{name}: {last['train']:.2f} % training error, {last['test']:.2f} % test error")
        (DOCS / "data").mkdir(exist_ok=True)
        write(DOCS / "data" / "degradation.json", json.dumps(found, indent=1) + "\n")
        draw(found, DOCS / "images" / "degradation.png")


if __name__ == "__main__":
    main()

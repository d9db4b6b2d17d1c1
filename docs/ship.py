"""Puts weights that were trained here into weights/: the file, the log of their
training, and their record, which is printed to be pasted into the family's TOML.

    python docs/ship.py RUN NAME.TAG [--last]

The run is one of `zoo train NAME`, finished, with test images. Its best weights are
taken, or with `--last` those of the last epoch, of a run whose validation images are
too few to choose one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

import zoo
from zoo.training.recipe_files import recipe_of
from zoo.training.run import BEST, LAST, Run

WEIGHTS = Path(__file__).parent.parent / "weights"


def ship(run: Run, name: str, file: str) -> str:
    """Copy the files of a run; returns the record."""
    config, begun = run.config, run.config["begun"]
    if not run.finished or "test_images" not in config["data"]:
        sys.exit(f"{run.path}: needs a finished run with test images")
    if config["initial_weights"] != "random":
        sys.exit(f"{run.path} began with {config['initial_weights']}: needs zoo train")
    found = zoo.evaluate(run.path / file, config["data"]["reopen"], progress=False)
    if found.images != config["data"]["test_images"]:
        sys.exit(f"{found.images} images are not the run's {config['data']['test_images']}")
    place = WEIGHTS / f"{name}.safetensors"
    shutil.copyfile(run.path / file, place)
    shutil.copyfile(run.path / "metrics.jsonl", WEIGHTS / f"{name}.log.jsonl")
    content = place.read_bytes()
    own = recipe_of(config["architecture"])
    options = [("--seed", config["seed"])] if config["seed"] else []
    if begun["recipe"] != (own and own.name):
        options.append(("--recipe", begun["recipe"]))
    command = " ".join(map(str, ("zoo train", config["architecture"], *sum(options, ()))))
    size, mean, std = (config["preprocessing"][key] for key in ("input_size", "mean", "std"))
    data = Path(config["data"]["source"].partition(" in ")[0]).name
    wrong = round(found.images * (1 - found.top1 / 100))
    which = "last" if file == LAST else "best on the validation images"
    return "\n".join(
        [
            f'[weights."{name}"] # trained here: the epoch that was {which}',
            f"classes = {json.dumps(config['classes'])}",
            'licence = "Apache-2.0"',
            'checked = "ran here"',
            f'recipe = "{command}"',
            f"preprocessing = {{ input_size = {size}, mean = {mean}, std = {std}, "
            f'crop_pct = 1.0, crop_mode = "{config["preprocessing"]["crop_mode"]}" }}',
            "metrics = [",
            f'  {{ data = "{data} test", protocol = "single crop; {wrong:,} of '
            f'{found.images:,} wrong", top1 = {found.top1:.2f} }},',
            "]",
            f'[[weights."{name}".sources]]',
            f'file = "{place.name}"',
            f"bytes = {len(content)}",
            f'sha256 = "{sha256(content).hexdigest()}"',
            'format = "safetensors"',
        ]
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("name", metavar="NAME.TAG")
    parser.add_argument("--last", action="store_true")
    given = parser.parse_args()
    print(ship(Run.open(given.run), given.name, LAST if given.last else BEST))

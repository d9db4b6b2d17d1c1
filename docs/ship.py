"""Puts weights that were trained here into weights/: the file, the log of their
training, and their record, which is printed to be pasted into the family's TOML.

    python docs/ship.py RUN NAME.TAG

The run is one of `zoo train NAME`, finished, with a report on test images.
"""

from __future__ import annotations

import json
import shutil
import sys
from hashlib import sha256
from pathlib import Path

from zoo.training.run import Run

WEIGHTS = Path(__file__).parent.parent / "weights"


def ship(run: Run, name: str) -> str:
    """Copy the files of a run; returns the record."""
    report = run.report or {}
    if not run.finished or report.get("part") != "test":
        sys.exit(f"{run.path}: needs a finished run that reports on test images")
    if run.config["initial_weights"] != "random":
        sys.exit(f"{run.path} began with {run.config['initial_weights']}: needs zoo train")
    file = WEIGHTS / f"{name}.safetensors"
    shutil.copyfile(run.path / "best.safetensors", file)
    shutil.copyfile(run.path / "metrics.jsonl", WEIGHTS / f"{name}.log.jsonl")
    content = file.read_bytes()
    size, mean, std = (run.config["preprocessing"][key] for key in ("input_size", "mean", "std"))
    right, images = report["top1"]["right"], report["images"]
    seed = run.config["seed"]
    command = f"zoo train {run.config['architecture']}" + (f" --seed {seed}" if seed else "")
    return "\n".join(
        [
            f'[weights."{name}"] # trained here',
            f"classes = {json.dumps(run.config['classes'])}",
            'licence = "Apache-2.0"',
            'checked = "ran here"',
            f'recipe = "{command}"',
            f"preprocessing = {{ input_size = {size}, mean = {mean}, std = {std}, "
            f'crop_pct = 1.0, crop_mode = "{run.config["preprocessing"]["crop_mode"]}" }}',
            "metrics = [",
            f'  {{ data = "{run.config["data"]["source"].partition(" in ")[0]} test", protocol = "single crop; {images - right} of '
            f'{images:,} wrong", top1 = {report["top1"]["accuracy"]:.2f} }},',
            "]",
            f'[[weights."{name}".sources]]',
            f'file = "{file.name}"',
            f"bytes = {len(content)}",
            f'sha256 = "{sha256(content).hexdigest()}"',
            'format = "safetensors"',
        ]
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    print(ship(Run.open(Path(sys.argv[1])), sys.argv[2]))

"""What a frozen encoder gives of photos, computed once: in half precision, in a file
that is mapped, not read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from zoo.data.image import EvalTransform, open_image
from zoo.data.stored import digest, image_facts, model_digest, prune
from zoo.errors import DataError, ZooError
from zoo.formatting import mib
from zoo.spec import Preprocessing
from zoo.tasks.layout import evaluation_layout

BATCH = 32  # photos at a time
LARGEST = 65_504  # of half precision


def encoded_photos(
    encoder: nn.Module,
    files: Sequence[Path],
    preprocessing: Preprocessing,
    folder: Path | None = None,
    *,
    progress: bool = True,
    title: str = "features",
) -> Tensor:
    """(N, …) in float16: of each file what `encoder`, in evaluation mode and on its
    device, gives. In `folder` it is stored, and found again as long as encoder, files
    and preprocessing are the same; what was stopped goes on where it was.

    Raises DataError for a photo that cannot be read and for features that half
    precision cannot hold, ZooError for a folder without room.
    """
    transform = EvalTransform(preprocessing)
    run = _Run(encoder.eval(), files, transform)
    shape = (len(files), *run.batch(0, 1).shape[1:])
    if folder is None:
        whole = torch.empty(shape, dtype=torch.float16)
        for first in run.batches(0, progress, title):
            whole[first : first + BATCH] = run.batch(first, BATCH)
        return whole
    key = digest(model_digest(encoder), preprocessing.to_dict(), list(map(image_facts, files)))
    path = folder / f"{key[:24]}.maps"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):  # another process may compute the same
            if not path.exists():
                _compute(run, shape, path, progress, title)
                prune(path)
    except OSError as error:
        raise ZooError(f"{folder} cannot keep the features: {error.strerror or error}") from error
    with suppress(OSError):  # a folder that may not be written
        path.touch()  # used now
    return _mapped(path, shape)


def _compute(run: _Run, shape: tuple[int, ...], path: Path, progress: bool, title: str) -> None:
    """Into a file beside it, whose length says how far it is."""
    part = path.with_suffix(".part")
    each = 2 * torch.Size(shape[1:]).numel()  # bytes of a photo
    with part.open("ab") as file:
        done = file.tell() // (each * BATCH) * BATCH  # whole batches
        file.truncate(done * each)
        for first in run.batches(done, progress, f"{title} ({mib(shape[0] * each)})"):
            file.write(run.batch(first, BATCH).contiguous().numpy().data)
            file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    count = torch.Size(shape).numel()
    if path.stat().st_size != 2 * count:
        raise DataError(f"{path} is damaged: remove it")
    whole = torch.from_file(str(path), shared=False, size=count, dtype=torch.float16)
    return whole.view(shape)


class _Run:
    """An encoder and the photos that it goes through."""

    def __init__(self, encoder: nn.Module, files: Sequence[Path], transform: EvalTransform) -> None:
        self.encoder, self.files, self.transform = encoder, files, transform
        self.device = next((each.device for each in encoder.parameters()), torch.device("cpu"))

    def batches(self, done: int, progress: bool, title: str) -> Iterable[int]:
        """Where those begin that are left."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        left = range(done, len(self.files), BATCH)
        hidden = not (progress and console.is_terminal and len(left))
        return track(left, title, console=console, transient=True, disable=hidden)

    @torch.no_grad()
    def batch(self, first: int, count: int) -> Tensor:
        files = self.files[first : first + count]
        images = torch.stack([self.transform(open_image(file)) for file in files])
        found = self.encoder(evaluation_layout(images.to(self.device)))
        if not found.abs().max() <= LARGEST:
            raise DataError(f"{files[0]} …: the encoder gives numbers beyond half precision")
        return found.half().cpu()

"""Fine-tuning: a network and labelled images in, a run folder out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zoo.count.memory import Memory, largest_batch, predict
from zoo.count.meta import copy_on_meta
from zoo.count.room import room
from zoo.data.sets import SMALL, Data
from zoo.data.transforms import AUGMENTATIONS, build_transform
from zoo.errors import InputError, UsageError, note
from zoo.train.loop import Step, classify, fit
from zoo.train.optim import decay_groups, make_optimizer, warmup_cosine
from zoo.train.progress import Progress
from zoo.train.run import Run, RunFolder
from zoo.transfer.heads import fit_head, input_config, output_width

SMALLEST = (
    32  # what small images are enlarged to for a network made for large ones, if it takes that
)
TINY = 100_000  # parameters
DEFAULT_BATCH = 32
MOST = 256  # images in a batch that is chosen; the default rates are for batches of about this size or less


@dataclass(frozen=True)
class Settings:
    """How to train; None is a default that depends on the rest. Raises InputError for
    impossible values.
    """

    epochs: int = 30
    batch_size: int | str = (
        DEFAULT_BATCH  # "auto": the largest that is predicted to fit, within reason
    )
    lr: float | None = None
    optimizer: str = "adamw"
    weight_decay: float | None = None
    seed: int = 0
    input_size: int | tuple[int, ...] | None = None
    augment: str = "auto"
    workers: int | None = None
    cpu: bool = False
    mixed_precision: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("workers", 0)):
            value = getattr(self, name)
            if (
                value is not None
                and (name, value) != ("batch_size", "auto")
                and (not isinstance(value, int) or value < least)
            ):
                raise InputError(
                    f"{name}={value}: needs a whole number from {least} on"
                    + ", or 'auto'" * (name == "batch_size")
                )
        if self.augment not in ("auto", *AUGMENTATIONS):
            raise InputError(
                f"augment={self.augment!r}: choose one of auto, {', '.join(AUGMENTATIONS)}"
            )
        make_optimizer(
            self.optimizer, [{"params": [torch.zeros(1)]}], self.lr, self.weight_decay
        )  # says what is wrong with them


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw everything from this seed, and leave the caller's random state as it was."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """One thread for a tiny network: a second costs more than it brings (LeNet-5 on two
    cores, batch of 32: 18 ms and 27 ms).
    """
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < TINY:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def finetune(
    model: nn.Module,
    data: Data,
    settings: Settings,
    *,
    name: str,
    identity: Mapping[str, Any],
    step: Step | None = None,
    out: Path | None = None,
    progress: bool = True,
) -> Run:
    """Give `model` a head for the data's classes, train it, and write the run folder.

    `identity` goes into config.json: what rebuilds the network. `step` defaults to
    cross entropy and accuracy.
    """
    accelerator = _accelerator(settings)
    cfg = None
    train, val = data.train, data.val
    if data.size:
        cfg = _input(model, data, settings)
        augment = (
            ("small" if data.small else "photo") if settings.augment == "auto" else settings.augment
        )
        train, val = data.transformed(
            build_transform(cfg, train=True, augment=augment), build_transform(cfg)
        )
    batch_size = settings.batch_size
    if isinstance(batch_size, str):
        batch_size = (
            _fitting(model, cfg, len(data.train), settings, accelerator) if cfg else DEFAULT_BATCH
        )
    train, val = _loaders(train, val, data, settings, batch_size)
    classes = data.classes
    images = _sample(val)
    if images is not None:
        classes = classes or tuple(map(str, range(output_width(model, images))))
        model = fit_head(model, len(classes), images)
    optimizer = make_optimizer(
        settings.optimizer, decay_groups(model), settings.lr, settings.weight_decay
    )
    schedule = warmup_cosine(optimizer, settings.epochs * len(train))
    counts = {"train_images": _count(train), "held_out_images": _count(val)}
    chosen = {
        "batch_size": batch_size,
        "lr": optimizer.defaults["lr"],
        "weight_decay": optimizer.defaults["weight_decay"],
        "device": str(accelerator.device),
    }
    config = {
        **identity,
        "torch_version": str(torch.__version__),
        "module": type(model).__name__,
        "num_classes": len(classes),
        "classes": list(classes),
        "input": cfg,
        "data": {
            "source": data.source,
            "split": data.split,
            **counts,
            "kinds": dict(data.kinds),
            "skipped": data.skipped,
        },
        "training": {**asdict(settings), **chosen},
    }
    folder = RunFolder(out, re.sub(r"[^\w.-]+", "_", f"{name}-{data.name}"), config)
    bar = Progress(settings.epochs, counts["train_images"], progress)
    with folder, bar, threads_for(model):
        history = fit(
            model,
            train,
            val,
            optimizer,
            schedule,
            epochs=settings.epochs,
            accelerator=accelerator,
            step=step or classify,
            progress=bar,
            after_epoch=folder.epoch,
        )
    return Run(
        folder.path,
        folder.config,
        history,
        accelerator.unwrap_model(model, keep_fp32_wrapper=False),
    )


def _accelerator(settings: Settings) -> Any:
    from accelerate import Accelerator

    try:
        return Accelerator(cpu=settings.cpu, mixed_precision=settings.mixed_precision)
    except ValueError as error:  # accelerate keeps one state per process
        raise UsageError(
            f"cpu={settings.cpu}, mixed_precision={settings.mixed_precision!r}: {error}"
        ) from error


def _input(model: nn.Module, data: Data, settings: Settings) -> dict[str, Any]:
    """The preprocessing for these images. Small ones are stretched to the network's
    size, or to a smaller one that it takes.
    """
    cfg = input_config(model, settings.input_size)
    if data.kinds:
        _say_converted(data, cfg["input_size"][0])
    if not data.small:
        return cfg
    known = getattr(model, "pretrained_cfg", None) or {}
    height, width = cfg["input_size"][1:]
    if (
        settings.input_size is None
        and not known.get("fixed_input_size")
        and min(height, width) > 2 * SMALL
    ):
        least = (known.get("min_input_size") or (0, 2 * SMALLEST))[1]
        cfg = input_config(model, max(SMALLEST, least))
        size = cfg["input_size"][1]
        assert data.size
        note(
            f"the images are {data.size[0]}x{data.size[1]}: they are enlarged to {size}x{size}, not {height}x{width} (input_size sets it)"
        )
    return cfg | {"crop_mode": "squash"}


def _fitting(
    model: nn.Module, cfg: Mapping[str, Any], images: int, settings: Settings, accelerator: Any
) -> int:
    """The largest batch whose training step is predicted to fit on the device, at most
    MOST and a tenth of the images.
    """
    device = accelerator.device.type
    if device not in ("cuda", "cpu"):
        note(f"batch_size='auto' knows no {device}: {DEFAULT_BATCH} is taken")
        return DEFAULT_BATCH
    capacity = room("auto", device)
    mixed = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(accelerator.mixed_precision)

    def step(batch: int) -> Memory:
        network = copy_on_meta(model)
        name = type(model).__name__
        size = torch.empty(batch, *cfg["input_size"], device="meta")
        optimizer = "adamw" if settings.optimizer == "adamw" else "nesterov"
        return predict(
            network,
            name,
            (size,),
            {},
            device=device,
            autocast=mixed,
            optimizer=optimizer,
            capacity=capacity,
        )

    batch = largest_batch(step, capacity, max(1, min(MOST, images // 10)))
    if not batch:
        raise UsageError(
            f"not even one image fits into the {capacity / 2**20:,.0f} MiB that are free: take a smaller network or input_size"
        )
    note(
        f"batch size {batch}: its training step is predicted to take {step(batch).peak / 2**20:,.0f} MiB"
    )
    return batch


def _say_converted(data: Data, channels: int) -> None:
    plain = "grey" if channels == 1 else "colour"
    other = {kind: count for kind, count in data.kinds.most_common() if kind != plain}
    if other:
        kinds = ", ".join(f"{count} {kind}" for kind, count in other.items())
        over = "; transparent parts become white" if "transparent" in other else ""
        note(
            f"{sum(other.values())} images are converted to {'grey' if channels == 1 else 'RGB'}: {kinds}{over}"
        )


def _loaders(
    train: Any, val: Any, data: Data, settings: Settings, batch_size: int
) -> tuple[DataLoader, DataLoader]:
    if isinstance(train, DataLoader):
        return train, val
    workers = settings.workers
    if (
        workers is None
    ):  # images in memory need none; a system that does not say how many cores are ours starts processes slowly
        in_memory = not data.kinds
        workers = (
            0
            if in_memory or not hasattr(os, "sched_getaffinity")
            else min(4, len(os.sched_getaffinity(0)))
        )
    left = len(train) % batch_size
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": torch.cuda.is_available() and not settings.cpu,
    }
    return (
        DataLoader(
            train,
            shuffle=True,
            drop_last=left == 1 and len(train) > 1,  # batch norm cannot train on one image
            generator=torch.Generator().manual_seed(settings.seed),
            **options,
        ),
        DataLoader(val, **options),
    )


def _sample(loader: DataLoader) -> Tensor | None:
    """A batch of images to try the network on; None when the batches are something
    else, which only a step of one's own knows.
    """
    dataset: Dataset = loader.dataset
    indexed = hasattr(dataset, "__getitem__") and loader.batch_size
    batch = loader.collate_fn([dataset[0]]) if indexed else next(iter(loader))
    if (
        isinstance(batch, (tuple, list))
        and len(batch) == 2
        and all(isinstance(part, Tensor) for part in batch)
    ):
        return batch[0] if not batch[1].is_floating_point() else None
    return None


def _count(loader: DataLoader) -> int:
    return (
        len(loader.dataset)
        if hasattr(loader.dataset, "__len__")
        else len(loader) * (loader.batch_size or 1)
    )

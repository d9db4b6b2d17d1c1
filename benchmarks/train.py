"""Images per second of a training step: `zoo.finetune` (all layers) by its defaults
against a plain loop with timm's network, loader and optimizer, and one with
torchvision's network, its transforms and torch's loader and optimizer.

python benchmarks/train.py [NETWORK]...        default: resnet18
    --data FOLDER     with train/ and val/; by default JPEG files made for it
    --cache off       ours reads the files anew in each epoch, as the peers do; by
                      default it holds small sets in memory
    --channels-last   our network in that memory format; the peers' stay as they are
    --batch N --rounds N --tiny

All train from random weights on the same files, cut out at random and mirrored, at 224
pixels, with AdamW; the peers have as many reading processes as ours by default. An
epoch of ours, one of each peer, and so on: a peer's epoch is held against the two of
ours around it. The epochs count without validation and checkpoints, the first of each
not at all.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import timm
import timm.data
import timm.optim
import torch
import torch.nn.functional as F
import torchvision
from photos import write_photos
from torch import nn
from torchvision.transforms import v2

import zoo
from zoo.training.metrics import Record

PEERS = {"resnet50_v1_5": "resnet50"}  # where their name is another
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 10  # of our own files
GOAL, GOAL_CHANNELS_LAST = 0.97, 1.1

Epoch = Callable[[], float]  # trains for one, and gives the images per second


def plain(model: nn.Module, loader: Iterable[Any], optimizer: torch.optim.Optimizer) -> Epoch:
    model.to(DEVICE)

    def epoch() -> float:
        model.train()
        count, begin = 0, time.perf_counter()
        for images, labels in loader:
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(labels)
        float(loss.detach())  # waits for the device
        return count / (time.perf_counter() - begin)

    return epoch


def with_timm(name: str, classes: int, folder: Path, batch: int, workers: int) -> Epoch:
    model = timm.create_model(name, num_classes=classes)
    loader = timm.data.create_loader(
        timm.data.create_dataset("", root=str(folder)),
        input_size=(3, 224, 224),
        batch_size=batch,
        is_training=True,
        color_jitter=0,  # as neither ours nor torchvision's does it
        num_workers=workers,
        use_prefetcher=DEVICE == "cuda",
        pin_memory=DEVICE == "cuda",
        persistent_workers=workers > 0,
        device=torch.device(DEVICE),
    )
    return plain(model, loader, timm.optim.create_optimizer_v2(model, "adamw", lr=1e-3))


def with_torchvision(name: str, classes: int, folder: Path, batch: int, workers: int) -> Epoch:
    model = torchvision.models.get_model(name, num_classes=classes)
    steps = [v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ToImage()]
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    loader = torch.utils.data.DataLoader(
        torchvision.datasets.ImageFolder(str(folder), v2.Compose(steps)),
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=DEVICE == "cuda",
        persistent_workers=workers > 0,
    )
    return plain(model, loader, torch.optim.AdamW(model.parameters(), lr=1e-3))


def in_turns(
    name: str,
    data: Path,
    peers: dict[str, Epoch],
    *,
    rounds: int,
    batch: int,
    cache: str,
    channels_last: bool,
) -> tuple[list[Record], dict[str, list[float]]]:
    """Records of our epochs, and speeds of the peers' between them."""
    form = torch.channels_last if channels_last else torch.contiguous_format
    model = zoo.create(name).to(memory_format=form)
    records: list[Record] = []
    speeds: dict[str, list[float]] = {peer: [] for peer in peers}

    def between(record: Record, module: nn.Module) -> None:
        records.append(record)
        if len(records) < rounds + 2:
            order = [*peers] if len(records) % 2 else [*reversed(peers)]
            for peer in order:
                speeds[peer].append(peers[peer]())

    with tempfile.TemporaryDirectory() as folder:
        zoo.finetune(
            model, data, epochs=rounds + 2, batch_size=batch, out=Path(folder, "run"),
            strategy="full", cache=cache, check=False, report=False, callback=between,
            progress=False,
        )  # fmt: skip
    return records, speeds


def compare(
    name: str, data: Path, *, rounds: int, batch: int, workers: int, cache: str, channels_last: bool
) -> None:
    other, train = PEERS.get(name, name), data / "train"
    classes = sum(each.is_dir() for each in train.iterdir())
    peers = {
        "timm": with_timm(other, classes, train, batch, workers),
        "torchvision": with_torchvision(other, classes, train, batch, workers),
    }
    records, speeds = in_turns(
        name, data, peers, rounds=rounds, batch=batch, cache=cache, channels_last=channels_last
    )
    own = [record["images_per_second"] for record in records][1:]
    waited = statistics.median(record["data_wait"] for record in records[1:])
    title = f"train {name}{', channels_last' if channels_last else ''}, batch {batch}"
    print(f"{title}: ours {statistics.median(own):.1f} images/s, waited {waited:.1%} for data")
    middles = []
    for peer, found in speeds.items():
        pairs = zip(own, own[1:], found[1:], strict=False)
        ratios = sorted((before + after) / 2 / theirs for before, after, theirs in pairs)
        middles.append(statistics.median(ratios))
        print(
            f"  / {peer}: {statistics.median(found[1:]):.1f} images/s, ratio "
            f"{middles[-1]:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    goal = GOAL_CHANNELS_LAST if channels_last else GOAL
    print(f"  / the better one: ratio {min(middles):.3f}; goal >= {goal}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=["resnet18"], metavar="NETWORK")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--cache", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--tiny", action="store_true", help="to try the script")
    chosen = parser.parse_args()
    workers = min(4, len(os.sched_getaffinity(0)))  # as ours by default
    batch, rounds = chosen.batch or (4 if chosen.tiny else 32), chosen.rounds or 5
    rounds = 1 if chosen.tiny else rounds
    with tempfile.TemporaryDirectory() as folder:
        data = chosen.data or Path(folder)
        if not chosen.data:
            count = 2 if chosen.tiny else 32
            write_photos(data / "train", CLASSES, count, (320, 400))
            write_photos(data / "val", CLASSES, 1, (320, 400))
        for name in chosen.names:
            compare(
                name, data, rounds=rounds, batch=batch, workers=workers, cache=chosen.cache,
                channels_last=chosen.channels_last,
            )  # fmt: skip

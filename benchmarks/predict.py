"""Classifying a folder of photos: zoo.predict against a plain loop with torchvision's
network, transforms and data loader, on the same files, in the same process.

python benchmarks/predict.py FOLDER [NAME [PHOTOS [ROUNDS]]]    default: resnet18 1000 3

FOLDER holds photos in class folders (torchvision.datasets.ImageFolder). The networks
have random numbers, the same ones. Both are run once before the clock starts; then in
turn, and the medians are compared. The peers: the loop without processes that read
images, and with one per core.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

import zoo

ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def plain_loop(model: torch.nn.Module, data: Subset, workers: int) -> list[list[float]]:
    found = []
    with torch.no_grad():
        for images, _ in DataLoader(data, 32, num_workers=workers):
            found += model(images).softmax(1).topk(5).values.tolist()
    return found


def ours(model: torch.nn.Module, files: list[str], **how: bool) -> list[list[float]]:
    predictions = zoo.predict(model, files, classes="imagenet", **how)
    return [[share for _, share in each.scores] for each in predictions]


def main(folder: str, name: str = "resnet18", count: int = 1000, rounds: int = ROUNDS) -> None:
    torch.set_num_threads(CORES)
    own, peer = zoo.create(name).eval(), getattr(torchvision.models, name)().eval()
    zoo.load_state_dict(own, peer.state_dict(), layout="torchvision")
    seen = own.preprocessing
    transform = v2.Compose(
        [
            v2.Resize(int(max(seen.input_size[1:]) / seen.crop_pct)),
            v2.CenterCrop(seen.input_size[1:]),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(seen.mean, seen.std),
        ]
    )
    whole = torchvision.datasets.ImageFolder(folder, transform)
    data = Subset(whole, range(min(count, len(whole))))
    files = [whole.samples[index][0] for index in data.indices]
    ways: dict[str, Callable[[], list[list[float]]]] = {
        "torchvision's loop": partial(plain_loop, peer, data, 0),
        f"the same, {CORES} workers": partial(plain_loop, peer, data, CORES),
        "zoo.predict": partial(ours, own, files),
        "zoo.predict, folded": partial(ours, own, files, fold=True),
        "zoo.predict, channels_last": partial(ours, own, files, channels_last=True),
        "zoo.predict, both": partial(ours, own, files, fold=True, channels_last=True),
    }
    expected = torch.tensor(plain_loop(peer, Subset(whole, range(32)), 0))
    for way in (partial(ours, own, files[:32]), partial(ours, own, files[:32], fold=True)):
        torch.testing.assert_close(
            torch.tensor(way()), expected, rtol=1e-3, atol=1e-4
        )  # warms up, too
    walls: dict[str, list[float]] = {title: [] for title in ways}
    cpus: dict[str, list[float]] = {title: [] for title in ways}
    for _ in range(rounds):
        for title, way in ways.items():
            begin, used = time.perf_counter(), sum(os.times()[:4])
            way()
            walls[title].append(time.perf_counter() - begin)
            cpus[title].append(sum(os.times()[:4]) - used)
    print(f"predict {name}, {len(files):,} photos, {CORES} cores; goals: ratios >= 1")
    print("  (ratios: speed over that of the faster of torchvision's two, by the clock and by")
    print("  the processors' time, which other programs on the machine change less)")
    best = [min(map(statistics.median, list(each.values())[:2])) for each in (walls, cpus)]
    for title in ways:
        wall, cpu = statistics.median(walls[title]), statistics.median(cpus[title])
        speeds = f"{len(files) / wall:7.1f} images/s, {len(files) / cpu:7.1f} per processor second"
        print(f"  {title:<28} {speeds}; ratios {best[0] / wall:.2f} and {best[1] / cpu:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))

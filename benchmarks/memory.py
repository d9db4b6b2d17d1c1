"""Predicted memory against what is really allocated, and the time of a prediction
against torch's own memory tracker.

python benchmarks/memory.py [NAME]...      a table of all ImageNet networks, or of these
                                           (on a GPU, or --device cpu)
python benchmarks/memory.py --tracker      against torch.distributed's MemTracker
python benchmarks/memory.py --fit 24GiB    on a GPU: largest batches, predicted and run

The peak of a step is torch's own record on a GPU and the profiler's record of the
allocator on the CPU. "Workspace" is what a library held for itself in it, oneDNN and
BLAS within their calls or what cuBLAS keeps, and on a GPU what the allocator gave
beyond what was asked for.
"""

import argparse
import gc
import itertools
import statistics
import subprocess
import sys
import time

import torch

import zoo
from zoo.count.drop_path import disable_drop_path
from zoo.count.memory.measured_memory import Measured, measure
from zoo.count.memory.memory_budget import LIBRARY_RESERVE, available_bytes
from zoo.count.workload import Workload
from zoo.formatting import markdown

PEERS_NETWORK = ("densenet121", 32)
STEPS = (("train", "momentum"), ("train", "adamw"), ("eval", None))


def imagenet() -> list[str]:
    """Networks of images of 200 pixels and more."""
    return [
        name
        for name in zoo.list_models(task="classify")
        if zoo.info(name).variant.image.size[1] > 200
    ]


def run(
    name: str, batch: int, device: str, *, mode: str, optimizer: str | None, autocast: str | None
) -> tuple[int, Measured]:
    """Predicted peak in bytes, and what was measured."""
    options = {"mode": mode, "optimizer": optimizer}
    predicted = zoo.memory(name, batch, device=device, autocast=autocast, **options).peak
    model = zoo.create(name, device=device)
    disable_drop_path(model)  # what is left out at random is predicted as kept
    inputs = zoo.info(name).variant.example_inputs(batch, device=device)
    lower = getattr(torch, autocast) if autocast else None
    found = measure(Workload(model, name, inputs), autocast=lower, **options)
    return predicted, found


def compare(names: list[str], device: str, batches: list[int], types: list[str | None]) -> None:
    rows, errors, without = [], [], []
    for name, batch, autocast, (mode, optimizer) in itertools.product(names, batches, types, STEPS):
        sys.stderr.write(
            f"\r{name} {batch} {autocast or 'float32'} {mode} {optimizer or ''}".ljust(78)
        )
        try:
            predicted, found = run(
                name, batch, device, mode=mode, optimizer=optimizer, autocast=autocast
            )
        except torch.OutOfMemoryError:
            step = [name, str(batch), autocast or "float32", mode, optimizer or ""]
            rows.append([*step, "", "out of memory", "", "", ""])
            continue
        finally:
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
        errors.append(predicted / found.peak - 1)
        without.append(predicted / found.tensors - 1)
        measured = (predicted, found.peak, found.workspace + found.unsplit)
        sizes = [f"{size / 2**20:,.1f}" for size in measured]
        shares = [f"{error:+.2%}" for error in (errors[-1], without[-1])]
        rows.append(
            [name, str(batch), autocast or "float32", mode, optimizer or "", *sizes, *shares]
        )
    headers = [
        "network",
        "batch",
        "type",
        "mode",
        "optimizer",
        "predicted MiB",
        "measured MiB",
        "workspace MiB",
        "error",
        "without workspace",
    ]
    place = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"\n\ntorch {torch.__version__}, {place}, {len(errors)} steps\n")
    for what, shares in (("error", errors), ("error without the workspace", without)):
        sizes = sorted(map(abs, shares))
        share = sum(size <= 0.02 for size in sizes) / len(sizes)
        print(
            f"{what}: median {statistics.median(sizes):.2%}, worst {sizes[-1]:.2%}, "
            f"within 2 % in {share:.1%} of the steps"
        )
    print("\n" + markdown(headers, rows, left=("network", "type", "mode", "optimizer")))


TRACKER = """
import time, torch, zoo
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
begin = time.perf_counter()
with FakeTensorMode():
    model = zoo.create({name!r}, device="cpu").train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    tracker = MemTracker()
    tracker.track_external(model, optimizer)
    images, labels = torch.randn({batch}, 3, 224, 224), torch.zeros({batch}, dtype=torch.long)
    with tracker:
        for step in range(2):
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            if step == 0:
                tracker.reset_mod_stats()
peak = tracker.get_tracker_snapshot("peak")
print(time.perf_counter() - begin, sum(kinds["Total"] for kinds in peak.values()))
"""
OURS = """
import time, zoo
begin = time.perf_counter()
found = zoo.memory({name!r}, {batch}, device="cpu")
print(time.perf_counter() - begin, found.peak)
"""


def tracker() -> None:
    """Building and predicting, each in a process of its own with everything imported,
    and the truth on this machine's CPU.
    """
    name, batch = PEERS_NETWORK

    def once(code: str) -> tuple[float, int]:
        warm = "import torch, torchvision, zoo, torch.distributed; zoo.memory('lenet5')\n"
        done = subprocess.run(
            [sys.executable, "-c", warm + code.format(name=name, batch=batch)],
            check=True,
            capture_output=True,
            text=True,
        )
        seconds, size = done.stdout.split()
        return float(seconds), int(size)

    ratios = []
    for _ in range(3):
        (ours, predicted), (theirs, peers) = once(OURS), once(TRACKER)
        ratios.append(ours / theirs)
        print(
            f"{name}, batch {batch}: ours {ours:.2f} s, MemTracker {theirs:.2f} s, "
            f"ratio {ratios[-1]:.3f}",
            flush=True,
        )
    images = torch.randn(batch, 3, 224, 224)
    truth = measure(Workload(zoo.create(name), name, (images,))).peak
    print(f"median ratio {statistics.median(ratios):.3f}; goal <= 0.1")
    for who, size in (("ours", predicted), ("MemTracker", peers)):
        print(
            f"peak of a training step: measured {truth / 2**20:,.1f} MiB, "
            f"{who} {size / 2**20:,.1f} MiB ({size / truth - 1:+.2%})"
        )


def fit(size: str, names: list[str]) -> None:
    """Predicted largest batch against the largest that runs in a part of the card of
    this size.
    """
    limit_memory(size)
    rows, failures = [], 0
    for name, autocast, optimizer in itertools.product(
        names, (None, "bfloat16"), ("momentum", "adamw")
    ):
        predicted, low = largest(name, size, {"autocast": autocast, "optimizer": optimizer})
        failed = low < predicted
        failures += failed
        rows.append(
            [
                name,
                autocast or "float32",
                optimizer,
                str(predicted),
                str(low),
                f"{predicted / low:.1%}",
                "out of memory" if failed else "",
            ]
        )
        print(rows[-1], file=sys.stderr)
    print(
        markdown(
            ["network", "type", "optimizer", "predicted", "runs", "share", ""],
            rows,
            left=("network", "type", "optimizer"),
        )
    )
    print(f"\n{failures} of {len(rows)} predictions ran out of memory")


def limit_memory(size: str) -> None:
    """Take a part of the card of this size for the card."""
    total = torch.cuda.get_device_properties(0).total_memory
    part = available_bytes(size, "cuda") + LIBRARY_RESERVE  # the driver takes the rest
    torch.cuda.set_per_process_memory_fraction(part / total)


def largest(name: str, size: str, options: dict) -> tuple[int, int]:
    """The largest batch as predicted, and, within a hundredth, the largest that
    runs.
    """
    predicted = zoo.max_batch_size(name, size, **options)
    low, high = 0, predicted
    while runs(name, high, options):
        low, high = high, high + max(1, high // 50)
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if runs(name, middle, options) else (low, middle)
    return predicted, low


def runs(name: str, batch: int, options: dict) -> bool:
    try:
        model = zoo.create(name, device="cuda")
        inputs = zoo.info(name).variant.example_inputs(batch, device="cuda")
        lower = getattr(torch, options["autocast"]) if options["autocast"] else None
        workload = Workload(model, name, inputs)
        measure(workload, optimizer=options["optimizer"], autocast=lower)
        return True
    except torch.OutOfMemoryError:
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--tracker", action="store_true")
    parser.add_argument("--fit")
    chosen = parser.parse_args()
    begin = time.perf_counter()
    if chosen.tracker:
        tracker()
    elif chosen.fit:
        fit(chosen.fit, chosen.names or imagenet())
    else:
        gpu = chosen.device == "cuda"
        compare(
            chosen.names or imagenet(),
            chosen.device,
            chosen.batch or ([8, 32] if gpu else [1, 4]),
            [None, "bfloat16"] if gpu else [None],
        )
    print(f"\n{time.perf_counter() - begin:.0f} s")

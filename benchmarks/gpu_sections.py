"""What benchmarks/gpu.py measures: a function per section, which yields a row after the
other, the most telling first. Its docstring goes onto the page.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import memory as memory_benchmark
import torch
import torch.nn.functional as F
import torchvision
from pairs import compare, seconds
from photos import write_photos
from torch import Tensor, nn

import zoo
from zoo.count.memory.checked import NETWORKS
from zoo.optimizers import make_optimizer
from zoo.tasks.classify import Classify
from zoo.training.environment import accelerator_for
from zoo.training.loop import Loop
from zoo.training.metrics import Record
from zoo.training.progress import Progress
from zoo.training.recipe import Recipe
from zoo.training.schedule import make_schedule
from zoo.training.step import Step
from zoo.transfer.param_groups import recipe_optimizer

Row = dict[str, Any]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS = 7
TURN = 0.2  # seconds of one turn of a round
TESTS_SECONDS = 120
PEERS = {  # ours, torchvision's, batch
    "resnet50_v1_5": ("resnet50", 128),
    "vgg16": ("vgg16", 64),
    "densenet121": ("densenet121", 64),
    "squeezenet1_1": ("squeezenet1_1", 128),
}
TINY_PEERS = {"squeezenet1_1": ("squeezenet1_1", 2)}
VARIANTS = {  # name: autocast, channels_last
    "float32": (False, False),
    "bf16": (True, False),
    "bf16, channels_last": (True, True),
}


# ------------------------------------------------------------------------------ running


def lower(on: bool = True) -> Any:
    """Computes in bf16."""
    return torch.autocast(DEVICE, torch.bfloat16) if on else nullcontext()


def finish() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def release() -> None:
    """Free memory: the next row begins anew."""
    if DEVICE == "cuda":
        torch.cuda.empty_cache()


def forward_of(model: nn.Module, x: Tensor, bf16: bool) -> Callable[[], object]:
    model.eval()

    def step() -> object:
        with torch.inference_mode(), lower(bf16):
            return model(x)

    return step


def training_of(model: nn.Module, x: Tensor, bf16: bool) -> Callable[[], object]:
    """A step of SGD with momentum."""
    model.train()
    optimizer = make_optimizer("momentum", model.parameters(), 1e-4)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)

    def step() -> None:
        with lower(bf16):
            outputs = model(x)
        F.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


MODES = {"forward": forward_of, "training": training_of}


def repeated(step: Callable[[], object], count: int) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(count):
            step()
        finish()

    return turn


def turns(step: Callable[[], object], tiny: bool) -> int:
    """How many steps fill a turn, after some that warm up."""
    repeated(step, 1 if tiny else 3)()
    return 1 if tiny else max(1, round(TURN / seconds(repeated(step, 2)) * 2))


def rate(step: Callable[[], object], tiny: bool) -> float:
    """Steps per second."""
    count = turns(step, tiny)
    turn = repeated(step, count)
    return count / statistics.median(seconds(turn) for _ in range(1 if tiny else ROUNDS))


def against_torchvision(
    name: str, mode: str, variant: str, tiny: bool, compiled: str | None = None
) -> Row:
    """Images per second of ours and of the peer with the same weights, in turns."""
    arch, batch = (TINY_PEERS if tiny else PEERS)[name]
    bf16, channels_last = VARIANTS[variant]
    ours, theirs = zoo.create(name), torchvision.models.get_model(arch)
    theirs.load_state_dict(zoo.export_state_dict(ours, layout="torchvision"))
    form = torch.channels_last if channels_last else torch.contiguous_format
    side = 64 if tiny else 224
    x = torch.randn(batch, 3, side, side, device=DEVICE).to(memory_format=form)
    steps = []
    for model in (ours, theirs):
        placed: Any = model.to(DEVICE, memory_format=form)
        placed = torch.compile(placed, backend=compiled) if compiled else placed
        steps.append(MODES[mode](placed, x, bf16))
    count = max(turns(step, tiny) for step in steps)
    rounds = 1 if tiny else ROUNDS
    first, second, ratios = compare(*(repeated(step, count) for step in steps), rounds=rounds)
    release()
    if compiled:
        torch.compiler.reset()
    return {
        "network": name,
        "mode": mode,
        "type": variant + (", compiled" if compiled else ""),
        "batch": batch,
        "images/s": round(batch * count / first, 1),
        "torchvision's": round(batch * count / second, 1),
        "ratio": round(1 / statistics.median(ratios), 3),
    }


# ----------------------------------------------------------------------------- sections


def speed(tiny: bool) -> Iterator[Row]:
    """Images per second against torchvision's network with the same weights, in turns
    on the same images; the ratio is above 1 where ours is faster. Training is a step of
    SGD with momentum. float32 is as torch computes it by default (convolutions in
    TF32); bf16 is autocast.
    """
    names = TINY_PEERS if tiny else PEERS
    for name, variant, mode in itertools.product(names, VARIANTS, MODES):
        yield against_torchvision(name, mode, variant, tiny)


def compiled(tiny: bool) -> Iterator[Row]:
    """The same through torch.compile, which fuses what stands between convolutions."""
    backend = "eager" if tiny else "inductor"
    names = TINY_PEERS if tiny else [*PEERS][:2]
    for name, mode in itertools.product(names, MODES):
        yield against_torchvision(name, mode, "bf16, channels_last", tiny, backend)


def matrix(tiny: bool) -> Iterator[Row]:
    """VGG-16 against what the chip does on a product of two large matrices of the same
    type, measured in the same run (100 %): multiply-adds of convolutions and linear
    layers, forward or forward and backward, twice their number per second.
    """
    side, name, batch = (64, "lenet5_modern", 2) if tiny else (8192, "vgg16", 128)
    counts = zoo.profile(name, mode="train")
    work = {"forward": 2 * counts.macs, "training": 2 * (counts.macs + counts.backward_macs)}
    for kind in (torch.bfloat16, torch.float32):
        bf16 = kind == torch.bfloat16
        torch.set_float32_matmul_precision("high")  # TF32, as the convolutions
        a, b = (torch.randn(side, side, device=DEVICE, dtype=kind) for _ in "ab")
        best = 2 * side**3 * rate(lambda a=a, b=b: a @ b, tiny)
        facts = {"type": "bf16" if bf16 else "TF32"}
        yield {
            **facts, "what": f"matrices {side}x{side}", "images/s": None,
            "TFLOP/s": round(best / 1e12, 3), "share (%)": 100.0,
        }  # fmt: skip
        for form, mode in itertools.product(("channels_last", "contiguous_format"), MODES):
            layout = getattr(torch, form)
            model = zoo.create(name).to(DEVICE, memory_format=layout)
            size = zoo.info(name).variant.image.size
            x = torch.randn(batch, *size, device=DEVICE).to(memory_format=layout)
            images = batch * rate(MODES[mode](model, x, bf16), tiny)
            release()
            yield {
                **facts, "what": f"{name} {mode}, {form}, batch {batch}",
                "images/s": round(images, 1),
                "TFLOP/s": round(images * work[mode] / 1e12, 3),
                "share (%)": round(100 * images * work[mode] / best, 1),
            }  # fmt: skip


def memory(tiny: bool) -> Iterator[Row]:
    """The predicted peak of one step against torch's record of it. The workspace is
    what libraries held for themselves and what the allocator gave beyond what was asked
    for; the last error is without it.
    """
    names, batch = (("lenet5_modern",), 2) if tiny else (NETWORKS, 32)
    steps = memory_benchmark.STEPS
    for (mode, optimizer), autocast, name in itertools.product(steps, (None, "bfloat16"), names):
        predicted, found = memory_benchmark.run(
            name, batch, DEVICE, mode=mode, optimizer=optimizer, autocast=autocast
        )
        release()
        yield {
            "network": name,
            "batch": batch,
            "type": autocast or "float32",
            "mode": mode,
            "optimizer": optimizer or "",
            "predicted (MiB)": round(predicted / 2**20, 1),
            "measured (MiB)": round(found.peak / 2**20, 1),
            "workspace (MiB)": round((found.workspace + found.unsplit) / 2**20, 1),
            "error (%)": round(100 * (predicted / found.peak - 1), 2),
            "without workspace (%)": round(100 * (predicted / found.tensors - 1), 2),
        }


def batches(tiny: bool) -> Iterator[Row]:
    """The largest batch of a training step with momentum as predicted for a card of
    this size, and the largest that runs in as large a part of this one. A share above
    100 % would run out of memory.
    """
    if DEVICE == "cpu":
        raise RuntimeError("the largest batch is tried on a GPU only")
    size = "1GiB" if tiny else "8GiB"
    memory_benchmark.limit_memory(size)
    names = ("resnet20_cifar10",) if tiny else ("resnet50", "vgg16", "densenet121", "googlenet")
    for autocast, name in itertools.product((None, "bfloat16"), names):
        options = {"autocast": autocast, "optimizer": "momentum"}
        predicted, runs = memory_benchmark.largest(name, size, options)
        yield {
            "network": name,
            "type": autocast or "float32",
            "card": size,
            "predicted": predicted,
            "runs": runs,
            "share (%)": round(100 * predicted / runs, 1) if runs else None,
        }


class Batches:
    """Batches of random 8-bit images of one pool in the machine's memory."""

    def __init__(self, side: int, batch: int, count: int, pool: int) -> None:
        self.images = torch.randint(256, (pool, 3, side, side), dtype=torch.uint8)
        self.labels = torch.randint(10, (pool,))
        self.batch = batch
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(self.count):
            rows = torch.randint(len(self.images), (self.batch,))
            images = self.images[rows]
            yield images.pin_memory() if DEVICE == "cuda" else images, self.labels[rows]


class Recorded:
    """The share of its time in which the device computes, in the training of one
    epoch.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.busy: float | None = None
        activities = [torch.profiler.ProfilerActivity.CPU]
        if DEVICE == "cuda":
            activities = [torch.profiler.ProfilerActivity.CUDA]
        self.profile = torch.profiler.profile(activities=activities)

    def begin_epoch(self, epoch: int, training: bool) -> None:
        if epoch == self.epoch and training:
            self.profile.start()
        elif epoch == self.epoch:  # its training is through
            finish()
            self.profile.stop()
            times = [
                (event.time_range.start, event.time_range.end)
                for event in self.profile.events() or ()
                if is_kernel(event)
            ]
            self.busy = covered(times) if times else None


def is_kernel(event: Any) -> bool:
    """Whether the device computes: not a copy from or to the machine's memory, nor the
    range of a part of the step.
    """
    if event.device_type != torch.autograd.DeviceType.CUDA:
        return False
    return not (event.is_user_annotation or event.name.startswith(("Memcpy HtoD", "Memcpy DtoH")))


def covered(times: Iterable[tuple[float, float]]) -> float:
    """The share of the whole time that is in one of these times at least."""
    ordered = sorted(times)
    begin = end = ordered[0][0]
    busy = 0.0
    for start, stop in ordered:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return busy / (end - begin)


def training(tiny: bool) -> Iterator[Row]:
    """Fine-tuning at 224 pixels in bf16, channels_last, by our own loop with AdamW. Of
    random 8-bit images in the machine's memory, mirrored and normalised on the device;
    then by `zoo.finetune`, all layers, on a folder of 2,560 JPEG files of 256 pixels.
    Waited: the share of the time without a batch; busy: the share in which the device
    computes, by the profiler.
    """
    name, side = ("resnet20_cifar10", 32) if tiny else ("resnet50_v1_5", 224)
    batch, count, pool = (4, 2, 8) if tiny else (256, 30, 2048)
    train, val = Batches(side, batch, count, pool), Batches(side, batch, 1, batch)
    form = torch.channels_last
    mean, std = (torch.full((1, 3, 1, 1), value, device=DEVICE) for value in (0.45, 0.225))
    recorded = Recorded(epoch=3)

    def on_device(given: Any, augmented: bool) -> Any:
        images = given[0].contiguous(memory_format=form).float().div(255).sub(mean).div(std)
        if augmented:
            mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(mirrored, images.flip(3), images)
        return images, given[1]

    task = Classify()
    step = Step(
        loss=task.loss, metrics=task.metrics, on_device=on_device, begin_epoch=recorded.begin_epoch
    )
    model = zoo.create(name, num_classes=10).to(memory_format=form)
    recipe = Recipe(mixed_precision="bf16", epochs=3)
    optimizer = recipe_optimizer(recipe, model)
    schedule = make_schedule(recipe, optimizer, recipe.epochs * count, count)
    with accelerator_for(recipe) as accelerator:
        history = Loop(
            model, train, val, optimizer, schedule, step=step, epochs=recipe.epochs,
            accelerator=accelerator, progress=Progress(recipe.epochs, batch * count, show=False),
        ).run()  # fmt: skip
    yield trained(name, "8-bit images in memory", batch, history[1], recorded.busy)
    release()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        height = 48 if tiny else 256
        write_photos(data / "train", 10, 2 if tiny else 256, (height, height))
        write_photos(data / "val", 10, 1, (height, height))
        model = zoo.create(name, num_classes=10).to(memory_format=form)
        run = zoo.finetune(
            model, data, epochs=3, batch_size=batch, out=Path(folder, "run"),
            mixed_precision="bf16", input_size=side, strategy="full", check=False, report=False,
            progress=False,
        )  # fmt: skip
    kept = "held in memory" if run.config["recipe"]["cache"] == "on" else "read anew"
    yield trained(name, f"zoo.finetune, files {kept}", batch, run.history[-1], None)


def trained(name: str, what: str, batch: int, record: Record, busy: float | None) -> Row:
    return {
        "network": name,
        "data": what,
        "batch": batch,
        "images/s": round(record["images_per_second"], 1),
        "waited (%)": round(100 * record["data_wait"], 1),
        "busy (%)": None if busy is None else round(100 * busy, 1),
    }


def probe(tiny: bool) -> Iterator[Row]:
    """The pass of a linear probe: `zoo.features` of the images before the head, batches
    in memory.
    """
    names = ("resnet20_cifar10",) if tiny else ("resnet50_v1_5", "googlenet", "squeezenet1_1")
    for name, precision in itertools.product(names, ("bf16", "no")):
        side, batch, count = (32, 4, 2) if tiny else (224, 256, 16)
        model = zoo.create(name).to(DEVICE)
        loader = torch.utils.data.DataLoader(Whole(batch, count, side), batch_size=None)

        def features(model: nn.Module = model, loader: Any = loader, how: str = precision) -> Any:
            return zoo.features(model, loader, mixed_precision=how, cache=False, progress=False)

        features()
        took = statistics.median(seconds(features) for _ in range(1 if tiny else 3))
        yield {
            "network": name,
            "type": "bf16" if precision == "bf16" else "float32",
            "batch": batch,
            "images/s": round(batch * count / took, 1),
        }


class Whole(torch.utils.data.Dataset):
    """Batches, each as one item."""

    def __init__(self, batch: int, count: int, side: int) -> None:
        self.images = torch.randn(batch, 3, side, side)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if number >= self.count:
            raise IndexError
        return self.images, torch.arange(len(self.images)) % 10


def tests(tiny: bool) -> Iterator[Row]:
    """What tests/gpu says of every kernel of the memory table, of every optimizer and
    of the largest batch (the peaks of whole networks stand above).
    """
    import pytest

    begin = time.perf_counter()
    rows: list[Row] = []

    class Outcomes:
        """Collects what each test gives, and stops when its time is over."""

        def pytest_sessionstart(self, session: Any) -> None:
            self.session = session

        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                rows.append({"test": report.nodeid.split("::")[1], "outcome": report.outcome})
            if time.perf_counter() - begin > TESTS_SECONDS:
                self.session.shouldstop = "no more time"

    folder = Path(__file__).resolve().parent.parent / "tests" / "gpu"
    wanted = ["-k", "not peak_of_a_step", "-p", "no:cacheprovider"]
    if pytest.main([str(folder), *wanted], [Outcomes()]) == pytest.ExitCode.INTERRUPTED:
        rows.append({"test": "the others", "outcome": "no time"})
    yield from rows


SECTIONS = {
    each.__name__: each
    for each in (training, speed, matrix, memory, batches, compiled, probe, tests)
}

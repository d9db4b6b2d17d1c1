"""Runs that are stopped and go on: to the bit what they would have been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import zoo
from zoo.data.digits import open_digits
from zoo.data.order import Order, PlacedDataset
from zoo.errors import DataError, UsageError, ZooError
from zoo.files import read_state
from zoo.training import loop
from zoo.training.run import Run

TIMES = {"seconds", "images_per_second", "data_wait"}
SPLIT = open_digits()
TRAIN, VAL = Subset(SPLIT.train, range(66)), Subset(SPLIT.val, range(30))
OPTIONS = {
    "epochs": 3, "batch_size": 16, "ema": 0.9, "clip": 1.0, "accumulation": 2, "augment": "small",
    "workers": 0, "input_size": (1, 8, 8), "progress": False, "check": False, "report": False,
}  # fmt: skip


class Killed(BaseException):
    """No handler of the package sees it coming."""


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3),
        nn.Linear(4 * 36, 10),
    )  # fmt: skip


def numbers(path):
    """Everything in a run folder but times."""
    run = Run.open(path)
    history = [
        {key: value for key, value in record.items() if key not in TIMES} for record in run.history
    ]
    return history, read_state(path / "best.safetensors"), read_state(path / "last.safetensors")


def assert_same(one, other):
    assert one[0] == other[0]
    for first, second in zip(one[1:], other[1:], strict=True):
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run"
    run = zoo.finetune(network(), TRAIN, val=VAL, out=path, **OPTIONS)
    assert run.finished
    assert not (path / "checkpoint.pt").exists()
    return numbers(path)


def killed_at(step, path, monkeypatch, data=TRAIN, val=VAL, **options):
    """A run that ends without a farewell after so many saves, one a step."""
    monkeypatch.setattr(loop, "SAVE_MINUTES", 0.0)
    count, real = 0, loop.Loop._save

    def save(self):
        nonlocal count
        count += 1
        if count > step:
            raise Killed
        real(self)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Loop, "_save", save)
        zoo.finetune(network(), data, val=val, out=path, **{**OPTIONS, **options})


@pytest.mark.parametrize("step", [1, 2, 3, 5, 8])  # saves: three steps and the end of an epoch
def test_a_run_goes_on_to_the_bit(step, whole, tmp_path, monkeypatch):
    path = tmp_path / "run"
    killed_at(step, path, monkeypatch)
    assert not Run.open(path).finished
    torch.rand(step)  # what else the process draws does not matter
    run = zoo.finetune(network(), TRAIN, val=VAL, resume=path, progress=False)
    assert run.path == path
    assert run.finished
    assert_same(numbers(path), whole)


def test_between_the_checkpoint_and_the_weights_of_an_epoch(whole, tmp_path, monkeypatch):
    """The folder is brought to where the checkpoint is, forward and back."""
    path = tmp_path / "run"
    killed_at(4, path, monkeypatch)  # the checkpoint at the end of epoch 1 is there
    for name in ("metrics.jsonl", "best.safetensors", "last.safetensors"):
        (path / name).unlink(missing_ok=True)
    (path / "metrics.jsonl").write_text('{"epoch": 1, "val_loss": 0}\n{"epoch": 2}\n')
    zoo.finetune(network(), TRAIN, val=VAL, resume=path, progress=False)
    assert_same(numbers(path), whole)


def test_before_the_first_checkpoint_it_begins_again(whole, tmp_path, monkeypatch):
    path = tmp_path / "run"
    killed_at(1, path, monkeypatch)
    (path / "checkpoint.pt").unlink()
    zoo.finetune(network(), TRAIN, val=VAL, resume=path, progress=False)
    assert_same(numbers(path), whole)


def test_a_loader_of_ones_own_goes_on_too(tmp_path, monkeypatch):
    """It draws from the process's random state, at the beginning of an epoch."""
    inputs = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    pairs = TensorDataset(inputs, torch.arange(40) % 10)
    train, val = DataLoader(pairs, batch_size=8, shuffle=True), DataLoader(pairs, batch_size=8)
    options = {"input_size": None, "augment": "auto", "accumulation": 1}
    zoo.finetune(network(), train, val=val, out=tmp_path / "whole", **{**OPTIONS, **options})
    killed_at(8, tmp_path / "run", monkeypatch, train, val, **options)
    zoo.finetune(network(), train, val=val, resume=tmp_path / "run", progress=False)
    assert_same(numbers(tmp_path / "run"), numbers(tmp_path / "whole"))


def test_ctrl_c_saves_and_says_how_to_go_on(whole, tmp_path, monkeypatch):
    path, real = tmp_path / "run", loop.Loop._batches

    def batches(self):
        for number, batch in real(self):
            if self.epoch == 2 and number == 1:
                os.kill(os.getpid(), signal.SIGINT)
            yield number, batch

    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_batches", batches)
        with pytest.raises(KeyboardInterrupt, match=r"epoch 2: `zoo finetune --resume .*/run`"):
            zoo.finetune(network(), TRAIN, val=VAL, out=path, **OPTIONS)
    assert signal.getsignal(signal.SIGINT) is handler
    zoo.finetune(network(), TRAIN, val=VAL, resume=path, progress=False)
    assert_same(numbers(path), whole)


def test_what_cannot_go_on(tmp_path, monkeypatch):
    path = tmp_path / "run"
    killed_at(2, path, monkeypatch)
    given = {"val": VAL, "resume": path, "progress": False}
    for what, data, options, expected in (
        (network(), TRAIN, {"lr": 0.1, "seed": 3}, "leave out seed, lr"),
        (None, TRAIN, {}, "begun with a module that is an object"),
        (network(), None, {}, "begun with data that is an object"),
        (network(), Subset(TRAIN, range(50)), {}, r"begun with other data \(train_images\)"),
    ):
        with pytest.raises(UsageError, match=expected):
            zoo.finetune(what, data, **given, **options)
    with pytest.raises(UsageError, match="is no run folder"):
        zoo.finetune(resume=tmp_path)
    with pytest.raises(UsageError, match=r"needs what to train, or resume=RUN"):
        zoo.finetune()
    whole_checkpoint = (path / "checkpoint.pt").read_bytes()
    (path / "checkpoint.pt").write_bytes(whole_checkpoint[:1000])
    with pytest.raises(DataError, match="is no checkpoint that can be read"):
        zoo.finetune(network(), TRAIN, **given)
    torch.save({"version": 0}, path / "checkpoint.pt")
    with pytest.raises(DataError, match="another version of zoo"):
        zoo.finetune(network(), TRAIN, **given)
    (path / "checkpoint.pt").write_bytes(whole_checkpoint)
    zoo.finetune(network(), TRAIN, **given)
    with pytest.raises(UsageError, match="is finished, after 3 epochs"):
        zoo.finetune(network(), TRAIN, **given)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    path, real = tmp_path / "run", torch.save
    killed_at(2, path, monkeypatch)
    before = (path / "checkpoint.pt").read_bytes()

    def full(content, file):
        with open("/dev/full", "wb") as nowhere:
            real(content, nowhere)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ZooError, match=r"checkpoint.pt cannot be written.*(full|space)"):
        zoo.finetune(network(), TRAIN, val=VAL, resume=path, progress=False)
    assert (path / "checkpoint.pt").read_bytes() == before
    assert not [each.name for each in path.iterdir() if each.name.startswith(".")]


@pytest.mark.slow
def test_kill_and_go_on_from_the_command_line(tmp_path):
    """`kill -9` of the real process, somewhere in the second epoch."""
    command = [sys.executable, "-m", "zoo", "finetune"]
    options = ["lenet5_modern", "--data", "digits", "--epochs", "4", "--no-progress"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *options, "--out", "whole"], cwd=tmp_path, check=True)
    process = subprocess.Popen([*command, *options, "--out", "run"], cwd=tmp_path, env=environment)
    while not (tmp_path / "run" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not Run.open(tmp_path / "run").finished
    done = subprocess.run(
        [*command, "--resume", "run", "--json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 4
    assert_same(numbers(tmp_path / "run"), numbers(tmp_path / "whole"))


# ------------------------------------------------------------------------------- order


@pytest.mark.parametrize(("count", "batch", "world"), [(100, 8, 2), (7, 3, 2), (33, 16, 1)])
def test_processes_share_an_epoch(count, batch, world):
    parts = [
        [*Order(count, batch, seed=1, shuffle=True, rank=rank, world=world)]
        for rank in range(world)
    ]
    assert len({len(part) for part in parts}) == 1, "as many batches in each process"
    seen = sorted(index for part in parts for places in part for _, index in places)
    left_out = count % (batch * world) // world < 2 and count % (batch * world)
    assert len(seen) == len(set(seen)) == count - left_out
    val = [[*Order(count, batch, rank=rank, world=world)] for rank in range(world)]
    assert sorted(i for part in val for places in part for _, i in places) == [*range(count)]


def test_what_is_drawn_for_an_example_depends_on_seed_epoch_and_index():
    class Drawing(torch.utils.data.Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            import random

            import numpy

            return index, torch.rand(()).item(), random.random(), numpy.random.rand()

    data = PlacedDataset(Drawing(), seed=0)
    state = torch.get_rng_state()
    first = data[1, 2]
    assert data[1, 2] == first
    assert torch.equal(torch.get_rng_state(), state)
    others = [data[2, 2], data[1, 3], PlacedDataset(Drawing(), seed=1)[1, 2]]
    assert all(first[k] != other[k] for other in others for k in (1, 2, 3))
    assert PlacedDataset(Drawing(), None)[1, 2][0] == 2

"""A step of the optimizer: in parts, with limits, out of memory, averaged, and by two
processes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from two_processes import free_port, launched

import zoo
from zoo.errors import UsageError
from zoo.files import read_state
from zoo.tasks.classify import Classify
from zoo.training.ema import WeightAverage
from zoo.training.run import Run, early_stop
from zoo.training.step import Step
from zoo.training.update import Updater, split

GENERATOR = torch.Generator().manual_seed(0)
BATCH = torch.randn(13, 4, generator=GENERATOR), torch.arange(13) % 3
CLASSIFY = Classify().step(None)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))


def weights_after(step=CLASSIFY, optimizer=None, **options):
    model = network()
    made = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.5)))(model.parameters())
    said = []
    update = Updater(model, model, made, step, Accelerator(cpu=True), say=said.append, **options)
    found = update(BATCH)
    return torch.cat([each.detach().flatten() for each in model.parameters()]), found, said


def test_parts_of_a_batch_give_the_step_of_the_whole():
    whole, *_ = weights_after()
    for limit in (1, 4, 7, 12):
        parts, found, _ = weights_after(limit=limit)
        sizes = [len(batch[0]) for batch, _ in found]
        assert sum(sizes) == 13
        assert max(sizes) <= limit
        assert max(sizes) - min(sizes) <= 1
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)
    assert torch.equal(weights_after(limit=13)[0], whole)
    assert [*split({"a": BATCH[0], "b": [BATCH[1]]}, 7)][1]["b"][0].tolist() == [
        0,
        1,
        2,
        0,
        1,
        2,
        0,
    ]


def test_gradients_are_clipped_to_a_norm():
    def step_of(found):
        return torch.linalg.vector_norm(found[0] - start) / 0.5

    start = torch.cat([each.detach().flatten() for each in network().parameters()])
    free = step_of(weights_after())
    assert step_of(weights_after(clip=float(free) / 3)) == pytest.approx(float(free) / 3, rel=1e-3)
    assert step_of(weights_after(clip=100.0)) == pytest.approx(float(free))


def test_out_of_memory_halves_what_is_computed_at_once():
    """The step is that of the whole batch all the same."""

    def forward(model, batch):
        if len(batch[0]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return model(batch[0])

    tight = Step(loss=CLASSIFY.loss, forward=forward)
    found, parts, said = weights_after(tight)
    torch.testing.assert_close(found, weights_after()[0], rtol=1e-5, atol=1e-7)
    assert [len(batch[0]) for batch, _ in parts] == [3, 3, 3, 4]
    assert said[0].startswith("out of memory with 13 examples at once: from here on 7 at once")
    assert len(said) == 2

    def never(model, batch):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes")

    with pytest.raises(UsageError, match="does not suffice for one example"):
        weights_after(Step(loss=CLASSIFY.loss, forward=never))
    with pytest.raises(UsageError, match="a batch, which cannot be divided here"):
        weights_after(Step(loss=CLASSIFY.loss, forward=never, divisible=False))

    def broken(model, batch):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        weights_after(Step(loss=CLASSIFY.loss, forward=broken))


def test_lbfgs_asks_for_the_loss_as_often_as_it_likes():
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    for limit in (0, 5):
        model = network()
        made = lbfgs(model.parameters())
        update = Updater(model, model, made, CLASSIFY, Accelerator(cpu=True), limit=limit)
        first = update(BATCH)
        assert sum(len(batch[0]) for batch, _ in first) == 13
        before = torch.nn.functional.cross_entropy(network()(BATCH[0]), BATCH[1])
        after = torch.nn.functional.cross_entropy(model(BATCH[0]), BATCH[1])
        assert after < before / 4


def test_the_average_of_the_weights():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average, expected = WeightAverage(model, 0.9), model[0].weight.item()
    for step in range(1, 200):
        nn.init.constant_(model[0].weight, step)
        model(torch.randn(4, 1))
        average.update(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.module[0].weight.item() == pytest.approx(expected, rel=1e-5)
    assert average.module[0].weight.item() == pytest.approx(199 - 9, abs=0.1), "lags 1 / (1 - d)"
    assert average.module[1].num_batches_tracked == 199
    other = WeightAverage(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1)), 0.9)
    other.load_state_dict(average.state_dict())
    average.update(model)
    other.update(model)
    assert torch.equal(other.module[0].weight, average.module[0].weight)


def test_early_stopping_waits_for_a_better_epoch():
    config = {"metric": "accuracy", "higher_is_better": True}
    history = [
        {"epoch": epoch, "val_accuracy": accuracy, "val_loss": 1.0}
        for epoch, accuracy in enumerate((0.5, 0.7, 0.6, 0.7), 1)
    ]
    assert early_stop(config, 2)(history)
    assert not early_stop(config, 3)(history)
    assert not early_stop(config, 2)(history[:3])
    assert not early_stop(config, None)(history)


def test_a_run_with_all_of_it(tmp_path):
    run = zoo.finetune(
        "lenet5_modern", "digits", epochs=6, patience=2, ema=0.99, clip=1.0, accumulation=2, lr=0.1,
        optimizer="sgd", batch_size=64, cpu=True, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert run.config["recipe"]["accumulation"] == 2
    assert 0 <= run.history[0]["data_wait"] <= 1
    own = read_state(run.path / "last.safetensors")
    assert all(torch.equal(own[key], value) for key, value in run.model.state_dict().items())


# ------------------------------------------------------------------------ two processes

SCRIPT = """
import sys, torch, zoo
from torch import nn
from torch.utils.data import TensorDataset
draw = torch.Generator().manual_seed(0)
data = TensorDataset(torch.randn(64, 6, generator=draw), torch.arange(64) % 3)
val = TensorDataset(torch.randn(13, 6, generator=draw), torch.arange(13) % 3)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
run = zoo.finetune(model, data, val=val, epochs=3, batch_size=int(sys.argv[1]), cpu=True,
                   out=sys.argv[2], progress=True, optimizer="momentum", lr=0.1)
print(run.path)
"""


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_the_doubled_batch(tmp_path):
    found = launched("-c", SCRIPT, 8, tmp_path / "two")
    assert [code for *_, code in found] == [0, 0], found
    one = subprocess.run(
        [sys.executable, "-c", SCRIPT, "16", str(tmp_path / "one")], capture_output=True, text=True
    )
    assert one.returncode == 0, one.stderr
    theirs, ours = (read_state(tmp_path / name / "last.safetensors") for name in ("two", "one"))
    for key in ours:
        torch.testing.assert_close(theirs[key], ours[key], rtol=1e-4, atol=1e-6)
    two, one = Run.open(tmp_path / "two"), Run.open(tmp_path / "one")
    assert two.config["processes"] == 2
    for first, second in zip(two.history, one.history, strict=True):
        for name in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
            assert first[name] == pytest.approx(second[name], rel=1e-4), name
    assert found[0][1], "the first process shows how it goes"
    assert not found[1][1], "the other is silent"
    assert {path.name for path in tmp_path.iterdir()} == {"two", "one"}
    assert (
        json.loads((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()[2])["epoch"] == 3
    )
    assert Path(found[1][0].strip()) == tmp_path / "two", "both know where the run is"


RESUMED = """
import os, sys, zoo
def stop(record, module):
    if sys.argv[3] == "stop" and record["epoch"] == 1:
        os._exit(9)
given = {"what": "lenet5_modern", "data": "digits", "pretrained": False, "epochs": 2, "cpu": True,
         "batch_size": 32, "out": sys.argv[2], "workers": 0, "ema": 0.9, "check": False}
if sys.argv[3] == "resume":
    given = {"resume": sys.argv[2]}
zoo.finetune(**given, callback=stop)
"""


@pytest.mark.slow
def test_two_processes_go_on_to_the_bit(tmp_path):
    for folder, mode, code in (("whole", "", 0), ("run", "stop", 9), ("run", "resume", 0)):
        found = launched("-c", RESUMED, 0, tmp_path / folder, mode)
        assert code in [each for *_, each in found], found
        if mode == "stop":
            assert (tmp_path / "run" / "checkpoint.pt").is_file()
        else:
            assert [each for *_, each in found] == [0, 0], found
    whole, resumed = (read_state(tmp_path / name / "last.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    alone = subprocess.run(
        [sys.executable, "-m", "zoo", "finetune", "--resume", str(tmp_path / "run")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert alone.returncode != 0
    assert "is finished" in alone.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "processes"),
    [
        (["torch.distributed.run", "--nproc_per_node", "2", "--master_port", "PORT"], 2),
        # on the CPU one process, as several need MPI there
        (["accelerate.commands.launch", "--cpu", "--num_machines", "1", "--num_processes", "1",
          "--mixed_precision", "no", "--dynamo_backend", "no"], 1),
    ],
    ids=["torchrun", "accelerate"],
)  # fmt: skip
def test_the_command_behind_a_launcher(launcher, processes, tmp_path):
    command = [
        "finetune", "lenet5_modern", "--data", "digits", "--from-scratch", "--epochs", "1",
        "--out", str(tmp_path / "run"), "--json",
    ]  # fmt: skip
    launcher = [free_port() if each == "PORT" else each for each in launcher]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "zoo", *command],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = Run.open(tmp_path / "run")
    assert run.finished
    assert run.config["processes"] == processes
    assert run.report["images"] == 360
    assert done.stdout.count('"run"') == 1, "one of them prints the result"

"""The loop, the optimizers and the run folder, with networks and data of a few
numbers.
"""

import errno
import json
import math
import re
import struct
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest
import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from two_processes import NETWORKS, launched

import zoo
from zoo.errors import DataError, InputError, UsageError, WeightsError, ZooError
from zoo.files import load_state, read_about, read_state
from zoo.optimizers import make_optimizer
from zoo.tasks.classify import Classify
from zoo.training.curves import draw_curves
from zoo.training.environment import allow_skipped_parameters
from zoo.training.loop import Loop, evaluate
from zoo.training.metrics import Mean, MetricAverager
from zoo.training.place import check_free, check_place
from zoo.training.progress import Progress
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.run_folder import RunFolder
from zoo.training.schedule import make_schedule
from zoo.training.step import Step
from zoo.transfer.param_groups import param_groups

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
LABELS = (X.sum(1) > 0).long()
PAIRS = TensorDataset(X, LABELS)
CLASSIFY = Classify().step(None)
ACCURACY = {"metric": "accuracy", "higher_is_better": True}
CURVES = Classify.chart_metrics


def train(
    model,
    epochs=3,
    step=CLASSIFY,
    after_epoch=lambda record, model: None,
    lr=0.05,
    show=False,
    pairs=PAIRS,
):
    loader = DataLoader(
        pairs, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    optimizer = make_optimizer("adamw", param_groups(model), lr=lr)
    scheduler = make_schedule(Recipe(), optimizer, epochs * len(loader), len(loader))
    with Progress(epochs, len(pairs), metrics=CURVES, show=show) as bar:
        return Loop(
            model,
            loader,
            DataLoader(pairs, batch_size=7),
            optimizer,
            scheduler,
            step=step,
            epochs=epochs,
            accelerator=Accelerator(cpu=True),
            progress=bar,
            after_epoch=after_epoch,
        ).run()


# --------------------------------------------------------------------------------- loop


def test_it_learns_and_says_so(capsys):
    history = train(nn.Linear(4, 2), epochs=8, show=True)
    assert [record["epoch"] for record in history] == list(range(1, 9))
    assert history[-1]["val_loss"] < history[0]["val_loss"] / 2
    assert history[-1]["val_accuracy"] > 0.9
    assert history[0]["lr"] < history[1]["lr"] > history[-1]["lr"]
    assert history[0]["images_per_second"] > 0
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 9
    assert re.fullmatch(r"epoch 1/8  16 of 50 images: loss \d\.\d{4}  accuracy .* %", lines[0])
    assert lines[1].startswith("epoch 1/8  training: loss ")
    assert all(word in lines[-1] for word in ("validation: loss", "accuracy", " %", "images/s"))


def test_off_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr("zoo.training.progress.time.perf_counter", lambda: now)
    with Progress(2, 1000) as bar:
        for seconds, done in ((100.0, 10), (110, 400), (129, 800), (131, 900), (140, 1000)):
            now = seconds
            bar.batch(1, done, {"loss": 1.0})
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/2  10 of 1,000 images: loss 1.0000",
        "epoch 1/2  900 of 1,000 images: loss 1.0000  29 images/s",
    ]


def test_evaluation_is_the_mean_over_images_in_evaluation_mode():
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    expected = nn.functional.cross_entropy(model.eval()(X), LABELS)
    loader = DataLoader(PAIRS, batch_size=7)  # the last batch has one image
    means = evaluate(model.train(), loader, CLASSIFY)
    assert means["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert means["accuracy"] == pytest.approx((model(X).argmax(1) == LABELS).float().mean().item())
    assert not model.training


def test_a_custom_step_decides_on_batch_loss_and_metrics():
    def error(outputs, batch):
        return outputs[:, 0] - 3 * batch[0][:, 0]

    def loss(outputs, batch, model):
        models.append(model)
        return error(outputs, batch).square().mean()

    def metrics(outputs, batch):
        return {"off": Mean(error(outputs, batch).abs().mean(), len(batch[0]))}

    models, epochs = [], []
    step = Step(
        loss=loss,
        metrics=metrics,
        scores=lambda model: {"weight": model.weight[0, 0].item()},
        begin_epoch=lambda *given: epochs.append(given),
    )
    model = nn.Linear(4, 1)
    history = train(model, epochs=30, step=step, pairs=TensorDataset(X))
    assert history[-1]["val_loss"] < 0.2 * history[0]["val_loss"]
    assert {"train_off", "val_off", "val_weight"} <= set(history[0])
    assert not {"val_accuracy", "train_weight"} & set(history[0])
    assert history[-1]["val_weight"] == model.weight[0, 0].item()
    assert all(each is model for each in models), "the module itself"
    assert epochs[:4] == [(1, True), (1, False), (2, True), (2, False)]


@pytest.fixture
def group_of_one():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("name", "model_args"), NETWORKS.items())
def test_a_network_says_that_a_step_may_lack_gradients(name, model_args, group_of_one):
    """Without it, DistributedDataParallel waits for all of them."""
    accelerator = Accelerator(cpu=True)
    model = zoo.create(name, num_classes=2, **model_args)
    allow_skipped_parameters(accelerator, nn.Sequential(model))

    def steps(**options):
        torch.manual_seed(0)
        wrapped = nn.parallel.DistributedDataParallel(model, **options)
        for _ in range(8):
            wrapped(torch.randn(2, 3, 32, 32)).square().sum().backward()

    steps(**accelerator.ddp_handler.to_kwargs())
    with pytest.raises(RuntimeError, match="find_unused_parameters=True"):
        steps()


@pytest.mark.slow
def test_two_processes_train_networks_that_leave_parts_out():
    """Each step has other parameters, in each process: no process waits for gradients
    that do not come, and all have the same weights afterwards.
    """
    for _, err, code in launched(Path(__file__).with_name("two_processes.py")):
        assert code == 0, err


def test_all_gradients_are_waited_for_elsewhere():
    """Looking for missing ones takes time."""
    accelerator = Accelerator(cpu=True)
    allow_skipped_parameters(accelerator, nn.Linear(4, 2))
    assert accelerator.ddp_handler is None


def test_each_mean_has_its_own_count():
    """A short last batch: 6 tokens in one, 2 in the other; the accuracy of 3 images and
    of 1. A bare tensor counts the batch.
    """
    averager = MetricAverager()
    for values, size in (
        ({"loss": Mean(torch.tensor(2.0), 6), "accuracy": Mean(torch.tensor(1.0), 3)}, 4),
        ({"loss": (torch.tensor(4.0), 2), "accuracy": Mean(torch.tensor(0.0), 1)}, 1),
    ):
        averager.add(torch.zeros(size, 2), {**values, "bare": torch.tensor(float(size))})
    means = {"loss": (2 * 6 + 4 * 2) / 8, "accuracy": 0.75, "bare": (4 * 4 + 1 * 1) / 5}
    assert averager.read() == pytest.approx(means)
    assert averager.count == 8


def test_a_loss_that_is_no_number_ends_training():
    step = Step(loss=lambda outputs, batch, model: outputs.sum() * math.nan)
    with pytest.raises(
        ZooError, match=r"became nan in epoch 1, batch 1: lower the learning rate \(now 0.05\)"
    ):
        train(nn.Linear(4, 2), step=step)
    with pytest.raises(ZooError, match="the loss became nan on the validation data"):
        evaluate(nn.Linear(4, 2), DataLoader(PAIRS), step, where="on the validation data")


def test_what_the_loss_of_classification_cannot_take():
    model = nn.Linear(4, 2)
    with pytest.raises(UsageError, match="Linear gives no logits"):
        CLASSIFY.loss(model(X[0]), (X[0], LABELS[:1]), model)
    with pytest.raises(DataError, match="class number 9 with 2 classes"):
        CLASSIFY.loss(model(X[:3]), (X[:3], torch.tensor([0, 9, 1])), model)


# --------------------------------------------------------------------------- optimizers


def test_only_weights_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight.requires_grad = False
    groups = make_optimizer("adamw", param_groups(model)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [
        (1, 0.01),
        (4, 0.0),
    ]
    assert groups[0]["params"][0] is model[3].weight
    model.requires_grad_(False)
    with pytest.raises(InputError, match="nothing can be trained"):
        param_groups(model)


def test_lbfgs_takes_the_parameters_of_all_groups():
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = make_optimizer("lbfgs", param_groups(model), max_iter=50)
    x = torch.randn(20, 4)
    y = x @ torch.tensor([[1.0], [2.0], [3.0], [4.0]]) + 5

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert closure() < 1e-6
    assert len(optimizer.param_groups[0]["params"]) == 2


def test_wrong_optimizers():
    for name, lr, expected in (
        ("lion", None, "'adamw' or 'lbfgs'"),
        ("sgd", 0.0, r"lr=0\.0: needs a number above 0"),
        ("sgd", math.nan, "lr=nan: needs a number above 0"),
    ):
        with pytest.raises(InputError, match=expected):
            make_optimizer(name, param_groups(nn.Linear(1, 1)), lr)


# --------------------------------------------------------------------------- run folder


def record(epoch, accuracy, loss=1.0):
    return {
        "epoch": epoch,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "val_loss": loss,
        "val_accuracy": accuracy,
    }


def numbered(value):
    model = nn.Linear(1, 1)
    nn.init.constant_(model.weight, value)
    return model


def test_run_folder_keeps_the_best_and_the_last(tmp_path):
    config = {"classes": ["ä"], **ACCURACY}
    with RunFolder(tmp_path / "a" / "run", "", config) as folder:
        for epoch, accuracy, loss in ((1, 0.5, 1.0), (2, 0.7, 1.0), (3, 0.7, 0.9), (4, 0.7, 0.95)):
            folder.epoch(record(epoch, accuracy, loss), numbered(epoch))
    assert {path.name for path in folder.path.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "best.safetensors",
        "last.safetensors",
        "curves.png",
    }
    assert len({path.stat().st_mode for path in folder.path.iterdir()}) == 1, (
        "who may read one may read all"
    )
    run = Run.open(folder.path)
    assert run.config == config
    assert run.classes == ("ä",)
    assert read_about(folder.path / "best.safetensors") == {"classes": ["ä"]}
    assert [line["epoch"] for line in run.history] == [1, 2, 3, 4]
    assert (run.best["epoch"], run.accuracy, run.score) == (3, 0.7, 0.7)
    best = numbered(0).train()
    assert run.load_best(best) is best
    assert (best.weight.item(), best.training) == (3, False)
    last = numbered(0)
    load_state(last, read_state(folder.path / "last.safetensors"), "last")
    assert last.weight.item() == 4
    assert run.model is None
    with pytest.raises(WeightsError, match="does not fit Conv2d"):
        run.load_best(nn.Conv2d(1, 1, 1))


def test_the_metric_and_its_direction_select(tmp_path):
    """As config.json says, so that a run from disk has the same best epoch."""
    rows = [{"val_loss": 2.0, "val_bleu": 0.1}, {"val_loss": 1.0, "val_bleu": 0.3}]
    rows += [{"val_loss": 0.5, "val_bleu": 0.2}]
    for config, expected in (
        ({"metric": "bleu", "higher_is_better": True}, 2),
        ({"metric": "bleu", "higher_is_better": False}, 1),
        ({"metric": "loss", "higher_is_better": False}, 3),
        ({"metric": "accuracy", "higher_is_better": True}, 3),  # none was measured
        ({}, 3),
    ):
        with RunFolder(tmp_path / f"{len(list(tmp_path.iterdir()))}", "", config) as folder:
            for epoch, row in enumerate(rows, 1):
                folder.epoch({"epoch": epoch, "train_loss": 1.0, **row}, numbered(epoch))
        run = Run.open(folder.path)
        assert run.best["epoch"] == expected
        assert run.load_best(numbered(0)).weight.item() == expected


def test_the_first_free_folder_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "x-2").mkdir(parents=True)
    for expected in ("x-1", "x-3"):
        with RunFolder(None, "x", {}) as folder:
            folder.epoch(record(1, 0.5), numbered(1))
        assert folder.path.name == expected


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(UsageError, match="exists and is not empty"):
            check_free(tmp_path / name)
        with pytest.raises(UsageError, match="exists and is not empty"):
            RunFolder(tmp_path / name, "", {}).__enter__()
    check_free(tmp_path / "new")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interruption_before_the_first_epoch_leaves_nothing(tmp_path, error):
    with pytest.raises(error), RunFolder(tmp_path / "runs" / "x", "", {}):
        raise error
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    with pytest.raises(error), RunFolder(tmp_path / "mine", "", {}):
        raise error
    assert not list((tmp_path / "mine").iterdir())


def test_what_came_from_elsewhere_stays(tmp_path):
    """A subfolder and a file that somebody else made meanwhile neither go nor hide the
    error.
    """
    with pytest.raises(ValueError, match="mine"), RunFolder(tmp_path / "x", "", {}) as folder:
        (folder.path / "logs").mkdir()
        (folder.path / "logs" / "events").write_text("theirs")
        (folder.path / "notes.txt").write_text("theirs")
        raise ValueError("mine")
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"logs", "notes.txt"}
    assert (tmp_path / "x" / "logs" / "events").read_text() == "theirs"


def test_an_interruption_later_leaves_whole_files(tmp_path, monkeypatch):
    """The weights of the second epoch break off half way: what is there is the first
    epoch's.
    """

    def half_written(tensor):
        raise OSError("disk full")  # behind the header, which is written

    with (
        pytest.raises(ZooError, match=r"last\.safetensors cannot be written: disk full"),
        RunFolder(tmp_path / "x", "", {}) as folder,
    ):
        folder.epoch(record(1, 0.5), numbered(1))
        monkeypatch.setattr(torch.Tensor, "numpy", half_written)
        folder.epoch(record(2, 0.9), numbered(2))
    run = Run.open(tmp_path / "x")
    assert len(run.history) == 1
    assert run.load_best(numbered(0)).weight.item() == 1
    assert not [path for path in run.path.iterdir() if path.name.startswith(".")]
    assert (run.path / "curves.png").stat().st_size > 1000


def test_nothing_in_the_config_becomes_text(tmp_path):
    config = {"a": numpy.int64(4), "b": numpy.array([1.5, 2]), "c": torch.tensor([[1], [2]])}
    assert RunFolder(tmp_path / "x", "", config).config == {"a": 4, "b": [1.5, 2], "c": [[1], [2]]}
    for value in (nn.ReLU, tmp_path, {1, 2}):
        with pytest.raises(
            InputError, match=r"config\.json cannot hold .* is no number, text"
        ) as e:
            RunFolder(tmp_path / "x", "", {"model_args": {"given": value}})
        assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


def no_folder(path=None):
    """The one line against a run there, which leaves nothing behind."""
    with pytest.raises(UsageError, match=r"^the run folder .* cannot be made: ") as caught:
        if path is None:
            check_place()
        else:
            check_free(path)
    again = pytest.raises(UsageError, match=re.escape(str(caught.value)))
    with again, RunFolder(path, "x", {}):
        pass
    return str(caught.value)


def test_places_where_no_run_can_be(tmp_path, monkeypatch):
    """Known before the data are read, and one line; a link `runs` that points nowhere
    was an endless loop.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    assert "file is a file" in no_folder(tmp_path / "file" / "run")
    assert "File name too long" in no_folder(tmp_path / ("x" * 300))
    assert "File name too long" in no_folder(tmp_path / ("x" * 300) / "run")
    (tmp_path / "loop").symlink_to("loop")
    assert "loop is a link that points nowhere" in no_folder(tmp_path / "loop" / "run")
    (tmp_path / "runs").symlink_to(tmp_path / "nowhere")
    assert "runs is a link that points nowhere" in no_folder()
    (tmp_path / "runs").unlink()
    (tmp_path / "runs").write_text("mine")
    assert "runs is a file" in no_folder()
    (tmp_path / "runs").unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "loop"}
    with pytest.raises(UsageError, match="cannot be made: File name too long"):
        RunFolder(None, "x" * 300, {}).__enter__()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert f"{tmp_path} is not writable" in no_folder(tmp_path / "run")
    assert f"{tmp_path} is not writable" in no_folder()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(tensor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "numpy", full)
        with (
            pytest.raises(ZooError, match=r"last\.safetensors cannot be written: No space left"),
            RunFolder(tmp_path / "x", "", {}) as folder,
        ):
            folder.epoch(record(1, 0.5), numbered(1))
    assert not list(tmp_path.iterdir())

    def write(path, content):
        raise ZooError("config.json cannot be written: No space left on device")

    monkeypatch.setattr("zoo.training.run_folder.write", write)
    with pytest.raises(ZooError, match="No space left"), RunFolder(tmp_path / "x", "", {}):
        pass
    assert not list(tmp_path.iterdir())


def test_shared_and_non_contiguous_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].weight.data = model[0].weight.data.t()
    with RunFolder(tmp_path / "x", "", {}) as folder:
        folder.epoch(record(1, 0.5), model)
    fresh = Run.open(folder.path).load_best(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert torch.equal(fresh[0].weight, model[0].weight)
    assert torch.equal(fresh[1].weight, model[0].weight)


def test_a_module_whose_keys_begin_like_a_wrapper_s(tmp_path):
    wrapped = nn.Sequential()
    wrapped.add_module("module", numbered(3))
    with RunFolder(tmp_path / "x", "", {}) as folder:
        folder.epoch(record(1, 0.5), wrapped)
    nn.init.zeros_(wrapped.module.weight)
    assert Run.open(folder.path).load_best(wrapped).module.weight.item() == 3


def test_damaged_run_folders(tmp_path):
    with pytest.raises(UsageError, match="is no run folder"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Run.open(tmp_path)
    run = Run(tmp_path, {}, [])
    with pytest.raises(WeightsError, match="no such weights file"):
        run.load_best(nn.Linear(1, 1))
    (tmp_path / "best.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="not a readable weights file"):
        run.load_best(nn.Linear(1, 1))


def test_a_run_without_accuracy(tmp_path):
    history = [
        {"epoch": 1, "train_loss": 2.0, "val_loss": 2.0},
        {"epoch": 2, "train_loss": 1.0, "val_loss": 1.0},
    ]
    run = Run(tmp_path, ACCURACY, history)
    assert run.best["epoch"] == 2
    assert math.isnan(run.accuracy)
    assert math.isnan(run.score)
    draw_curves(history, history[1], tmp_path / "one.png", CURVES)
    draw_curves([record(1, 0.5)], record(1, 0.5), tmp_path / "two.png", CURVES)
    sizes = [
        struct.unpack(">2I", (tmp_path / name).read_bytes()[16:24])
        for name in ("one.png", "two.png")
    ]
    assert sizes == [(600, 456), (1200, 456)]


def test_curves_show_the_numbers(tmp_path):
    history = [record(epoch, 0.5 + epoch / 100, 1 / epoch) for epoch in range(1, 21)]
    draw_curves(history, history[-1], tmp_path / "curves.png", CURVES)
    with Image.open(tmp_path / "curves.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x1F, 0x77, 0xB4), (0xD9, 0x5F, 0x02)} <= colours, "both curves are there"


def test_curves_say_what_they_are(tmp_path, monkeypatch):
    """The network and the data, accuracy from 0 to 100 with what guessing has; and
    "validation", as in the lines of progress.
    """
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    config = {
        "architecture": "lenet5",
        "data": {"source": str(tmp_path / "photos")},
        "num_classes": 4,
        **ACCURACY,
    }
    with RunFolder(tmp_path / "x", "", config, CURVES) as folder:
        for epoch, accuracy in ((1, 0.9), (2, 0.975)):
            folder.epoch(record(epoch, accuracy), numbered(epoch))
        monkeypatch.setattr("zoo.training.run_folder.replaced", lambda path: nullcontext(path))
    (figure,) = figures
    assert figure.get_suptitle() == "lenet5 on photos"
    loss, accuracy = figure.axes
    assert accuracy.get_ylim()[0] == 0
    assert 100 <= accuracy.get_ylim()[1] < 105
    assert accuracy.get_title() == "validation accuracy, best epoch: 97.5 %"
    lines = {line.get_label(): list(line.get_ydata()) for line in accuracy.lines}
    assert lines["chance: 25 %"] == [25, 25]
    assert lines["validation"] == [90, 97.5]
    assert not any("chance" in line.get_label() for line in loss.lines)


def test_a_run_as_text(tmp_path):
    data = {"source": "digits", "train_images": 1437, "val_images": 360}
    config = {"architecture": "lenet5", "data": data, **ACCURACY}
    history = [record(1, 0.5), record(2, 0.975, 0.25), record(3, 0.9)]
    assert str(Run(tmp_path, config, history)).splitlines() == [
        "network:    lenet5",
        "data:       digits: 1,437 images for training, 360 images for validation",
        "accuracy:   97.5 % of 360 validation images (epoch 2 of 3)",
        f"run folder: {tmp_path}",
        "",
        "epoch    training loss  validation loss  training accuracy  validation accuracy",
        "-------  -------------  ---------------  -----------------  -------------------",
        "best: 2         1.0000           0.2500             0.5000               0.9750",
        "last: 3         1.0000           1.0000             0.5000               0.9000",
    ]
    assert str(Run(tmp_path, {}, [])) == f"run folder: {tmp_path}"


def test_json_lines_are_plain(tmp_path):
    with RunFolder(tmp_path / "x", "", {}) as folder:
        train(nn.Linear(4, 2), epochs=2, after_epoch=folder.epoch)
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]

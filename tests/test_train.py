"""The loop, the optimizers and the run folder, with networks and data of a few
numbers.
"""

import json
import math
import struct

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.errors import DataError, InputError, UsageError, WeightsError, ZooError
from zoo.train.curves import draw_curves
from zoo.train.loop import classify, evaluate, fit
from zoo.train.optim import decay_groups, make_optimizer, warmup_cosine
from zoo.train.progress import Progress
from zoo.train.run import Run, RunFolder, check_free, load_weights

X = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
LABELS = (X.sum(1) > 0).long()
PAIRS = TensorDataset(X, LABELS)


def train(
    model,
    epochs=3,
    step=classify,
    after_epoch=lambda record, model: None,
    lr=0.05,
    show=False,
    pairs=PAIRS,
):
    loader = DataLoader(
        pairs, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(0)
    )
    optimizer = make_optimizer("adamw", decay_groups(model), lr=lr)
    schedule = warmup_cosine(optimizer, epochs * len(loader))
    with Progress(epochs, len(pairs), show) as bar:
        return fit(
            model,
            loader,
            DataLoader(pairs, batch_size=7),
            optimizer,
            schedule,
            epochs=epochs,
            accelerator=Accelerator(cpu=True),
            step=step,
            progress=bar,
            after_epoch=after_epoch,
        )


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
    assert len(lines) == 8
    assert lines[0].startswith("epoch 1/8  train: loss ")
    assert all(word in lines[-1] for word in ("val: loss", "accuracy", " %", "images/s"))


def test_evaluation_is_the_mean_over_images_in_evaluation_mode():
    model = nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5))
    expected = nn.functional.cross_entropy(model.eval()(X), LABELS)
    means = evaluate(model.train(), DataLoader(PAIRS, batch_size=7))  # the last batch has one image
    assert means["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert means["accuracy"] == pytest.approx((model(X).argmax(1) == LABELS).float().mean().item())
    assert not model.training


def test_a_step_of_ones_own_decides_on_batch_loss_and_metrics():
    def step(model, batch):
        (x,) = batch
        error = model(x)[:, 0] - 3 * x[:, 0]
        return error.square().mean(), {"off": error.detach().abs().mean()}

    history = train(nn.Linear(4, 1), epochs=30, step=step, pairs=TensorDataset(X))
    assert history[-1]["val_loss"] < 0.2 * history[0]["val_loss"]
    assert {"train_off", "val_off"} <= set(history[0])
    assert "val_accuracy" not in history[0]


def test_a_loss_that_is_no_number_ends_training():
    def step(model, batch):
        loss, metrics = classify(model, batch)
        return loss * math.nan, metrics

    with pytest.raises(
        ZooError, match=r"the loss became nan in epoch 1: lower the learning rate \(now 0.05\)"
    ):
        train(nn.Linear(4, 2), step=step)
    with pytest.raises(ZooError, match="the loss became nan on the held-out images"):
        evaluate(nn.Linear(4, 2), DataLoader(PAIRS), step, "on the held-out images")


def test_what_the_default_step_cannot_take():
    with pytest.raises(UsageError, match="gives no logits"):
        classify(nn.Linear(4, 2), (X[0], LABELS[:1]))
    with pytest.raises(DataError, match="class number 9 with 2 classes"):
        classify(nn.Linear(4, 2), (X[:3], torch.tensor([0, 9, 1])))


# --------------------------------------------------------------------------- optimizers


def test_schedule():
    optimizer = make_optimizer("sgd", decay_groups(nn.Linear(2, 2)))
    schedule = warmup_cosine(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:10] == pytest.approx([0.01 * (i + 1) / 10 for i in range(10)])
    assert rates[10] == pytest.approx(0.01)
    assert rates[55] == pytest.approx(0.005)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_only_weights_decay():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight.requires_grad = False
    groups = make_optimizer("adamw", decay_groups(model)).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [
        (1, 0.01),
        (4, 0.0),
    ]
    assert groups[0]["params"][0] is model[3].weight
    model.requires_grad_(False)
    with pytest.raises(InputError, match="nothing can be trained"):
        decay_groups(model)


def test_wrong_optimizers():
    for name, lr, expected in (
        ("adam", None, "adamw, sgd"),
        ("sgd", 0.0, "lr > 0"),
        ("sgd", math.nan, "lr > 0"),
    ):
        with pytest.raises(InputError, match=expected):
            make_optimizer(name, decay_groups(nn.Linear(1, 1)), lr)


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
    with RunFolder(tmp_path / "a" / "run", "", {"classes": ["ä"]}) as folder:
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
    assert run.config == {"classes": ["ä"]}
    assert [line["epoch"] for line in run.history] == [1, 2, 3, 4]
    assert (run.best["epoch"], run.accuracy) == (3, 0.7)
    assert run.model(numbered(0)).weight.item() == 3
    last = numbered(0)
    load_weights(last, folder.path / "last.safetensors")
    assert last.weight.item() == 4
    with pytest.raises(UsageError, match="pass the module"):
        run.model()
    with pytest.raises(WeightsError, match="does not fit Conv2d"):
        run.model(nn.Conv2d(1, 1, 1))


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


def test_an_interruption_later_leaves_whole_files(tmp_path, monkeypatch):
    """The weights of the second epoch break off half way: what is there is the first
    epoch's.
    """

    def half_written(state, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), RunFolder(tmp_path / "x", "", {}) as folder:
        folder.epoch(record(1, 0.5), numbered(1))
        monkeypatch.setattr("safetensors.torch.save_file", half_written)
        folder.epoch(record(2, 0.9), numbered(2))
    run = Run.open(tmp_path / "x")
    assert len(run.history) == 1
    assert run.model(numbered(0)).weight.item() == 1
    assert not [path for path in run.path.iterdir() if "partial" in path.name]
    assert (run.path / "curves.png").stat().st_size > 1000


def test_shared_and_non_contiguous_weights_are_saved(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    model[0].weight.data = model[0].weight.data.t()
    with RunFolder(tmp_path / "x", "", {}) as folder:
        folder.epoch(record(1, 0.5), model)
    fresh = Run.open(folder.path).model(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)))
    assert torch.equal(fresh[0].weight, model[0].weight)
    assert torch.equal(fresh[1].weight, model[0].weight)


def test_damaged_run_folders(tmp_path):
    with pytest.raises(UsageError, match="is no run folder"):
        Run.open(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        Run.open(tmp_path)
    (tmp_path / "best.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(nn.Linear(1, 1), tmp_path / "best.safetensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        load_weights(nn.Linear(1, 1), tmp_path / "gone.safetensors")


def test_a_run_without_accuracy(tmp_path):
    history = [
        {"epoch": 1, "train_loss": 2.0, "val_loss": 2.0},
        {"epoch": 2, "train_loss": 1.0, "val_loss": 1.0},
    ]
    run = Run(tmp_path, {}, history)
    assert run.best["epoch"] == 2
    assert math.isnan(run.accuracy)
    draw_curves(history, history[1], tmp_path / "one.png")
    draw_curves([record(1, 0.5)], record(1, 0.5), tmp_path / "two.png")
    sizes = [
        struct.unpack(">2I", (tmp_path / name).read_bytes()[16:24])
        for name in ("one.png", "two.png")
    ]
    assert sizes == [(600, 456), (1200, 456)]


def test_curves_show_the_numbers(tmp_path):
    history = [record(epoch, 0.5 + epoch / 100, 1 / epoch) for epoch in range(1, 21)]
    draw_curves(history, history[-1], tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert {(0x1F, 0x77, 0xB4), (0xD9, 0x5F, 0x02)} <= colours, "both curves are there"


def test_json_lines_are_plain(tmp_path):
    with RunFolder(tmp_path / "x", "", {}) as folder:
        train(nn.Linear(4, 2), epochs=2, after_epoch=folder.epoch)
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]

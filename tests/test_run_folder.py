"""What lies in a run's folder beside weights and curves: the report on its images, its
card, TensorBoard's numbers; and a trained network in use.
"""

import csv
import json
import re
import shlex
import sys
import types
import warnings

import numpy
import pytest
import torch
from click.testing import CliRunner
from matplotlib.axes import Axes
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.cli import cli
from zoo.data.datasets import DataSplit, ImageDataset
from zoo.data.image import EvalTransform, image_of
from zoo.errors import UsageError, ZooWarning
from zoo.spec import Preprocessing
from zoo.tasks import classify, image_files
from zoo.tasks.base import EvaluationOptions, Task
from zoo.tasks.classify import Classify
from zoo.tasks.confusion_plot import draw_confusion
from zoo.tasks.inference import foldable, for_inference
from zoo.training.run import Run
from zoo.training.run_card import repeating, write_card
from zoo.training.tensorboard import TensorBoardWriter

SEEN = Preprocessing((3, 8, 8), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 1.0)


class Shade(nn.Module):
    """Logits of an image: those of the row that its red names."""

    def __init__(self, rows):
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, x):
        red = (x[:, 0].mean((1, 2)) * 0.2 + 0.5) * 255
        return self.rows[(red / 10).round().long()]


ROWS = [[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 0.9]]
TRUTH = {0: 0, 1: 1, 2: 1, 3: 2}  # red / 10: the class; 2 and 3 are mistakes


def shaded(folder, repeats=1):
    """Files "b" and so on of two images per shade, and a split of them."""
    images, targets = [], []
    for shade, truth in TRUTH.items():
        for number in range(repeats):
            path = folder / "abc"[truth] / f"{shade}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 12), (10 * shade, 77, 200)).save(path)
            images.append(path)
            targets.append(truth)
    part = ImageDataset(images, targets)
    facts = {"name": "shades", "source": str(folder), "split": "given", "classes": ("a", "b", "c")}
    return DataSplit(train=part, val=part, size=(12, 12), **facts)


def report(split, folder, model=None, **known):
    folder.mkdir(exist_ok=True)
    known = {"classes": ("a", "b", "c"), "preprocessing": SEEN, "selected": "epoch"} | known
    options = EvaluationOptions(batch_size=3, progress=False)
    return Classify().report(model or Shade(ROWS), split, folder, options, **known)


def test_a_report_has_scores_confusion_and_mistakes(tmp_path, monkeypatch):
    titles, shown = [], []
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **style: titles.append(text))
    monkeypatch.setattr(Axes, "imshow", lambda self, image, **style: shown.append(image))
    split = shaded(tmp_path / "data", repeats=2)
    found = report(split, tmp_path / "run")
    assert (found.evaluation.right, found.evaluation.images, found.part) == (4, 8, "validation")
    truth = split.val.targets
    predicted = [{0: 0, 1: 1, 2: 2, 3: 0}[int(path.name[0])] for path in split.val.images]
    expected = precision_recall_fscore_support(truth, predicted, zero_division=0)
    ours = [[each.precision, each.recall, each.f1] for each in found.classes]
    assert numpy.allclose(ours, numpy.transpose(expected[:3]))
    assert [each.images for each in found.classes] == expected[3].tolist()
    matrix = confusion_matrix(truth, predicted)
    assert [(1, 2, matrix[1, 2]), (2, 0, matrix[2, 0])] == [
        ("abc".index(true), "abc".index(other), count) for true, other, count in found.confused
    ]
    assert found.confused[0][2] == 2
    # the worst first: in softmax(0, 0, 4) the true class has less than in (1, 1, 0.9)
    assert [each.file for each in found.mistakes] == [
        "b/20.png",
        "b/21.png",
        "c/30.png",
        "c/31.png",
    ]
    worst = torch.tensor(ROWS[2]).softmax(0)
    assert found.mistakes[0].truth_probability == pytest.approx(float(worst[1]))
    assert found.mistakes[0].probability == pytest.approx(float(worst[2]))
    assert titles[0].replace("\xa0", " ") == "true: b\npredicted: c (96.5 %)"
    assert [image.getpixel((4, 4)) for image in shown[1:]] == [(20, 77, 200)] * 2 + [
        (30, 77, 200)
    ] * 2
    assert json.loads((tmp_path / "run/report.json").read_text()) == json.loads(
        json.dumps(found.to_dict())
    )
    rows = list(csv.DictReader((tmp_path / "run/classes.csv").read_text().splitlines()))
    assert [row["class"] for row in rows] == ["a", "b", "c"]
    assert float(rows[1]["recall"]) == 0.5
    text = str(found)
    assert re.search(r"b/20.png +b +c +96.5", text)
    assert "these images also chose the epoch" in text
    assert "data, its validation images" in text


def test_what_has_no_pictures_has_none(tmp_path):
    split = shaded(tmp_path / "data")
    images = torch.stack([EvalTransform(SEEN)(image) for image, _ in split.val])
    tensors = TensorDataset(images, torch.tensor(split.val.targets))
    folder = tmp_path / "run"
    first = report(split, folder)
    assert (folder / "mistakes.png").is_file()
    facts = {"name": "x", "source": "TensorDataset", "split": "given", "classes": ("a", "b", "c")}
    for part in (tensors, DataLoader(tensors, 2)):
        found = report(DataSplit(train=part, val=part, **facts), folder, preprocessing=None)
        assert not (folder / "mistakes.png").exists(), "that of before is no longer true"
        assert found.classes == first.classes
        assert {each.file for each in found.mistakes} == {""}
    report(
        shaded(tmp_path / "data"),
        folder,
        Shade([[9.0, 0, 0], [0, 9.0, 0], [0, 9.0, 0], [0, 0, 9.0]]),
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "classes.csv",
        "confusion.png",
        "report.json",
    ], "nothing is wrong"
    assert report(split, folder, classes=()) is None
    assert Task.report(Classify(), None, split, folder, None) is None
    with pytest.warns(ZooWarning, match="run has no report: 'c': no class of the network"):
        assert report(split, folder, classes=("a", "b")) is None


@pytest.mark.parametrize("count", [2, 25, 26, 1000])
def test_the_confusion_of_few_and_many_classes_can_be_read(count, tmp_path, monkeypatch):
    """Warnings are errors: such as that there is no room for the labels."""
    drawn = []
    monkeypatch.setattr(Axes, "text", lambda self, x, y, text, **style: drawn.append(text))
    names = [f"a class with a rather long name {number}" for number in range(count)]
    matrix = torch.eye(count, dtype=torch.long) * 90
    matrix[0, 1] = 7
    draw_confusion(matrix, names, tmp_path / "confusion.png", title="title")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert max(picture.size) < 2000
    assert drawn == (["90", "7", *["90"] * (count - 1)] if count < 26 else [])
    draw_confusion(torch.eye(count) * 90, names, tmp_path / "confusion.png")


def test_an_image_as_the_network_sees_it():
    rgb = numpy.random.default_rng(0).integers(0, 256, (8, 8, 3), numpy.uint8)
    seen = EvalTransform(SEEN)(Image.fromarray(rgb))
    assert (numpy.asarray(image_of(seen, SEEN)) == rgb).all()
    grey = Preprocessing((1, 8, 8), (0.5,), (0.2,), 1.0)
    seen = EvalTransform(grey)(Image.fromarray(rgb[..., 0]))
    assert (numpy.asarray(image_of(seen, grey)) == rgb[..., 0]).all()


# ----------------------------------------------------------------------------- the card


def test_the_card_says_all_and_its_command_repeats_the_run(tmp_path, digit_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = digit_folder("my photos", {"one": 6, "two": 6})
    changes = {"epochs": 2, "lr": 0.0123, "cpu": True, "input_size": (1, 28, 28), "workers": 0}
    changes |= {"out": "a run", "progress": False}
    run = zoo.finetune("lenet5_modern", folder, pretrained=False, seed=3, **changes)
    split = Classify().open(run.config["data"]["reopen"], seed=3, progress=False)
    assert split.record()["fingerprint"] == run.config["data"]["fingerprint"]
    model = run.load_best(run.model)
    known = Preprocessing.from_dict(run.config["preprocessing"])
    found = report(split, run.path, model, classes=run.classes, preprocessing=known)
    assert found.evaluation.top1 == pytest.approx(100 * run.accuracy)
    write_card(run, found)
    card = (run.path / "README.md").read_text()
    for expected in (
        "# lenet5_modern on my photos",
        "- **starts from**: random weights",
        f"- **fingerprint of the data**: {run.config['data']['fingerprint']}",
        "| top-1 |",
        "| one | 1 |",
        "- **images**: 10 for training, 2 for validation",
        f"- **accuracy**: {100 * run.accuracy:.1f} % of 2 validation images (epoch",
        "](curves.png)",
        "](confusion.png)",
        "zoo predict 'a run' IMAGE...",
        "zoo eval 'a run' ",
        "lr = 0.0123",
        "input_size = [1, 28, 28]",
        f"torch {torch.__version__}",
    ):
        assert expected in card
    assert "--resume" not in card
    (line,) = [line for line in card.splitlines() if line.startswith("zoo finetune")]
    words = shlex.split(line, comments=True)[1:]
    done = CliRunner().invoke(cli, [*words, "--out", "again"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    again = Run.open("again")
    assert again.config["preprocessing"] == run.config["preprocessing"]
    assert again.config["recipe"] | {"input_size": [1, 28, 28]} == run.config["recipe"]
    names = ("train_loss", "val_loss", "val_accuracy")
    assert [[each[name] for name in names] for each in again.history] == [
        [each[name] for name in names] for each in run.history
    ]


def test_the_command_starts_where_the_run_did():
    config = {"architecture": "vgg16", "tag": "x", "data": {"reopen": "digits"}, "recipe": {}}
    starts = {
        "vgg16.x": ["vgg16.x"],
        "random": ["vgg16", "--from-scratch"],
        "a/best.safetensors": ["vgg16", "--checkpoint", "a/best.safetensors"],
    }
    for weights, what in starts.items():
        command = repeating({**config, "initial_weights": weights})
        assert command == ["zoo", "finetune", *what, "--data", "digits", "--seed", "0"]
    assert repeating({**config, "initial_weights": "the module's own"}) == []
    assert repeating({**config, "data": {"reopen": ""}}) == []


# -------------------------------------------------------------------------- TensorBoard


def test_tensorboard_is_written_or_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UsageError, match=r"not installed: pip install 'classic-zoo\[log\]'"):
        TensorBoardWriter(tmp_path)
    written = []

    class SummaryWriter:
        def __init__(self, folder, purge_step=None):
            written.append((folder, purge_step))

        def add_scalar(self, *given):
            written.append(given)

        def flush(self):
            written.append("flushed")

        def close(self):
            written.append("closed")

    here = types.ModuleType("tensorboard")
    here.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "tensorboard", here)
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with TensorBoardWriter(tmp_path, after=2) as writer:
        writer.epoch(
            {"epoch": 3, "lr": 0.1, "images_per_second": 9.0, "train_loss": 2.0, "val_loss": 3.0}
        )
    assert written == [
        (str(tmp_path / "tensorboard"), 3),
        ("lr", 0.1, 3),
        ("images_per_second", 9.0, 3),
        ("loss/training", 2.0, 3),
        ("loss/validation", 3.0, 3),
        "flushed",
        "closed",
    ]


def test_tensorboard_s_own_reader_finds_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with warnings.catch_warnings(action="ignore"), TensorBoardWriter(tmp_path) as writer:
        for epoch in (1, 2):
            writer.epoch({"epoch": epoch, "val_accuracy": epoch / 4})
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in found.Scalars("accuracy/validation")] == [
        (1, 0.25),
        (2, 0.5),
    ]


# ---------------------------------------------------------------------------- inference


@pytest.mark.parametrize("name", ["resnet20_cifar10", "preresnet18"])
def test_folding_leaves_the_outputs_and_the_network(name):
    model = zoo.create(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias)
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 64, 64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = for_inference(model, fold=True, channels_last=True)
    norms, left = (
        sum(isinstance(module, nn.BatchNorm2d) for module in each.modules())
        for each in (model, found)
    )
    folded = len(foldable(model))
    assert (folded, left) == (folded, norms - folded)
    assert folded == norms if name == "resnet20_cifar10" else 0 < folded < norms
    with torch.no_grad():
        torch.testing.assert_close(found(x), model.eval()(x), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert next(found.parameters()).is_contiguous(memory_format=torch.channels_last)


class Shared(nn.Module):
    """Convolutions whose outputs others take too, or that are computed twice."""

    def __init__(self, way):
        super().__init__()
        self.way = way
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        y = self.convolution(x)
        if self.way == "branch":
            return self.norm(y) + y
        if self.way == "twice":
            return self.norm(self.convolution(y))
        if self.way == "values" and y.sum() > 0:
            return y
        return self.norm(y)


def test_what_cannot_be_folded_stays():
    for way in ("branch", "twice"):
        assert foldable(Shared(way)) == []
    assert foldable(Shared("")) == [("convolution", "norm")]
    with pytest.raises(UsageError, match="Shared: batch norms cannot be folded, as its forward"):
        for_inference(Shared("values"), fold=True)


def test_many_files_are_read_by_other_processes_in_order(tmp_path, monkeypatch):
    started = []
    loader = image_files.DataLoader

    def counted(*given, **known):
        started.append(known["num_workers"])
        return loader(*given, **known)

    monkeypatch.setattr(image_files, "DataLoader", counted)
    monkeypatch.setattr(classify, "_workers", lambda files, wanted: 2 if files else 0)
    for number in range(70):
        Image.new("RGB", (8, 8), (10 * (number % 4), 77, 200)).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "05.png").write_bytes(b"no image")
    model = Shade(ROWS)
    model.preprocessing = SEEN
    for files in (tmp_path, sorted(tmp_path.iterdir())[:20]):
        found = zoo.predict(model, files, classes=list("abc"), top=1)
        assert [each.file.name for each in found] == [f"{n:02d}.png" for n in range(len(found))]
        assert "not an image" in found[5].error
        expected = ["abca"[n % 4] for n in range(len(found)) if n != 5]
        assert [each.label for each in found.read] == expected
    assert started == [2, 0]
    zoo.predict(
        model, tmp_path, classes=list("abc"), transform=lambda image: EvalTransform(SEEN)(image)
    )
    assert started == [2, 0, 0], "a lambda stays in its process"

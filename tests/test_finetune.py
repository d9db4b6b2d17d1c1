"""Fine-tuning and prediction from end to end, from Python and by the command line, on
real digits.
"""

import json
import multiprocessing
import os
import pickle
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy
import pytest
import torch
from click.testing import CliRunner
from matplotlib.axes import Axes
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.api.build import structure
from zoo.api.source import resolve
from zoo.cli import cli
from zoo.data.digits import export_digits, open_digits
from zoo.data.files import scan
from zoo.data.transforms import build_transform, preprocessing_of
from zoo.errors import (
    DataError,
    InputError,
    UnknownModelError,
    UsageError,
    WeightsError,
    ZooError,
    ZooWarning,
)
from zoo.training.run import Run
from zoo.training.run_folder import RunFolder
from zoo.transfer.heads import fit_head
from zoo.weights.records import read_record

FILES = {
    "config.json", "metrics.jsonl", "best.safetensors", "last.safetensors", "curves.png",
    "README.md", "report.json", "classes.csv", "confusion.png", "mistakes.png",
}  # fmt: skip


class Tiny(nn.Module):
    """A custom network, quick to train on digits."""

    def __init__(self, outputs=10, channels=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.head = nn.Linear(16 * 16, outputs)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.norm(self.conv(x)).relu(), 2)
        return self.head(x.flatten(1))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    """A short run of lenet5_modern on the digits."""
    return zoo.finetune(
        "lenet5_modern",
        "digits",
        pretrained=False,
        epochs=6,
        augment="none",
        out=tmp_path_factory.mktemp("runs") / "lenet",
        progress=False,
    )


@pytest.fixture
def tiny():
    """A function that trains a Tiny, seeded, for one epoch by default."""

    def finetune(data="digits", model=None, **options):
        torch.manual_seed(5)
        model = model or Tiny()
        return zoo.finetune(
            model,
            data,
            **{
                "epochs": 1,
                "input_size": 8,
                "augment": "none",
                "progress": False,
                "check": False,
                "report": False,
                **options,
            },
        )

    return finetune


# ------------------------------------------------------------------------------ the run


def test_a_network_learns_the_digits(lenet):
    assert lenet.accuracy > 0.9
    assert {path.name for path in lenet.path.iterdir()} == FILES
    config = lenet.config
    assert config == json.loads((lenet.path / "config.json").read_text())
    assert (config["architecture"], config["tag"], config["model_args"]) == (
        "lenet5_modern",
        "",
        {},
    )
    assert (config["task"], config["metric"], config["higher_is_better"]) == (
        "classify",
        "accuracy",
        True,
    )
    assert (config["num_classes"], config["classes"]) == (10, list("0123456789"))
    assert lenet.classes == tuple("0123456789")
    assert config["zoo_version"] == zoo.__version__
    assert (config["data"]["train_images"], config["data"]["val_images"]) == (1437, 360)
    assert config["preprocessing"]["input_size"] == [1, 28, 28]
    assert config["preprocessing"]["crop_mode"] == "squash"
    assert (config["seed"], config["recipe"]["epochs"], config["recipe"]["lr"]) == (0, 6, 1e-3)
    assert len((lenet.path / "metrics.jsonl").read_text().splitlines()) == 6
    content = (lenet.path / "curves.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">2I", content[16:24]) == (1200, 456)
    assert len(content) > 20_000


def test_the_saved_weights_have_the_reported_accuracy(lenet):
    """Evaluated here by hand, from the file: network, weights, preprocessing and split
    are what the run says.
    """
    model = zoo.create("lenet5_modern").eval()
    model.load_state_dict(load_file(lenet.path / "best.safetensors"))
    data = open_digits().val
    images = [image.resize((28, 28), Image.Resampling.BILINEAR) for image in data.images]
    x = torch.tensor(numpy.stack(images))[:, None] / 255
    with torch.no_grad():
        right = (model(x).argmax(1) == torch.tensor(data.targets)).float().mean().item()
    assert right == pytest.approx(lenet.accuracy)
    assert not lenet.load_best(lenet.model).training


def test_predict_agrees_with_direct_evaluation(lenet, tmp_path):
    paths = export_digits(tmp_path / "digits", 20)
    model = lenet.load_best(lenet.model)
    x = torch.stack(
        [
            torch.tensor(
                numpy.asarray(Image.open(path).resize((28, 28), Image.Resampling.BILINEAR))
            )
            for path in paths
        ]
    )
    with torch.no_grad():
        expected = model(x[:, None] / 255).softmax(1)
    for what in (lenet, lenet.path, str(lenet.path)):
        predictions = zoo.predict(what, (tmp_path / "digits").iterdir(), top=10)
        assert sorted(prediction.file for prediction in predictions) == sorted(paths)
        by_file = {prediction.file: prediction for prediction in predictions}
        for path, row in zip(paths, expected, strict=True):
            scores = by_file[path].scores
            assert [name for name, _ in scores] == [
                str(i) for i in row.argsort(descending=True).tolist()
            ]
            torch.testing.assert_close(
                torch.tensor([p for _, p in scores]), row.sort(descending=True).values
            )
    right = sum(prediction.label == prediction.truth for prediction in predictions)
    assert right >= 16


def test_predict_goes_on_after_unreadable_files(lenet, tmp_path):
    (good,) = export_digits(tmp_path, 1)
    (tmp_path / "bad.png").write_text("no image")
    bad, gone, found = zoo.predict(lenet, [tmp_path / "bad.png", "gone.png", good], top=3)
    assert "bad.png: not an image" in bad.error
    assert "gone.png: No such file" in gone.error
    assert (found.error, len(found.scores)) == ("", 3)
    with pytest.raises(DataError, match=r"bad\.png: not an image"):
        _ = bad.label
    for files, expected in (([], "no files"), (Path.cwd(), "no images in")):
        with pytest.raises(DataError, match=expected):
            zoo.predict(lenet, files)
    with pytest.raises(InputError, match="top=0"):
        zoo.predict(lenet, good, top=0)


def test_the_picture_of_predictions(lenet, tmp_path, monkeypatch):
    """True and predicted labels, and digits of 8x8 pixels large enough to be seen."""
    paths = export_digits(tmp_path / "digits", 3)
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "some.png").write_bytes(paths[0].read_bytes())
    files = [*paths, tmp_path / "bad.png", tmp_path / "some.png"]
    found = zoo.predict(lenet, files)
    assert [each.truth for each in found] == ["0", "1", "2", "", ""]
    header = str(found).splitlines()[0]
    assert re.split(r"\s\s+", header) == [
        "file",
        "true",
        "predicted",
        *(f"rank {i}" for i in (2, 3, 4, 5)),
    ]
    assert isinstance(found[:2], type(found))
    assert str(found).splitlines()[-1] == found[3].error
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **style: titles.append(text))
    for name in ("predictions.png", "predictions.svg"):
        done = zoo_command("predict", lenet.path, *files, "--plot", tmp_path / name)
        assert done.exit_code == 1  # for the file that cannot be read
        assert done.stdout.splitlines()[-1] == f"the images with their labels: {tmp_path / name}"
    assert [title.splitlines()[0] for title in titles[:3]] == [f"true: {label}" for label in "012"]
    assert titles[1].splitlines()[1].startswith(f"predicted: {found[1].label} (")
    assert titles[3].startswith(f"{found[4].label} (")
    with Image.open(tmp_path / "predictions.png") as picture:
        assert picture.width / 4 > 200  # 8 pixels of a digit are a fifth of an inch each
    assert b"<svg" in (tmp_path / "predictions.svg").read_bytes()
    for call in (lambda: found.plot(tmp_path / "x.jpg"), lambda: found.plot(tmp_path / "x")):
        with pytest.raises(UsageError, match=r"the picture is a \.png or \.svg file"):
            call()
    with pytest.raises(UsageError, match="there is no image to draw"):
        type(found)([found[3]]).plot(tmp_path / "x.png")


def test_what_predict_cannot_use(lenet, tmp_path):
    (path,) = export_digits(tmp_path, 1)
    with pytest.raises(UsageError, match="ciresan_mlp2 has no weights to predict with"):
        zoo.predict("ciresan_mlp2", path)
    with pytest.raises(UsageError, match="is no run folder"):
        zoo.predict(tmp_path, path)
    with pytest.raises(UsageError, match="needs the names of its classes"):
        zoo.predict(Tiny(), path)
    with pytest.raises(UsageError, match="a run has its own classes"):
        zoo.predict(lenet, path, classes=list("0123456789"))
    with pytest.raises(InputError, match="gives 10 classes, 2 are named"):
        zoo.predict(lenet.load_best(lenet.model), path, classes=["a", "b"])
    assert (
        zoo.predict(lenet.load_best(lenet.model), path, classes=list("0123456789"))[0]
        == zoo.predict(lenet, path)[0]
    )


def test_the_same_seed_gives_the_same_run(tiny):
    """On the CPU to the last bit, with augmentation; and the caller's random numbers go
    on as if nothing had happened.
    """
    runs = []
    for seed in (3, 3, 4):
        torch.manual_seed(7)
        runs.append(
            zoo.finetune(
                "lenet5_modern",
                "digits",
                pretrained=False,
                epochs=1,
                batch_size=256,
                seed=seed,
                progress=False,
            )
        )
        assert torch.rand(1).item() == pytest.approx(
            torch.rand(1, generator=torch.Generator().manual_seed(7)).item()
        )
    first, same, other = (load_file(run.path / "last.safetensors") for run in runs)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert [run.path.name for run in runs] == [f"lenet5_modern-digits-{i}" for i in (1, 2, 3)]


def test_a_run_says_with_how_many_workers_and_threads(tiny, digit_folder, monkeypatch):
    """On which its numbers depend: the same ones on a machine with other cores give the
    same run.
    """
    root = digit_folder("photos", {"zero": 12, "one": 12})
    options = {"augment": "small", "batch_size": 8, "model": None, "cache": "off"}
    weights = {}
    for cores in (1, 2):
        monkeypatch.setattr("os.sched_getaffinity", lambda process, cores=cores: range(cores))
        run = tiny(root, **options)
        assert run.config["recipe"]["workers"] == cores
        assert run.config["threads"] == 1, "a small network"
        again = tiny(root, **options, workers=1)
        weights[cores] = load_file(again.path / "last.safetensors")
    assert all(torch.equal(weights[1][key], weights[2][key]) for key in weights[1])
    assert tiny("digits").config["recipe"]["workers"] == 0
    monkeypatch.setattr("zoo.training.environment.SINGLE_THREAD_PARAMS", 0)
    assert tiny("digits").config["threads"] == torch.get_num_threads()


def test_arguments_of_the_network_are_kept_for_prediction(digit_folder):
    """A run of a network with other arguments is rebuilt with them; lenet5's codes give
    way to a linear layer for 3 classes.
    """
    root = digit_folder("photos", {"zero": 8, "one": 8, "two": 8})
    with pytest.warns(ZooWarning, match="linear layer"):
        network = zoo.create("lenet5", activation="tanh", num_classes=5)
        run = zoo.finetune(network, root, epochs=1, progress=False)
    assert (run.config["architecture"], run.config["num_classes"]) == ("lenet5", 3)
    assert run.config["model_args"] == {"activation": "tanh", "num_classes": 5}
    file = root / "one" / "000.png"
    assert zoo.predict(run.path, file, top=3) == zoo.predict(run, file, top=3)


def test_arguments_of_numpy_are_what_they_mean(digit_folder):
    """A number that came back from config.json as text made a run that could not be
    opened.
    """
    root = digit_folder("photos", {"zero": 8, "one": 8, "two": 8})
    network = zoo.create("lenet5_modern", num_classes=numpy.int64(4))
    run = zoo.finetune(
        network, root, epochs=numpy.int64(1), seed=numpy.int64(3), progress=False, workers=0
    )
    assert run.config["model_args"] == {"num_classes": 4}
    assert (run.config["recipe"]["epochs"], run.config["seed"]) == (1, 3)
    file = root / "one" / "000.png"
    assert zoo.predict(run.path, file, top=3) == zoo.predict(run, file, top=3)


def test_a_new_head_of_another_kind_is_rebuilt(digit_folder):
    """SqueezeNet's own head has a ReLU after it, a new one has none: prediction must
    make the same kind again.
    """
    root = digit_folder("photos", {"zero": 8, "one": 8, "two": 8})
    with pytest.warns(ZooWarning, match="has no ReLU"):
        run = zoo.finetune("squeezenet1_1", root, pretrained=False, epochs=1, progress=False)
    assert not run.model.head_relu
    file = root / "one" / "000.png"
    assert zoo.predict(run.path, file, top=3) == zoo.predict(run, file, top=3)


# ------------------------------------------------------------------------------- labels

TEN = torch.arange(20) % 10


class Items(torch.utils.data.Dataset):
    """Pairs whose labels are not at hand as a list."""

    def __init__(self, images, labels):
        self.images, self.labels_of_items = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        return self.images[number], self.labels_of_items[number]


BAD_LABELS = {
    "int32": (TEN.int(), r"are int32: needs class numbers in int64, e\.g\. labels\.long\(\)"),
    "uint8": (TEN.byte(), "are uint8: needs class numbers in int64"),
    "bool": (TEN > 4, "are bool: needs class numbers"),
    "float": (TEN.float(), "are float32: needs class numbers"),
    "column": (TEN[:, None], r"shape \(\d+, 1\): needs one class number .* labels\.flatten\(\)"),
    "one-hot": (nn.functional.one_hot(TEN), r"shape \(\d+, 10\): .* e\.g\. labels\.argmax\(1\)"),
    "probabilities": (nn.functional.one_hot(TEN).float(), r"shape \(\d+, 10\)"),
    "strings": ([f"digit {i}" for i in TEN], r"are no numbers \('digit 0'\): needs class numbers"),
    "from 1": (TEN + 1, "the class number 10 with 10 classes: they are 0 to 9"),
    "too large": (TEN.where(TEN < 9, torch.tensor(99)), "class number 99 with 10 classes"),
    "-1": (TEN - 1, "the class number -1"),
    "-100": (TEN.where(TEN > 0, torch.tensor(-100)), "the class number -100"),
}


@pytest.mark.parametrize("labels", BAD_LABELS)
@pytest.mark.parametrize("part", ["training", "validation"])
@pytest.mark.parametrize(
    ("network", "way"),
    [
        ("lenet5", "dataset"),
        ("lenet5", "items"),
        ("lenet5_modern", "loader"),
        ("module", "dataset"),
        ("module", "loader"),
    ],
)
def test_labels_are_checked_before_training(network, part, way, labels, monkeypatch):
    """For every loss and head, on both sides; lenet5's own loss has an eleventh column
    that would take class number 10 in silence.
    """
    monkeypatch.setattr(
        "zoo.transfer.finetune.Loop", lambda *args, **options: pytest.fail("training began")
    )
    model, side = {
        "lenet5": ("lenet5", 32),
        "lenet5_modern": ("lenet5_modern", 28),
        "module": (Tiny(), 8),
    }[network]
    wrong, expected = BAD_LABELS[labels]
    if way == "items":  # of which some are looked at before training
        wrong = list(wrong)[::-1]
        expected = expected.replace("digit 0", "digit 9")
    images = torch.zeros(20, 1, side, side)
    kind = TensorDataset if isinstance(wrong, torch.Tensor) else Items
    train, val = TensorDataset(images, TEN), kind(images, wrong)
    if part == "training":
        train, val = val, train
    if way == "loader":
        train, val = DataLoader(train, 10), DataLoader(val, 10)
    with pytest.raises(DataError, match=expected) as caught:
        zoo.finetune(model, train, val=val, classes=list("0123456789"), progress=False)
    assert f"the {part} data" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(Path.cwd().iterdir())


def test_labels_that_are_not_at_hand_are_checked_in_their_batch(tiny):
    wrong = [*TEN[:-1].tolist(), 10]
    data = Items(torch.zeros(20, 1, 8, 8), wrong)
    for given in (data, DataLoader(data, 5)):
        with pytest.raises(DataError, match="class number 10 with 10 classes"):
            tiny(given, val=given, classes=list("0123456789"))
        with pytest.raises(DataError, match="class number 10 with 10 classes"):
            tiny(given, val=given)  # as many as the network gives
    assert not list(Path.cwd().iterdir())


def test_labels_that_are_changed_on_their_way(tiny):
    """What an item gives counts, not the list beside it; and a label at hand needs no
    int64 where images of any kind become tensors here.
    """

    class Shifted(Items):
        targets = (TEN + 1).tolist()
        target_transform = staticmethod(lambda label: label - 1)

        def __getitem__(self, number):
            return self.images[number], self.target_transform(self.targets[number])

    data = Shifted(torch.zeros(20, 1, 8, 8), None)
    assert tiny(data, val=data).classes == tuple("0123456789")
    pictures = [Image.new("L", (8, 8))] * 20
    data = Items(pictures, TEN.int().numpy())
    assert tiny(data, val=data, workers=0).classes == tuple("0123456789")
    for labels in ([f"digit {i}" for i in TEN], TEN / 2):
        with pytest.raises(DataError, match="needs class numbers"):
            tiny(Items(pictures, labels))


def test_the_user_s_loss_takes_any_labels(tiny):
    data = Items([Image.new("L", (8, 8))] * 20, (TEN / 4).tolist())
    seen = []

    def loss(outputs, batch, model):
        seen.extend(batch[1].tolist())
        return (outputs[:, 0] - batch[1]).square().mean()

    tiny(data, model=Tiny(1), val=data, loss=loss, workers=0)
    assert set(seen) == set((TEN / 4).tolist()), "no longer cut off to whole numbers"


def test_class_numbers_without_names(tiny):
    images = torch.zeros(20, 1, 8, 8)
    with pytest.warns(ZooWarning, match="taken as 0 to 10, and the data have none of 0: class"):
        run = tiny(TensorDataset(images, TEN + 1), batch_size=10)
    assert run.config["num_classes"] == 11
    names = numpy.array([f"digit {i}" for i in range(10)])
    run = tiny(TensorDataset(images, TEN), classes=names, batch_size=10)
    assert run.classes == tuple(names.tolist())
    with pytest.raises(InputError, match="classes='0123456789': needs a list of names"):
        tiny(TensorDataset(images, TEN), classes="0123456789")


# ------------------------------------------------------------- one process, many runs


def computed(tiny, **options):
    """The precision of config.json, and the type that the convolution computed in."""
    model, seen = Tiny(), set()

    def see(module, args, output):
        if module.training:
            seen.add(output.dtype)

    model.conv.register_forward_hook(see)
    run = tiny(model=model, batch_size=256, **options)
    assert "forward" not in vars(model)
    (dtype,) = seen
    return run.config["recipe"]["mixed_precision"], dtype


@pytest.mark.slow
def test_the_precision_of_one_run_is_not_that_of_the_next(tiny):
    """What is recorded is what was computed in, also after another run."""
    plain, half = ("no", torch.float32), ("bf16", torch.bfloat16)
    assert computed(tiny, mixed_precision="bf16") == half
    assert computed(tiny) == plain
    assert computed(tiny, mixed_precision="bf16", cpu=True) == half
    assert computed(tiny, mixed_precision="no") == plain


def test_the_configuration_of_accelerate_is_recorded(tiny, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert computed(tiny) == ("bf16", torch.bfloat16)
    assert computed(tiny, mixed_precision="no") == ("no", torch.float32)


def test_the_caller_s_accelerator_stays(tiny):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        mine = Accelerator(cpu=True, mixed_precision="bf16")
        assert computed(tiny) == ("no", torch.float32)
        assert mine.mixed_precision == "bf16"
        assert Accelerator().mixed_precision == "bf16"
        assert PartialState().device == torch.device("cpu")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_a_broken_run_leaves_the_module_s_own_forward(tiny):
    def stop(record, module):
        raise RuntimeError("enough")

    model, x = Tiny(), torch.randn(2, 1, 8, 8)
    with pytest.raises(RuntimeError, match="enough"):
        tiny(model=model, mixed_precision="bf16", callback=stop)
    assert not {"forward", "_original_forward"} & set(vars(model))
    expected = nn.functional.conv2d(x, model.conv.weight, model.conv.bias, padding=1)
    model.norm, model.head = nn.Identity(), nn.Identity()
    expected = nn.functional.max_pool2d(expected.relu(), 2).flatten(1)
    assert torch.equal(model(x), expected), "no autocast"


# --------------------------------------------------------------------------- any module


def test_the_batch_that_fits(monkeypatch):
    """A tenth of the images at most; less where the memory is small, and one clear line
    where it is too small.
    """
    options = {"batch_size": "auto", "epochs": 1, "augment": "none", "progress": False, "cpu": True}
    options["pretrained"] = False
    with pytest.warns(
        ZooWarning, match=r"batch size 143: its training step is predicted to take \d+ MiB"
    ):
        run = zoo.finetune("lenet5_modern", "digits", **options)
    assert run.config["recipe"]["batch_size"] == 143 == 1437 // 10
    monkeypatch.setattr("zoo.transfer.batch_size.free_bytes", lambda device: 4 * 2**20)
    with pytest.warns(ZooWarning, match="batch size"):
        run = zoo.finetune("lenet5_modern", "digits", **options)
    batch = run.config["recipe"]["batch_size"]
    needed = [
        zoo.memory("lenet5_modern", number, optimizer="adamw", device="cpu").peak
        for number in (batch, batch + 1)
    ]
    assert needed[0] <= 4 * 2**20 < needed[1]
    assert 10 < batch < 143
    monkeypatch.setattr("zoo.transfer.batch_size.free_bytes", lambda device: 1000)
    with pytest.raises(
        UsageError,
        match=r"^not even one image fits into the 0 MiB that are free: "
        r"take a smaller network or input_size$",
    ):
        zoo.finetune("lenet5_modern", "digits", **options)


def test_a_custom_module(tiny, tmp_path):
    model = Tiny()
    head = model.head
    run = tiny(model=model, epochs=3)
    assert model.head is head, "its output fits already"
    assert run.accuracy > 0.8
    assert (run.path.name, run.config["architecture"], run.config["module"]) == (
        "tiny-digits-1",
        "",
        "Tiny",
    )
    (path,) = export_digits(tmp_path, 1)
    with pytest.raises(UsageError, match="is of a Tiny that zoo did not create"):
        zoo.predict(run.path, path)
    assert zoo.predict(run.path, path, model=Tiny()) == zoo.predict(run, path)


def test_new_heads_for_other_peoples_networks():
    import timm
    import torchvision

    x = torch.randn(2, 3, 64, 64)
    for model, head in (
        (torchvision.models.resnet18(), "fc"),
        (torchvision.models.vgg11(), "classifier.6"),
        (torchvision.models.squeezenet1_1(), "classifier.1"),
        (torchvision.models.mobilenet_v3_small(), "classifier.3"),
        (timm.create_model("resnet10t"), "fc"),
        (Tiny(7, channels=3), None),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 9, bias=False)), "1"),
    ):
        if head is None:
            with pytest.raises(UsageError, match="Tiny does not take images of shape"):
                fit_head(model, 5, x)
            continue
        before, training = dict(model.named_modules())[head], model.training
        assert fit_head(model, 5, x) is model
        after = dict(model.named_modules())[head]
        assert after is not before
        assert type(after) is type(before)
        assert model.eval()(x).shape == (2, 5)
        assert (getattr(after, "bias", None) is None) == (getattr(before, "bias", None) is None)
        assert training
    assert fit_head(nn.Linear(4, 2), 3, torch.randn(2, 4)).out_features == 3
    with pytest.raises(UsageError, match="has no Linear or Conv2d layer to replace"):
        fit_head(nn.Flatten(), 5, x)


def test_another_input_size():
    grey = preprocessing_of(Tiny()).resized((8, 10))
    assert (grey.input_size, len(grey.mean)) == ((1, 8, 10), 1)
    assert preprocessing_of(nn.Linear(64, 2)).resized((1, 8, 8)).input_size == (1, 8, 8)
    with pytest.raises(InputError, match="input_size=0"):
        preprocessing_of(Tiny()).resized(0)


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_finetuning_other_peoples_networks(source, digit_folder):
    import timm
    import torchvision

    root = digit_folder("photos", {"zero": 12, "one": 12})
    model = (
        torchvision.models.resnet18() if source == "torchvision" else timm.create_model("resnet10t")
    )
    with pytest.warns(ZooWarning, match="enlarged to 64x64|converted to RGB"):
        run = zoo.finetune(model, root, epochs=2, batch_size=4, progress=False, workers=0)
    assert run.config["preprocessing"]["input_size"] == [3, 64, 64]
    assert run.load_best(run.model)(torch.randn(2, 3, 64, 64)).shape == (2, 2)
    assert run.config["module"] == "ResNet"
    assert run.history[1]["train_loss"] < run.history[0]["train_loss"]


def test_datasets_and_loaders(tiny, tmp_path):
    digits = open_digits()
    transform = build_transform(preprocessing_of(Tiny()).resized(8))
    train, val = (
        TensorDataset(
            torch.stack([transform(image) for image in part.images]), torch.tensor(part.targets)
        )
        for part in (digits.train, digits.val)
    )
    runs = [
        tiny(train, val=val),
        tiny(DataLoader(train, 32, shuffle=True), val=DataLoader(val, 32)),
        tiny(train, val_fraction=0.5, classes=[f"digit {i}" for i in range(10)]),
    ]
    for run, count in zip(runs, (360, 360, 719), strict=True):
        assert run.accuracy > 0.4
        assert abs(run.config["data"]["val_images"] - count) <= 5
        assert run.config["preprocessing"] is None
    assert runs[2].config["classes"][3] == "digit 3"
    (path,) = export_digits(tmp_path, 1)
    for what in (runs[2], runs[2].path):
        with pytest.raises(UsageError, match="how images become such is not known"):
            zoo.predict(what, path, model=Tiny())
        with pytest.raises(UsageError, match="how images become such is not known"):
            zoo.transforms(what)
    assert zoo.predict(runs[2], path, transform=transform)[0].label.startswith("digit ")


def test_a_dataset_without_class_numbers_needs_names_or_a_network(tiny):
    class Silent(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return torch.zeros(1, 8, 8), index % 2

    assert tiny(Silent(), model=Tiny(4)).config["classes"] == list("0123")
    with pytest.raises(UsageError, match="name them with classes="):
        zoo.finetune("lenet5_modern", Silent())


def test_a_custom_loss(tiny):
    """It replaces the network's; accuracy is still measured, and selects."""
    seen, threads = [], torch.get_num_threads()

    def loss(outputs, batch, model):
        seen.append((model, model.training))
        assert torch.get_num_threads() == 1, "more are slower with a network this small"
        return nn.functional.cross_entropy(outputs, batch[1], label_smoothing=0.1)

    model = Tiny()
    run = tiny(model=model, loss=loss)
    assert set(seen) == {(model, True), (model, False)}
    assert torch.get_num_threads() == threads
    assert set(run.history[0]) == {
        "epoch",
        "lr",
        "images_per_second",
        "data_wait",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "seconds",
    }


def test_a_custom_loss_on_data_that_only_it_knows(tiny):
    """Targets that are no class numbers: no accuracy, the lowest loss selects, and the
    last layer stays.
    """
    x = torch.randn(40, 1, 8, 8)
    data = TensorDataset(x, x.mean((1, 2, 3)), torch.ones(40))

    def loss(outputs, batch, model):
        _, target, weight = batch
        return ((outputs[:, 0] - target).square() * weight).mean()

    run = tiny(data, model=Tiny(1), val=data, loss=loss, epochs=3)
    assert "val_accuracy" not in run.history[0]
    assert run.best["val_loss"] == min(record["val_loss"] for record in run.history)
    assert run.model.head.out_features == 1
    network = zoo.create("lenet5_modern", num_classes=1)
    x = torch.randn(8, 1, 28, 28)
    data = TensorDataset(x, x.mean((1, 2, 3)), torch.ones(8))
    run = zoo.finetune(network, data, val=data, loss=loss, epochs=1, progress=False)
    expected = run.load_best(run.model)(x)
    assert torch.equal(zoo.create(run.path).eval()(x), expected), "its own last layer stayed"


def test_the_callback_gets_each_epoch_and_the_module(tiny):
    model, calls = Tiny(), []
    run = tiny(model=model, epochs=2, callback=lambda *given: calls.append(given))
    assert [record for record, _ in calls] == run.history
    assert all(module is model for _, module in calls)

    def stop(record, module):
        raise RuntimeError("seen enough")

    with pytest.raises(RuntimeError, match="seen enough"):
        tiny(epochs=3, callback=stop)
    assert len(Run.open("runs/tiny-digits-2").history) == 1, "what was reached is there"


# ------------------------------------------------------------------------ what is meant


def test_a_run_is_a_network_everywhere(lenet, tmp_path):
    """The folder, the object and a weights file in it: created, described, exported and
    trained on.
    """
    x = torch.randn(4, 1, 28, 28)
    expected = lenet.load_best(lenet.model)(x)
    for what in (lenet.path, str(lenet.path), lenet, lenet.path / "best.safetensors"):
        model = zoo.create(what)
        assert model is not lenet.model
        torch.testing.assert_close(model.eval()(x), expected)
        assert model.preprocessing.crop_mode == "squash"
        assert zoo.transforms(what)(Image.new("L", (8, 9))).shape == (1, 28, 28)
    assert zoo.info(lenet.path).classes == tuple("0123456789")
    shape = structure(resolve(lenet.path))  # what is counted of it
    assert (shape.head.weight.device.type, shape.head.out_features) == ("meta", 10)
    state = zoo.export_state_dict(lenet.path)
    assert torch.equal(state["head.weight"], model.head.weight)
    run = zoo.finetune(lenet.path, "digits", epochs=1, lr=1e-4, augment="none", progress=False)
    assert run.history[0]["train_accuracy"] > 0.85, "it goes on from the run's weights"
    assert run.config["architecture"] == "lenet5_modern"


def test_names_with_a_tag_and_networks_without_images(monkeypatch):
    with pytest.raises(WeightsError, match=r"there are no weights 'lenet5_modern\.nonsense'"):
        zoo.finetune("lenet5_modern.nonsense", "digits")
    file = {"file": "vgg11.mine.pth", "format": "torch"}
    record = {"vgg11.mine": read_record("vgg11.mine", {"sources": [file]})}
    monkeypatch.setattr("zoo.weights.manifest.records", lambda family, path=None: record)
    monkeypatch.setenv("ZOO_MIRROR", "")
    for call in (
        lambda: zoo.finetune("vgg11.mine", "digits"),
        lambda: zoo.predict("vgg11.mine", "x"),
    ):
        with pytest.raises(WeightsError, match=r"vgg11\.mine\.pth is not here"):
            call()
    with pytest.raises(WeightsError, match=r"there are: vgg11\.mine"):
        zoo.finetune("vgg11.nonsense", "digits")
    assert not list(Path.cwd().iterdir())


# ------------------------------------------------------------------ nothing left behind


def test_faults_are_found_before_training_and_leave_nothing(tiny, digit_folder, monkeypatch):
    monkeypatch.setattr(
        "zoo.transfer.finetune.Loop",
        lambda *args, **options: pytest.fail("training began"),
    )
    one = digit_folder("one", {"a": 5})
    (Path.cwd().parent / "full").mkdir()
    (Path.cwd().parent / "full" / "x").write_text("mine")
    (Path.cwd().parent / "link").symlink_to("nowhere")
    for error, options in (
        (UsageError, {"out": Path.cwd().parent / "full" / "x" / "run"}),
        (UsageError, {"out": Path.cwd().parent / "link" / "run"}),
        (UsageError, {"out": "x" * 300}),
        (UnknownModelError, {"what": "lenet9"}),
        (UsageError, {"data": "nowhere"}),
        (DataError, {"data": one}),
        (UsageError, {"out": Path.cwd().parent / "full"}),
        (InputError, {"epochs": 0}),
        (InputError, {"batch_size": 2.5}),
        (InputError, {"lr": -1.0}),
        (InputError, {"optimizer": "lion"}),
        (InputError, {"augment": "flip"}),
        (InputError, {"epoch": 3}),
        (InputError, {"seed": -1}),
        (UsageError, {"recipe": "finetun"}),
        (InputError, {"what": "lenet5", "input_size": 28}),
        (UsageError, {"val": "digits"}),
    ):
        with pytest.raises(error) as caught:
            zoo.finetune(
                **{"what": "lenet5_modern", "data": "digits", "progress": False, **options}
            )
        assert "\n" not in str(caught.value)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("fault", ["exception", "interrupt", "nan"])
def test_a_break_in_the_first_epoch_leaves_nothing(tiny, fault):
    def loss(outputs, batch, model):
        if fault != "nan":
            raise {"exception": RuntimeError, "interrupt": KeyboardInterrupt}[fault]
        return outputs.sum() * float("nan")

    with pytest.raises((RuntimeError, KeyboardInterrupt, ZooError)):
        tiny(loss=loss)
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_is_gone_does_not_end_a_run(tiny, digit_folder, workers, monkeypatch):
    """Also where another process reads the images."""
    saved = []
    root = digit_folder("photos", {"zero": 8, "one": 8})

    def remove(record, module):
        (root / "one" / "003.png").unlink(missing_ok=True)

    monkeypatch.setattr(
        RunFolder, "save", lambda self, state: saved.append(state["history"][-1].get("unreadable"))
    )
    with pytest.warns(ZooWarning, match=r"1 image can no longer be read, .*: \S+003\.png$"):
        run = tiny(root, epochs=2, workers=workers, callback=remove, cache="off")
    assert [record.get("unreadable") for record in run.history] == [None, 1]
    assert saved == [None, 1], "also in the checkpoint"


def test_a_run_folder_of_the_home_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tiny(out="~/mine").path == tmp_path / "mine"


def test_a_learning_rate_too_high_is_explained(tiny):
    with pytest.raises(
        ZooError, match=r"learning rate \(now 5.*e\+29\).*in the batch: numbers \d+, "
    ):
        tiny(lr=1e30, optimizer="nesterov", epochs=5)
    assert not list(Path.cwd().glob("**/.*"))


# --------------------------------------------------------------------- where it starts


def tuned(capfd, *args, **options):
    """A run that changes next to nothing, and the first line on stderr."""
    run = zoo.finetune(*args, epochs=1, lr=1e-12, weight_decay=0, **options)
    return run, capfd.readouterr().err.splitlines()[0]


def same_body(one, other):
    """Whether all weights but those of the last layer are the same."""
    keys = [key for key in one if "head" not in key]
    return all(torch.allclose(one[key], other[key], atol=1e-6) for key in keys)


def test_it_says_and_records_from_which_weights_it_starts(capfd, digit_folder, tmp_path):
    data = digit_folder("photos", {"zero": 6, "one": 6})
    run, line = tuned(capfd, "lenet5_modern", data, pretrained=False)
    assert line == (
        "lenet5_modern (61 k parameters) from random weights; 10 images of 2 classes, 2 for "
        "validation; 1 epoch, adamw 1e-12, cpu"
    )
    assert run.config["initial_weights"] == "random"
    best = run.path / "best.safetensors"
    again, line = tuned(capfd, run.path, data)
    assert f" parameters) from {best}; 10 images" in line
    assert again.config["initial_weights"] == str(best)
    assert same_body(load_file(best), again.model.state_dict())
    from_file, line = tuned(capfd, "lenet5_modern", data, checkpoint_path=best)
    assert f" parameters) from {best}; 10 images" in line
    assert from_file.config["initial_weights"] == str(best)
    assert same_body(load_file(best), from_file.model.state_dict())
    assert zoo.predict(from_file.path, data / "zero" / "000.png", top=1)[0].label in ("zero", "one")
    module, line = tuned(
        capfd, nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), data, input_size=32
    )
    assert line.startswith("sequential (6.15 k parameters) from the module's own; 10 images")
    assert module.config["initial_weights"] == "the module's own"


def test_the_weights_of_a_peer_s_file(capfd, digit_folder, tmp_path):
    data = digit_folder("photos", {"zero": 6, "one": 6})
    theirs = zoo.create("squeezenet1_1", num_classes=7)
    file = tmp_path / "theirs.pth"
    torch.save(zoo.export_state_dict(theirs, "torchvision"), file)
    twin = tmp_path / "twin.pth"
    torch.save(zoo.export_state_dict("squeezenet1_0", "torchvision"), twin)
    run, line = tuned(
        capfd, "squeezenet1_1", data, checkpoint_path=file, layout="torchvision", input_size=32,
        strategy="full",
    )  # fmt: skip
    assert f"squeezenet1_1 (724 k parameters) from {file}; 10 images of 2 classes" in line
    assert same_body(theirs.state_dict(), run.model.state_dict())
    again = zoo.create(run.path)
    assert same_body(theirs.state_dict(), again.state_dict())
    assert again.num_classes == 2
    done = zoo_command(
        "finetune", "squeezenet1_1", "--data", data, "--checkpoint", file, "--layout", "torchvision",
        "--input-size", 32, "--json", "--no-progress", "--strategy", "probe",
    )  # fmt: skip
    assert json.loads(done.stdout)["initial_weights"] == str(file)
    with pytest.raises(WeightsError, match="of which network is not guessed"):  # or the bypass's
        zoo.finetune("squeezenet1_0", data, checkpoint_path=twin, progress=False)
    with pytest.raises(UsageError, match="has its own weights: leave out checkpoint_path"):
        zoo.finetune(theirs, data, checkpoint_path=file, progress=False)
    with pytest.raises(UsageError, match="has its own weights: leave out checkpoint_path"):
        zoo.finetune(run.path, data, checkpoint_path=file, progress=False)


# --------------------------------------------------------------------- other processes


def _tune(data, out):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        run = zoo.finetune(
            "lenet5_modern", data, pretrained=False, epochs=1, out=out, workers=2, progress=False
        )
    return run, [str(each.message) for each in said if each.category is ZooWarning]


def test_a_pool_of_daemonic_processes(digit_folder, tmp_path):
    """multiprocessing.Pool's may have no children: they read the images themselves."""
    data = digit_folder("photos", {"zero": 6, "one": 6})
    with multiprocessing.get_context("fork").Pool(1) as pool:
        (run, said) = pool.apply(_tune, (data, tmp_path / "run"))
    assert "may start no others: workers=0" in said[-1]
    assert run.config["recipe"]["workers"] == 0
    assert run.path == tmp_path / "run"
    assert Run.open(run.path).best == run.best
    assert len(zoo.predict(run, data)) == 12


def test_loaders_with_processes_in_a_daemonic_process(tiny, monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    data = TensorDataset(torch.rand(8, 1, 8, 8), torch.arange(8) % 2)
    loader = DataLoader(data, batch_size=4, num_workers=1)
    with pytest.raises(UsageError, match="may start no others: give the DataLoaders num_workers=0"):
        tiny(loader, Tiny(2), val=loader)


def test_a_pool_of_executors(digit_folder, tmp_path):
    """Those of concurrent.futures may have children; an error comes back as it is."""
    data = digit_folder("photos", {"zero": 6, "one": 6})
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        run, _ = pool.submit(_tune, data, tmp_path / "run").result()
        assert run.config["recipe"]["workers"] == 2
        with pytest.raises(UsageError, match="is not empty: choose another run folder"):
            pool.submit(_tune, data, tmp_path / "run").result()


def test_a_started_process_can_read_the_data(tiny, digit_folder, monkeypatch):
    """Processes that are spawned get the data set as a pickle."""
    made = []
    monkeypatch.setattr("zoo.transfer.finetune.Loop", lambda *args, **_: made.append(args) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny(digit_folder("photos", {"zero": 6, "one": 6}), augment="photo", input_size=8)
    ((_, *loaders, _, _),) = made
    for loader in loaders:
        image, _ = pickle.loads(pickle.dumps(loader.dataset))[0]
        assert image.shape == (1, 8, 8)


# -------------------------------------------------------------------- what is predicted


def test_a_folder_of_folders(lenet, digit_folder, tmp_path):
    data = digit_folder("photos", {"zero": 2, "one": 2})
    (data / ".hidden").mkdir()
    for name in (".hidden/a.png", "top.png"):
        (data / name).write_bytes((data / "one" / "000.png").read_bytes())
    (data / "loop").symlink_to(data)
    with pytest.warns(ZooWarning, match="photos: 5 images, also those of 2 folders in it"):
        predictions = zoo.predict(lenet, data)
    names = [str(each.file.relative_to(data)) for each in predictions]
    assert names == ["top.png", "one/000.png", "one/001.png", "zero/000.png", "zero/001.png"]
    assert not any(each.error for each in predictions)
    (tmp_path / "empty" / "inside").mkdir(parents=True)
    with pytest.raises(DataError, match="there are no images in"):
        zoo.predict(lenet, tmp_path / "empty")


def test_a_file_too_large_for_the_memory_is_one_line(lenet, digit_folder, monkeypatch):
    data = digit_folder("photos", {"zero": 2})
    resize = Image.Image.resize
    calls = iter([1])

    def fails_once(*args, **kwargs):
        if next(calls, 0):
            raise MemoryError
        return resize(*args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", fails_once)
    first, second = zoo.predict(lenet, data / "zero")
    assert first.error == f"{first.file}: too large for the memory"
    assert second.label

    def fails(image):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fails)
    first, _ = zoo.predict(lenet, data / "zero")
    assert first.error == f"{first.file}: too large for the memory"
    assert scan([first.file]) == ({}, {first.file: "too large for the memory"})


# ------------------------------------------------------------------------- command line


def zoo_command(*args):
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_command_line(tmp_path, digit_folder):
    root = digit_folder("photos", {"zero": 15, "one": 15})
    (root / "one" / "bad.png").write_text("no image")
    with pytest.warns(ZooWarning, match="1 of 31 images cannot be read"):
        done = zoo_command(
            "finetune",
            "lenet5_modern",
            "--from-scratch",
            "--data",
            root,
            "--epochs",
            2,
            "--out",
            tmp_path / "my run",
            "--workers",
            1,
        )
    accuracy, folder, following = done.stdout.splitlines()
    assert accuracy.startswith("accuracy: ")
    assert "epoch 1 of 2)" in accuracy or "epoch 2 of 2)" in accuracy
    assert accuracy.endswith("; the epoch was chosen on the same images")
    assert " % of 6 validation images" in accuracy
    assert folder.split(":")[1].strip() == str(tmp_path / "my run")
    assert following == f"next:       zoo predict '{tmp_path / 'my run'}' IMAGE..."
    first, *lines = done.stderr.splitlines()
    assert first == (
        "lenet5_modern (61 k parameters) from random weights; 24 images of 2 classes, 6 for "
        "validation; 2 epochs, adamw 0.001, cpu"
    )
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 1/2", "epoch 2/2"]
    assert lines[0].startswith("epoch 1/2  24 of 24 images: loss ")
    config = json.loads((tmp_path / "my run" / "config.json").read_text())
    assert config["data"]["skipped"] == {"one/bad.png": "not an image"}
    done = zoo_command(
        "predict",
        tmp_path / "my run",
        root / "one" / "000.png",
        root / "one" / "bad.png",
        "--top",
        1,
    )
    assert done.exit_code == 1
    header, _, row = done.stdout.splitlines()
    assert header.split() == ["file", "true", "predicted"]
    assert row.split()[:2] == [str(root / "one" / "000.png"), "one"]
    assert done.stderr == f"zoo: error: {root / 'one' / 'bad.png'}: not an image\n"
    done = zoo_command("predict", tmp_path / "my run", root / "zero", "--json")
    assert done.exit_code == 0
    rows = json.loads(done.stdout)
    assert [sum(entry["probability"] for entry in row["classes"]) for row in rows] == pytest.approx(
        [1] * 15
    )
    assert {row["error"] for row in rows} == {None}


def test_json_result():
    done = zoo_command(
        "finetune",
        "lenet5_modern",
        "--from-scratch",
        "--data",
        "digits",
        "--epochs",
        1,
        "--json",
        "--no-progress",
        "--batch-size",
        128,
    )
    result = json.loads(done.stdout)
    assert (result["run"], result["network"], result["val_images"]) == (
        "runs/lenet5_modern-digits-1",
        "lenet5_modern",
        360,
    )
    assert 0 <= result["accuracy"] <= 1
    assert done.stderr == ""


def test_help_has_examples():
    for verb in ("finetune", "predict"):
        assert f"Example: zoo {verb} " in zoo_command(verb, "--help").stdout


@pytest.mark.slow
def test_as_a_process(tmp_path):
    """Errors are one line and an exit code; the whole way from nothing to a named digit
    works outside of pytest.
    """

    def process(*args):
        return subprocess.run(
            [sys.executable, "-m", *map(str, args)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=300,
        )

    done = process("zoo", "finetune", "lenet5", "--data", "nowhere", "--out", "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("zoo: error: there is no folder 'nowhere'")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("o*"))
    done = process(
        "zoo", "finetune", "lenet5_modern", "--from-scratch", "--data", "digits", "--epochs", 1
    )
    assert done.returncode == 0
    assert "% of 360 validation images" in done.stdout
    files = process("zoo.data.digits", "png", 3).stdout.split()
    assert len(files) == 3
    done = process("zoo", "predict", "runs/lenet5_modern-digits-1", *files)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[2:]] == files


# ------------------------------------------------------------------------------- photos


@pytest.mark.skipif("ZOO_DATA" not in os.environ, reason="ZOO_DATA names no folder with data sets")
def test_photos(tmp_path):
    source = Path(os.environ["ZOO_DATA"], "imagenette_small")
    if not source.is_dir():
        pytest.skip("ZOO_DATA has no imagenette_small")
    for part, count in (("train", 40), ("val", 12)):
        for folder in sorted((source / part).iterdir())[:3]:
            (tmp_path / part / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:count]:
                (tmp_path / part / folder.name / file.name).symlink_to(file)
    run = zoo.finetune(
        "squeezenet1_1", tmp_path, pretrained=False, epochs=2, input_size=96, progress=False
    )
    assert run.config["preprocessing"]["crop_mode"] == "center"
    assert (run.config["data"]["train_images"], run.config["data"]["val_images"]) == (120, 36)
    assert len(run.config["classes"]) == 3
    (prediction,) = zoo.predict(run.path, sorted(source.glob("val/*/*"))[0], top=2)
    assert {name for name, _ in prediction.scores} <= set(run.config["classes"])


def test_a_test_part_is_counted_and_prepared(tmp_path):
    result = zoo.finetune(
        "lenet5_modern",
        "digits",
        pretrained=False,
        epochs=1,
        test_fraction=0.1,
        progress=False,
        cpu=True,
    )
    data = result.config["data"]
    assert [data[f"{part}_images"] for part in ("train", "val", "test")] == [1293, 360, 144]
    assert data["split"].endswith("of the others stratified, 10% to test on, seed 0")

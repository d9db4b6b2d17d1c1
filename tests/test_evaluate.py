"""What a trained network is worth: classes by name, views of an image, scores with
their intervals, and published weights on real images.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.stats import binomtest
from sklearn.datasets import load_sample_image
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset
from torchvision.transforms.v2 import TenCrop
from torchvision.transforms.v2 import functional as F

import zoo
from zoo.api.reported import reported_results
from zoo.cli import cli
from zoo.data.classes import Classes, classes_from, known_classes, match
from zoo.data.image import EvalTransform
from zoo.data.labelled import open_labelled
from zoo.data.transforms import build_transform
from zoo.data.views import Views
from zoo.errors import DataError, InputError, UsageError, ZooWarning
from zoo.files import write_state
from zoo.spec import Preprocessing
from zoo.tasks.scores import wilson
from zoo.training.run import Run
from zoo.weights.records import Metric

IMAGENET = known_classes("imagenet")


def folder(variable, inside=""):
    path = Path(os.environ.get(variable) or pytest.skip(f"{variable} is not set"), inside)
    return path if path.exists() else pytest.skip(f"{variable} has no {inside or 'such folder'}")


class Brightness(nn.Module):
    """Ten outputs, of which the largest says which tenth of the range the image's mean
    is in; `offset` moves it on.
    """

    def __init__(self, offset=0, outputs=10):
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(float(offset)))
        self.outputs = outputs
        self.preprocessing = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3, 1.0)

    def forward(self, x):
        middle = torch.arange(self.outputs) / 10 + 0.05
        return -((x.mean((1, 2, 3)) + self.offset / 10)[:, None] - middle).abs()


def grey(tenth, size=(12, 12)):
    return Image.new("RGB", size, (round((tenth / 10 + 0.05) * 255),) * 3)


def write(root, images):
    """`{"class/name.png": tenth}`"""
    for name, tenth in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        grey(tenth).save(root / name)
    return root


# ------------------------------------------------------------------------------ classes


def test_imagenet_has_its_classes_in_the_order_of_their_ids():
    """As two peers have them: torchvision's names, timm's ids and lemmas."""
    from timm.data import ImageNetInfo
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    assert list(IMAGENET.names) == _IMAGENET_CATEGORIES
    info = ImageNetInfo()
    assert list(IMAGENET.ids) == info.label_names() == sorted(IMAGENET.ids)
    for index, name in enumerate(IMAGENET.names):
        lemmas = info.index_to_description(index).lower()
        assert name.lower().split()[0] in lemmas
    assert len(set(IMAGENET.names)) == 1000
    from torchvision.datasets import CIFAR10

    assert known_classes("cifar10").names == (
        "airplane", "automobile", "bird", "cat", "deer",
        "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    assert CIFAR10.meta["key"] == "label_names"
    with pytest.raises(InputError, match="classes='imagnet': expected 'imagenet' or 'cifar10'"):
        known_classes("imagnet")


def test_class_names_need_no_torch():
    code = "import sys, zoo.data.classes as c; c.known_classes('imagenet'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folders_are_matched_by_id_then_by_name_never_by_position():
    assert match(["n01443537", "tench"], IMAGENET) == {"n01443537": 1, "tench": 0}
    assert match(["Golf_Ball", "crane", "n02012849"], IMAGENET) == {
        "Golf_Ball": 574, "crane": 517, "n02012849": 134,
    }  # fmt: skip
    run = Classes(("goldfish", "tench"))  # names without ids, in another order
    assert match(["n01440764", "n01443537"], run) == {"n01440764": 1, "n01443537": 0}
    ids = classes_from(["n01443537", "n01440764"])  # a run on folders of ids
    assert match(["tench", "n01443537"], ids) == {"tench": 1, "n01443537": 0}
    with pytest.raises(DataError, match=r"'0', 'n99999999': no class .* 1000 classes: tench, gold"):
        match(["0", "tench", "n99999999"], IMAGENET)
    with pytest.raises(DataError, match="'a_b': several classes"):
        match(["a_b"], Classes(("a b", "a-b")))
    assert match(["a-b"], Classes(("a b", "a-b"))) == {"a-b": 1}


# -------------------------------------------------------------------------------- views


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_image("china.jpg"))  # 640 x 427


def test_ten_crops_are_those_of_torchvision_on_the_square(photo):
    """Which mirrors the square and then cuts: the same crops in another order."""
    wanted = Preprocessing((3, 64, 64))
    views = Views(wanted, crops=10, scales=[72])
    assert len(views) == 10
    square = F.center_crop(F.resize(photo, 72), 72)
    theirs = [EvalTransform(wanted).tensor(crop) for crop in TenCrop(64)(square)]
    ours = list(views(photo))
    assert len({view.numpy().tobytes() for view in ours}) == 10
    assert {view.numpy().tobytes() for view in ours} == {x.numpy().tobytes() for x in theirs}
    assert "ten crops 64x64" in str(views)
    assert "softmax averaged over 10 views" in str(views)


def test_one_view_is_the_evaluation_of_the_weights(photo):
    for wanted in (
        Preprocessing((3, 60, 60)),
        Preprocessing((3, 60, 60), crop_pct=0.9),
        Preprocessing((3, 60, 60), crop_mode="squash", crop_pct=1.0),
    ):
        (view,) = Views(wanted)(photo)
        assert torch.equal(view, EvalTransform(wanted)(photo))


def test_squash_stretches_before_the_crop(photo):
    """BVLC's: both sides to 256, then the centre of 227."""
    wanted = Preprocessing((3, 227, 227), crop_pct=227 / 256, crop_mode="squash")
    by_hand = EvalTransform(wanted).tensor(
        photo.resize((256, 256), Image.Resampling.BILINEAR).crop((14, 14, 241, 241))
    )
    assert torch.equal(EvalTransform(wanted)(photo), by_hand)
    assert torch.equal(build_transform(wanted)(photo), by_hand)
    (view,) = Views(wanted)(photo)
    assert torch.equal(view, by_hand)
    assert str(Views(wanted)) == "stretched to 256x256, bilinear, centre crop 227x227"


def test_scales_are_the_shorter_side(photo):
    own = Preprocessing((3, 64, 64))
    for side in (*range(64, 400, 7), 448):  # no side is lost to rounding
        (view,) = Views(own, scales=[side])(photo)
        by_hand = EvalTransform(own).tensor(F.center_crop(F.resize(photo, side), 64))
        assert torch.equal(view, by_hand), side
    several = Views(own, scales=(64, 73, 80))
    assert several(photo).shape == (3, 3, 64, 64)
    assert str(several).startswith("shorter side to 64, 73, 80 (3 scales), bilinear")
    (stretched,) = Views(own, scales=[80], resize="squash")(photo)
    by_hand = F.center_crop(photo.resize((80, 80), Image.Resampling.BILINEAR), 64)
    assert torch.equal(stretched, EvalTransform(own).tensor(by_hand))
    for scales in ([63], [64.5], ["64"]):
        with pytest.raises(InputError, match="needs whole numbers from 64 on"):
            Views(own, scales=scales)
    with pytest.raises(InputError, match="each only once"):
        Views(own, scales=[80, 80])
    with pytest.raises(UsageError, match=r"all five are the same: scales=… .* \(such as 73\)"):
        Views(own, crops=10, scales=[64])
    with pytest.raises(InputError, match="crops=5: expected 1 or 10"):
        Views(own, crops=5)
    with pytest.raises(InputError, match="resize='stretch': expected 'center' or 'squash'"):
        Views(own, resize="stretch")


# ------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(("right", "count"), [(0, 7), (7, 7), (9173, 10_000), (1, 3), (674, 1000)])
def test_the_interval_is_wilsons(right, count):
    theirs = binomtest(right, count).proportion_ci(0.95, "wilson")
    assert wilson(right, count) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)


def test_a_folder_is_scored_over_all_outputs_unless_among(tmp_path):
    """Eight of ten classes; one of the nine images is what the network calls another
    class, of which there are no images.
    """
    names = [f"class {number}" for number in range(10)]
    files = {f"class_{n}/x.png": n for n in range(8)}
    root = write(tmp_path, files | {"Class 7/y.png": 8})
    found = zoo.evaluate(Brightness(), root, classes=names[::-1])
    assert found.right == 0  # the last output is `class 0`: not by position
    found = zoo.evaluate(Brightness(), root, classes=names)
    assert (found.images, found.right, found.right5) == (9, 8, 9)
    assert found.top1 == pytest.approx(100 * 8 / 9)
    assert "over all 10 outputs, of which the data have 8 classes" in found.protocol
    among = zoo.evaluate(Brightness(), root, classes=names, among=True)
    assert (among.right, among.right5) == (9, 9)
    assert "only the 8 outputs of the data's classes, of the network's 10" in among.protocol
    record = among.to_dict()
    assert record["top1"]["accuracy"] == 100
    assert record["top1"]["interval95"][0] == pytest.approx(70.085, abs=1e-3)
    json.dumps(record)
    shown = str(found).splitlines()
    assert shown[2].split() == ["top-1", "88.89", "56.50", "to", "98.01", "8"]


def test_top5_is_left_out_where_it_says_nothing(tmp_path):
    root = write(tmp_path, {f"{n}/x.png": n for n in range(5)})
    found = zoo.evaluate(Brightness(outputs=5), root, classes=list("01234"))
    assert found.top5 is None
    assert "top5" not in found.to_dict()
    assert "top-5" not in str(found)


def test_views_are_averaged_as_softmax():
    """By hand, with two scales: logits averaged would be another class."""

    class Two(nn.Module):
        preprocessing = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3, 1.0)

        def forward(self, x):
            inside = (x[:, 0].amin((1, 2)) > 0.5)[:, None]  # the larger scale sees white alone
            return torch.where(
                inside, torch.tensor([[0.0, 9.0, 1.0]]), torch.tensor([[3.0, -90.0, 4.0]])
            )

    image = grey(0, (32, 32))
    image.paste("white", (8, 8, 24, 24))
    data = [(image, 1)] * 3
    assert zoo.evaluate(Two(), data, scales=(8, 16), classes=list("abc")).right == 3
    assert zoo.evaluate(Two(), data, scales=(8,), classes=list("abc")).right == 0


def test_parts_of_a_folder(tmp_path):
    root = write(tmp_path, {f"{part}/{n}/x.png": 1 for part in ("train", "val") for n in (1, 2)})
    assert open_labelled(root).source == str(root / "val")
    write(tmp_path, {f"test/{n}/x.png": 1 for n in (1, 2)})
    assert open_labelled(root).source == str(root / "test")
    assert open_labelled(root / "train").source == str(root / "train")
    only = write(tmp_path / "only", {"train/1/x.png": 1, "train/2/x.png": 1})
    with pytest.raises(DataError, match="only has train/, and no test/ or val/"):
        open_labelled(only)
    (tmp_path / "flat").mkdir()
    with pytest.raises(DataError, match="has no class folders"):
        open_labelled(tmp_path / "flat")
    with pytest.raises(UsageError, match="there is no folder 'nowhere'"):
        open_labelled("nowhere")


def test_unreadable_images_are_left_out_and_said(tmp_path):
    root = write(tmp_path, {f"{n}/x.png": n for n in range(3)})
    (root / "1" / "broken.png").write_bytes(b"no image")
    numpy_image = Image.fromarray(numpy.zeros((9, 9), "float32"))
    numpy_image.save(root / "2" / "floats.tiff")
    for workers in (0, 1):
        with pytest.warns(ZooWarning, match=r"2 images cannot be read and .*broken.png: not an im"):
            found = zoo.evaluate(Brightness(), root, classes=list("0123456789"), workers=workers)
        assert (found.images, found.right) == (3, 3)
        assert "floats.tiff: its pixels are floating-point" in found.skipped[1]
    (root / "0" / "x.png").write_bytes(b"")
    (root / "2" / "x.png").write_bytes(b"")
    (root / "1" / "x.png").write_bytes(b"")
    (root / "2" / "floats.tiff").unlink()
    with pytest.warns(ZooWarning), pytest.raises(DataError, match="no image that can be read"):
        zoo.evaluate(Brightness(), root, classes=list("0123456789"))


def test_datasets_and_loaders(tmp_path):
    model = Brightness()
    x = torch.stack([torch.full((3, 8, 8), n / 10 + 0.05) for n in range(10)])
    y = torch.arange(10)
    y[3] = 4
    tensors = TensorDataset(x, y)
    for data in (tensors, DataLoader(tensors, 4), Subset(tensors, range(10))):
        found = zoo.evaluate(model, data, batch_size=3)
        assert (found.images, found.right) == (10, 9)
        assert found.protocol == (
            "tensors as the data give them; class numbers taken as the network's 10 outputs"
        )
    from torchvision.datasets import ImageFolder

    root = write(tmp_path, {f"{'abc'[n]}/x.png": n for n in range(3)})
    named = ImageFolder(root)  # its classes have names: matched by these
    assert zoo.evaluate(model, named, classes=list("cba") + list("1234567")).right == 1
    with pytest.raises(UsageError, match="classes of Brightness are not known, and those of the"):
        zoo.evaluate(model, named)
    with pytest.raises(UsageError, match="crops, scales, resize and input_size are for images"):
        zoo.evaluate(model, tensors, crops=10)
    with pytest.raises(UsageError, match="among=True restricts the outputs to the data's classes"):
        zoo.evaluate(model, tensors, among=True)
    with pytest.raises(DataError, match="the data have the class number 10, of 10: 0 to 9"):
        zoo.evaluate(model, TensorDataset(x, y + 1))
    with pytest.raises(DataError, match="are no class numbers"):
        zoo.evaluate(model, TensorDataset(x, y.float()))
    with pytest.raises(DataError, match=r"needs class numbers \(N,\)"):
        zoo.evaluate(model, DataLoader(TensorDataset(x, y[:, None])))
    with pytest.raises(UsageError, match="int is no data to evaluate on"):
        zoo.evaluate(model, 3)
    with pytest.raises(UsageError, match="data is empty"):
        zoo.evaluate(model, Subset(tensors, []))
    with pytest.raises(InputError, match="gives 10 classes, 2 are named"):
        zoo.evaluate(model, tensors, classes=["a", "b"])
    assert not model.train(False).training
    model.train()
    zoo.evaluate(model, tensors)
    assert model.training


def test_outputs_that_are_no_numbers_are_no_result():
    """NaN is not less and not greater than any: a rank by comparison is wrong."""
    data = TensorDataset(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long))
    with pytest.raises(DataError, match="Brightness gives NaN"):
        zoo.evaluate(Brightness(float("nan")), data)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    nn.init.zeros_(constant[1].weight)
    nn.init.zeros_(constant[1].bias)
    data = TensorDataset(torch.rand(20, 3, 8, 8), torch.arange(20) % 10)
    assert zoo.evaluate(constant, data).right == 2  # equal outputs: the first, as argmax


def test_a_run_is_evaluated_on_the_data_it_knows(tmp_path, digit_folder):
    run = zoo.finetune(
        "lenet5", "digits", pretrained=False, epochs=1, out=tmp_path / "run", cpu=True,
        progress=False,
    )  # fmt: skip
    found = zoo.evaluate(run, "digits", batch_size=50)
    assert found.images == 360
    best = max(record["val_accuracy"] for record in run.history)
    assert found.top1 == pytest.approx(100 * best)
    assert zoo.evaluate(run.path, "digits").right == found.right
    with pytest.raises(UsageError, match="a run has its own classes"):
        zoo.evaluate(run, "digits", classes="cifar10")
    other = digit_folder("other", {"zero": 2, "one": 2})
    with pytest.raises(DataError, match="'one', 'zero': no class of the network is called so"):
        zoo.evaluate(run, other)


# ------------------------------------------------------------------------------ several


class Constant(nn.Module):
    """The same logits for every image but the white ones."""

    def __init__(self, dark, white, size=8):
        super().__init__()
        self.dark, self.white = nn.Parameter(torch.tensor(dark)), torch.tensor(white)
        self.preprocessing = Preprocessing((3, size, size), (0.0,) * 3, (1.0,) * 3, 1.0)

    def forward(self, x):
        return torch.where((x.mean((1, 2, 3)) > 0.9)[:, None], self.white, self.dark)


def test_the_average_of_several_is_that_of_their_softmax():
    """By hand: the mean of the logits, or a vote, would give other classes."""
    data = [(grey(0), 0), (grey(0), 0), (grey(9), 2)]
    first = Constant([9.0, 0.0, -9.0], [0.0, 1.0, 0.0])
    second = Constant([0.0, 1.0, 0.9], [0.0, 0.0, 8.0], size=6)  # an own size of image
    third = Constant([-90.0, 0.5, 0.0], [0.0, 0.0, 1.0])
    networks = [first, second, third]
    assert sum(each.dark for each in networks).argmax() == 1
    found = zoo.evaluate(networks, data, classes=list("abc"), batch_size=2)
    assert [each.right for each in found.rows] == [2, 1, 1]
    assert found.average.right == 3
    assert [zoo.evaluate(each, data, classes=list("abc")).right for each in networks] == [2, 1, 1]
    assert "each network with its own preprocessing; softmax averaged over 3" in str(found)
    assert found.to_dict()["average"]["top1"]["right"] == 3
    assert first.training
    views = zoo.evaluate([second, second], data, classes=list("abc"), crops=10, scales=(9, 12))
    assert "20 views; softmax averaged over 2 networks" in views.average.protocol
    assert views.average.right == 1


def test_several_that_have_no_average(tmp_path):
    data = TensorDataset(torch.rand(4, 3, 8, 8), torch.zeros(4, dtype=torch.long))
    with pytest.raises(UsageError, match="Brightness gives 10 outputs, Brightness 3: they cannot"):
        zoo.evaluate([Brightness(), Brightness(outputs=3)], data)
    with pytest.raises(UsageError, match="the list is empty"):
        zoo.evaluate([], data)
    snapshots = [tmp_path / f"{classes}.safetensors" for classes in ("xy", "yx", "xyz")]
    for path in snapshots:
        about = {"architecture": "lenet5_modern", "classes": list(path.stem)}
        about["num_classes"] = len(path.stem)
        model = zoo.create("lenet5_modern", num_classes=len(path.stem))
        write_state(path, model.state_dict(), about)
    with pytest.raises(UsageError, match=r"xy.*and .*yx.* have other classes, 'x' and 'y': only"):
        zoo.evaluate(snapshots[:2], data)
    with pytest.raises(UsageError, match="have 2 and 3 classes"):
        zoo.evaluate(snapshots[::2], data)
    with pytest.raises(UsageError, match="the classes of Brightness are not known, so that"):
        zoo.evaluate([snapshots[0], Brightness()], data)
    config = {"architecture": "lenet5_modern", "data": {"source": "TensorDataset", "reopen": ""}}
    with pytest.raises(UsageError, match=r"were objects of its process \(TensorDataset\)"):
        zoo.evaluate(Run(tmp_path, config, []))
    with pytest.raises(UsageError, match="lenet5 is no run, whose own data are known: data=…"):
        zoo.evaluate("lenet5")


def test_runs_on_their_own_data(tmp_path, digit_folder):
    folder = digit_folder("photos", {"a": 6, "b": 6})
    options = {"epochs": 1, "cpu": True, "progress": False, "val_fraction": 0.5, "workers": 0}
    options["pretrained"] = False
    runs = [tmp_path / "first", tmp_path / "second"]
    history = [zoo.finetune("lenet5_modern", folder, out=run, **options).best for run in runs]
    found = zoo.evaluate(runs[0])
    assert (found.images, found.data) == (6, f"{folder}, its validation images")
    assert found.top1 == pytest.approx(100 * history[0]["val_accuracy"])
    done = CliRunner().invoke(cli, ["eval", *map(str, runs), "--json"], catch_exceptions=False)
    assert [each["network"] for each in json.loads(done.stdout)["networks"]] == [*map(str, runs)]
    snapshots = [str(runs[0] / "best.safetensors"), str(runs[1] / "last.safetensors")]
    found = zoo.evaluate(snapshots, folder, among=True)
    assert found.average.images == 12
    with pytest.raises(UsageError, match=r"best.safetensors is no run, whose own data are known"):
        zoo.evaluate(snapshots)
    first = Run.open(runs[0])
    divided = first.config["data"] | {"split": "stratified, 50% for validation, seed 1"}
    other = Run(runs[1], first.config | {"data": divided}, first.history)
    with pytest.raises(UsageError, match="have different data, or split them differently"):
        zoo.evaluate([runs[0], other])
    (folder / "a" / "000.png").unlink()
    with pytest.warns(ZooWarning, match="photos has changed since .*first was trained on it"):
        zoo.evaluate(runs[0])


def test_the_command_line(tmp_path):
    run = zoo.finetune(
        "lenet5", "digits", pretrained=False, epochs=1, out=tmp_path / "run", cpu=True,
        progress=False,
    )  # fmt: skip
    done = CliRunner().invoke(cli, ["eval", str(run.path), "--data", "digits", "--json"])
    assert json.loads(done.stdout)["images"] == 360
    done = CliRunner().invoke(cli, ["eval", str(run.path), "--data", "digits"])
    assert done.stdout.startswith("accuracy")
    assert "protocol: stretched to 32x32, bilinear" in done.stdout
    done = CliRunner().invoke(cli, ["eval", str(run.path), "--data", "digits", "--scales", "a"])
    assert "'a': expected whole numbers such as 256,288" in done.output
    with pytest.raises(UsageError, match="ciresan_mlp2 has no weights to evaluate with"):
        zoo.evaluate("ciresan_mlp2", "digits")


# ----------------------------------------------------------------------------- compared


def test_compare_shows_what_published_weights_are_worth(tmp_path):
    rows = zoo.compare("alexnet", "resnet50", "plain18", pretrained=True).rows
    alexnet, resnet50, plain18 = rows
    assert alexnet.accuracy == "top-1 57.1, top-5 80.2 (ILSVRC-2012 val; single centre crop)"
    assert resnet50.accuracy == "top-5 93.67 (ILSVRC-2012 val; single centre crop)"
    assert (alexnet.licence, plain18.licence, plain18.accuracy) == ("unrestricted", "", "")
    table = zoo.compare("resnet50", "alexnet", "plain18", pretrained=True, sort="accuracy")
    assert [row.name for row in table.rows] == ["alexnet", "resnet50", "plain18"]
    assert "licence of the weights" in table.to_markdown()
    assert "licence" not in zoo.compare("alexnet").titles
    with pytest.warns(ZooWarning, match="no weights with top-5 .* are published: plain18"):
        caption = table.plot(tmp_path / "w.svg", "weights")
    assert caption.startswith("2 networks, top-5 accuracy of published weights on ILSVRC-2012 val")
    assert ">resnet50<" in (tmp_path / "w.svg").read_text().replace("\n", "")
    with pytest.warns(ZooWarning, match="are published: resnet50, plain18"):
        assert "top-1 accuracy" in table.plot(tmp_path / "w.svg", "weights", "top-1")
    with pytest.raises(UsageError, match="none of these networks has published weights"):
        zoo.compare("plain18", pretrained=True).plot(tmp_path / "w.svg", "weights")


def test_operations_are_those_of_the_weights_size():
    """SqueezeNet 1.1's take 227 pixels, its row 224."""
    (row,) = zoo.compare("squeezenet1_1", pretrained=True).rows
    assert row.published_flops == zoo.profile("squeezenet1_1", input_size=227).flops > row.flops


def test_figures_of_another_crop_or_size_are_left_out():
    protocols = (
        "paper",
        "centre crop 227, another preprocessing",
        "single centre crop, 288 at crop 1.0",
        "stretched to 256, centre crop 224",
        "single centre crop",
    )
    given = [
        Metric(data="ILSVRC-2012 val", top1=float(number), protocol=protocol)
        for number, protocol in enumerate(protocols, 1)
    ]
    (found,) = reported_results("a.b", given, (3, 224, 224))
    assert (found.value, found.protocol) == (4.0, "single centre crop")


# ------------------------------------------------------------------------- real weights

CIFAR10_FILES = {
    "resnet20_cifar10": "resnet20-12fca82f.th",
    "resnet32_cifar10": "resnet32-d509ac18.th",
    "resnet44_cifar10": "resnet44-014dd654.th",
    "resnet56_cifar10": "resnet56-4bfd9763.th",
}


def cifar10_network(name):
    path = folder("ZOO_MIRROR", CIFAR10_FILES[name])
    return zoo.create(name, checkpoint_path=path, layout="akamaster", shortcut_pad="both")


def test_resnet20_on_500_images_of_cifar10():
    """Every twentieth."""
    from torchvision.datasets import ImageFolder

    sample = Subset(ImageFolder(folder("ZOO_DATA", "cifar10/test")), range(0, 10_000, 20))
    found = zoo.evaluate(cifar10_network("resnet20_cifar10"), sample, classes="cifar10")
    assert (found.images, found.right, found.right5) == (500, 453, 497)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet20_cifar10", 91.73),
        ("resnet32_cifar10", 92.63),
        ("resnet44_cifar10", 93.10),
        ("resnet56_cifar10", 93.39),
    ],
)
def test_published_figures_on_all_of_cifar10(name, published):
    folder("ZOO_DATA", "cifar10/test")
    found = zoo.evaluate(cifar10_network(name), "cifar10", classes="cifar10", batch_size=100)
    assert found.images == 10_000
    assert found.top1 == published


def test_imagenet_names_of_a_real_photo():
    """Product-quantised ResNet-18: a batch of real photos, by folder and by file."""
    from zoo.weights.formats import read

    photos = folder("ZOO_DATA", "imagenette_small/val")
    state = read(folder("ZOO_MIRROR", "pqf_resnet18.pth"), "codebooks")
    model = zoo.create("resnet18")
    theirs = zoo.export_state_dict(model, "torchvision")
    decoded = {
        key: state[key].reshape(own.shape) if key in state else own for key, own in theirs.items()
    }
    zoo.load_state_dict(model, decoded, "torchvision")
    chosen = [sorted(each.iterdir())[1] for each in sorted(photos.iterdir())]
    found = zoo.predict(model, chosen, classes="imagenet")
    assert [each.truth for each in found] == [
        "tench", "English springer", "cassette player", "chain saw", "church",
        "French horn", "garbage truck", "gas pump", "golf ball", "parachute",
    ]  # fmt: skip
    assert sum(each.label == each.truth for each in found) >= 5  # chance: 0.01
    with pytest.raises(
        UsageError, match="needs the names of its classes, in the order of its outputs"
    ):
        zoo.predict(model, chosen)
    data = Subset([(Image.open(file), number) for number, file in enumerate(chosen)], range(10))
    numbered = zoo.evaluate(model, data, classes="imagenet", scales=(224,))
    assert numbered.right == 1  # tench is output 0: class numbers are outputs, which is said
    assert "class numbers taken as the network's 1,000 outputs" in numbered.protocol

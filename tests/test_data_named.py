"""Data sets by name, in ZOO_DATA, and those that a CSV file lists."""

import gzip
import pickle
import struct
from collections import Counter

import numpy
import pytest
import torch
from PIL import Image

from zoo.data.csv_list import open_csv
from zoo.data.idx import read_idx
from zoo.data.labelled import open_labelled
from zoo.data.named import SETS, find_set
from zoo.data.open import open_data
from zoo.errors import DataError, UsageError, ZooWarning


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, as ZOO_DATA."""
    folder = tmp_path / "sets"
    folder.mkdir()
    monkeypatch.setenv("ZOO_DATA", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def write_idx(path, array, packed=False):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(numpy.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_mnist(folder, counts=(60, 20)):
    generator = numpy.random.default_rng(0)
    for part, count in zip(("train", "t10k"), counts, strict=True):
        images = generator.integers(0, 256, (count, 28, 28))
        write_idx(folder / f"{part}-images-idx3-ubyte", images, packed=part == "t10k")
        write_idx(folder / f"{part}-labels-idx1-ubyte", numpy.arange(count) % 10)
    return images


def test_mnist_from_its_own_files(place):
    images = write_mnist(place / "mnist" / "MNIST" / "raw")
    data = open_data("mnist", val_fraction=1 / 6, seed=2)
    assert [len(part) for part in (data.train, data.val, data.test)] == [50, 10, 20]
    assert Counter(data.val.targets) == dict.fromkeys(range(10), 1)
    assert (data.classes, data.size, data.small) == (tuple("0123456789"), (28, 28), True)
    assert data.split.startswith("official; of the train part of MNIST stratified, 16.7% for")
    image, target = data.test[13]
    assert (image.mode, target) == ("L", 3)
    assert numpy.array_equal(numpy.asarray(image), images[13])
    again = open_data("mnist", val_fraction=1 / 6, seed=2)
    assert torch.equal(again.val.data, data.val.data)
    reported = open_labelled("mnist")
    assert (reported.source, reported.classes) == ("MNIST test", data.classes)
    assert torch.equal(reported.data.data, data.test.data), "one way for both"
    with pytest.raises(UsageError, match="MNIST has its own images to test on"):
        open_data("mnist", test_fraction=0.2)


def test_damaged_idx_files(tmp_path):
    file = tmp_path / "train-images-idx3-ubyte"
    with pytest.raises(DataError, match="No such file"):
        read_idx(file)
    write_idx(file, numpy.zeros((3, 2, 2)))
    assert read_idx(file).shape == (3, 2, 2)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged: 11 bytes for 3x2x2"):
        read_idx(file)
    file.write_bytes(b"\0\0\x0d\1")
    with pytest.raises(DataError, match="is no IDX file of bytes"):
        read_idx(file)
    file.unlink()
    file.with_name(f"{file.name}.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="Not a gzipped file"):
        read_idx(file)


def test_cifar_as_torchvision_keeps_it(place, monkeypatch):
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    folder = place / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = numpy.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=numpy.uint8)
    entry = {"data": pixels.reshape(20, -1), "labels": [n % 10 for n in range(20)]}
    for name in ("test_batch", *(f"data_batch_{n}" for n in range(1, 6))):
        (folder / name).write_bytes(pickle.dumps(entry))
    data = open_data("CIFAR-10")
    assert [len(part) for part in (data.train, data.val, data.test)] == [80, 20, 20]
    assert torch.equal(data.test.data, torch.from_numpy(pixels))
    assert data.classes[:2] == ("airplane", "automobile")
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: False)
    with pytest.raises(DataError, match=r"CIFAR-10 in .*cifar10 cannot be read: Dataset not found"):
        open_data("cifar10")


def test_sets_of_files(place):
    """DTD, and those that torchvision keeps alike."""
    root = place / "dtd" / "dtd" / "dtd"
    (root / "labels").mkdir(parents=True)
    for part, numbers in (("train", range(3)), ("val", (3,)), ("test", (4, 5))):
        files = [
            f"{kind}/{kind}_{number}.jpg" for kind in ("banded", "woven") for number in numbers
        ]
        (root / "labels" / f"{part}1.txt").write_text("\n".join(files))
        for file in files:
            (root / "images" / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (60, 50)).save(root / "images" / file)
    data = open_data("dtd")
    assert [len(part) for part in (data.train, data.val, data.test)] == [6, 2, 4]
    assert (data.classes, data.size) == (("banded", "woven"), (60, 50))
    assert data.split == "the train part of DTD, the val part of DTD and the test part of DTD"
    assert open_labelled("dtd").data.images == data.test.images


def test_folders_in_the_place_of_data(place, digit_folder, tmp_path):
    """One way for training and evaluation, whatever the folder's name."""
    for part, count in (("train", 5), ("test", 2)):
        digit_folder(f"sets/cifar10_full/{part}", {"cat": count, "dog": count})
    digit_folder("sets/mine", {"a": 5, "b": 5})
    with pytest.warns(ZooWarning) as notes:
        data = open_data("cifar10")
    assert any("has 10 of the 50,000 training images of CIFAR-10" in str(n.message) for n in notes)
    assert [len(part) for part in (data.train, data.val, data.test)] == [8, 2, 4]
    with pytest.warns(ZooWarning, match="no val/"):
        same = open_data("cifar10_full")
    assert same.test.images == data.test.images
    assert open_labelled("cifar10").source == "CIFAR-10 test"
    assert open_labelled("cifar10_full").data.images == data.test.images
    assert open_data("mine").classes == ("a", "b")
    digit_folder("mine", {"c": 5, "d": 5})
    assert open_data("mine").classes == ("c", "d"), "the folder that is here"
    (tmp_path / "cifar10").mkdir()
    with pytest.warns(
        ZooWarning, match=r"'cifar10' is the data set of that name; the folder is ./"
    ):
        open_labelled("cifar10")


def test_a_set_that_is_not_there(place, monkeypatch):
    for opened in (open_data, open_labelled):
        with pytest.raises(
            UsageError, match="has no folder mnist, and ZOO_OFFLINE forbids the net"
        ):
            opened("mnist")
        with pytest.raises(
            UsageError, match=r"no folder 'minst', and ZOO_DATA=.*did you mean mnist"
        ):
            opened("minst")
        with pytest.raises(UsageError, match="a CSV file, or digits, mnist, fashion-mnist"):
            opened("zzzzzz")
    asked = []

    def failing(root, train, download):
        asked.append((root.name, train, download))
        raise OSError("no route\nto host")

    monkeypatch.setenv("ZOO_OFFLINE", "0")
    monkeypatch.setattr("torchvision.datasets.MNIST", failing)
    with (
        pytest.warns(ZooWarning, match="MNIST is downloaded to .*sets/mnist"),
        pytest.raises(DataError, match=r"MNIST could not be downloaded to .*mnist: no route$"),
    ):
        open_data("mnist")
    assert asked == [("mnist", True, True)]
    monkeypatch.delenv("ZOO_DATA")
    with pytest.raises(UsageError, match="fashion-mnist: ZOO_DATA is not set: ZOO_DATA=FOLDER"):
        open_data("FashionMNIST")
    assert find_set("./mnist") == find_set("photos") == ""
    assert all(find_set(name) == name for name in SETS)


# -------------------------------------------------------------------------------- CSV


def write_csv(folder, lines, name="list.csv"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def digits(digit_folder):
    return digit_folder("images", {"a": 10, "b": 10}).parent


def row(name, number, *more, delimiter=","):
    return delimiter.join([f"images/{name}/{number:03d}.png", *more])


def test_a_csv_without_parts_is_split(digits):
    lines = [row(name, n, label) for name, label in (("a", "10"), ("b", "9")) for n in range(10)]
    data = open_data(write_csv(digits, ["filename,Label", *lines]), test_fraction=0.1)
    assert data.classes == ("9", "10"), "in natural order"
    assert [len(part) for part in (data.train, data.val, data.test)] == [14, 4, 2]
    assert data.name == "list"
    assert data.test.images[0].name.endswith(".png")
    whole = open_labelled(digits / "list.csv")
    assert (len(whole.data), whole.classes) == (20, ("9", "10"))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_a_csv_with_parts(digits, delimiter):
    lines = [delimiter.join(("id", "image path", "class", "split"))]
    for number, part in enumerate(("train", "Training", "val", "valid", "test")):
        lines += [
            delimiter.join(
                [str(number), *(row(name, number, name, part, delimiter="|").split("|"))]
            )
            for name in "ab"
        ]
    path = write_csv(digits, [*lines, "", lines[-1]])
    with pytest.warns(ZooWarning, match="1 lines repeat others: each image is used once"):
        data = open_csv(path)
    assert [len(part) for part in (data.train, data.val, data.test)] == [4, 4, 2]
    assert data.split == "the train rows, the val rows and the test rows"
    with pytest.warns(ZooWarning):
        assert len(open_labelled(path).data) == 2
    with pytest.raises(UsageError, match="its own images for validation: leave val_fraction out"):
        open_csv(path, val_fraction=0.1)


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "list.csv is empty"),
        (["path,label"], "lists no images"),
        (["images/a/000.png,a"], "line 1: no column for the path among images/a/000.png, a: call"),
        (["path,kind", "x,y"], "line 1: no column for the label among path, kind: call one label"),
        (["path,label", row("a", 0, "a"), "images/a/001.png,"], "line 3: there is no label"),
        (["path,label", row("a", 0, "a"), "images/a/001.png"], "line 3: there is no label"),
        (["path,label,split", row("a", 0, "a", "dev")], "line 2: split 'dev': expected train, val"),
        (["path,label,split", row("a", 0, "a", "test")], "has rows of test but none of train"),
        (["path,label", row("a", 0, "a"), row("a", 0, "b")], "line 3: .* is in line 2 with another"),
        (["path,label", row("a", 0, "a"), row("a", 1, "a")], "has only one class, 'a'"),
        (["path,label", "x.png,a", "y.png,b"], "class 'a' has no readable image in the train rows"),
        (
            ["path,label,split", row("a", 0, "a", "train"), row("b", 0, "b", "train"),
             row("a", 1, "a", "val")],
            "class 'b' is in the train rows but not in the val rows",
        ),
    ],
)  # fmt: skip
def test_faulty_lists(digits, lines, expected):
    path = write_csv(digits, lines)
    with pytest.raises(DataError, match=expected) as caught:
        open_csv(path)
    assert "\n" not in str(caught.value)

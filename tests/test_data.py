"""Images of every kind, folders of every fault, and splits that repeat."""

import pickle
import struct
from collections import Counter
from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import zoo
from zoo import registry
from zoo.data.datasets import from_dataset, say_unreadable, transformed
from zoo.data.digits import export_digits, open_digits
from zoo.data.files import scan
from zoo.data.folder import open_folder
from zoo.data.image import EvalTransform, convert, inspect_image, open_image, trim
from zoo.data.open import open_data
from zoo.data.splits import stratified_split
from zoo.data.transforms import build_transform, preprocessing_of
from zoo.errors import DataError, InputError, UsageError, ZooWarning
from zoo.spec import Preprocessing

CFG = Preprocessing((3, 32, 32), mean=(0, 0, 0), std=(1, 1, 1))


# ----------------------------------------------------------------------- one image file


def saved(path, array, mode=None, **options):
    Image.fromarray(numpy.asarray(array), mode).save(path, **options)
    return path


def rgb_of(path):
    return numpy.asarray(convert(open_image(path), 3))


def test_alpha_is_laid_over_white(tmp_path):
    pixels = numpy.array([[[200, 0, 0, 255], [200, 0, 0, 128], [200, 0, 0, 0]]], dtype=numpy.uint8)
    path = saved(tmp_path / "a.png", pixels)
    assert inspect_image(path) == ("transparent", (3, 1))
    assert rgb_of(path).tolist() == [[[200, 0, 0], [227, 127, 127], [255, 255, 255]]]
    assert numpy.asarray(convert(open_image(path), 1)).tolist() == [
        [60, 157, 255]
    ]  # 0.299 R + 0.587 G + 0.114 B


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_becomes_white(tmp_path, mode):
    image = Image.new(mode, (2, 1), 0)
    if mode == "P":
        image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), (40, 50, 60) if mode == "RGB" else 1)
    path = tmp_path / "a.png"
    image.save(path, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert inspect_image(path)[0] == "transparent"
    assert rgb_of(path).tolist() == [[[255, 255, 255], [1, 1, 1] if mode == "L" else [40, 50, 60]]]


def test_palette(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.gif")
    image.save(tmp_path / "a.png")
    assert inspect_image(tmp_path / "a.png")[0] == "palette"
    for name in ("a.gif", "a.png"):
        assert rgb_of(tmp_path / name).tolist() == [[[10, 20, 30], [40, 50, 60]]]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_is_scaled_and_not_clipped(tmp_path, suffix):
    path = saved(tmp_path / f"a{suffix}", numpy.array([[0, 257, 32768, 65535]], dtype=numpy.uint16))
    assert inspect_image(path)[0] == "16 bit"
    assert numpy.asarray(convert(open_image(path), 1)).tolist() == [[0, 1, 128, 255]]
    assert rgb_of(path)[0].tolist() == [[value] * 3 for value in (0, 1, 128, 255)]


def test_grey_one_bit_and_cmyk(tmp_path):
    grey = saved(tmp_path / "grey.png", numpy.array([[0, 99]], dtype=numpy.uint8))
    assert inspect_image(grey)[0] == "grey"
    assert rgb_of(grey).tolist() == [[[0, 0, 0], [99, 99, 99]]]
    bits = tmp_path / "bits.png"
    Image.new("1", (2, 1), 1).save(bits)
    assert inspect_image(bits)[0] == "grey"
    assert rgb_of(bits).tolist() == [[[255] * 3] * 2]
    cmyk = tmp_path / "cmyk.tif"
    Image.new("CMYK", (1, 1), (0, 255, 255, 0)).save(cmyk)
    assert inspect_image(cmyk)[0] == "CMYK"
    assert rgb_of(cmyk).tolist() == [[[255, 0, 0]]]
    jpeg = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(jpeg, quality=100)
    assert inspect_image(jpeg)[0] == "CMYK"
    assert abs(rgb_of(jpeg)[0, 0].astype(int) - [255, 0, 0]).max() <= 3


def test_exif_orientation_turns_the_image(tmp_path):
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))  # white on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    turned = rgb_of(tmp_path / "a.jpg")
    assert turned.shape == (16, 8, 3)
    assert turned[2, 4, 0] > 250
    assert turned[13, 4, 0] < 5


def with_exif(path, extra):
    """A JPEG, white on the left and to be turned, whose EXIF data have one more tag."""
    import io

    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    plain = io.BytesIO()
    image.save(plain, "jpeg", quality=100)
    tags = [(0x0112, 3, 1, 6 << 16), extra]  # tag, type, count, value or offset
    body = b"".join(struct.pack(">HHII", *tag) for tag in tags)
    exif = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(tags)) + body + bytes(4)
    content = plain.getvalue()
    path.write_bytes(
        content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    )
    return path


@pytest.mark.parametrize(
    "extra",
    [
        (0x8298, 2, 4, 0x6D65_0000),  # nothing wrong
        (0x010E, 99, 1, 0),  # no such type
        (0x010E, 2, 4000, 60_000),  # text beyond the end
        (0x011A, 5, 1, 60_000),  # a fraction beyond the end
        (0x8769, 4, 1, 60_000),  # another table beyond the end
        (0x8769, 2, 4, 0x6D65_0000),  # which is text
        (0x8825, 9, 1, 0xFFFF_FFFF),
        (0x010E, 7, 4, 0xFF00_FF00),
        (0x010E, 12, 3, 0),
    ],
)
def test_malformed_metadata_cost_no_image(tmp_path, extra):
    path = with_exif(tmp_path / "a.jpg", extra)
    assert scan([path], progress=False) == ({path: ("colour", (16, 8))}, {})
    assert rgb_of(path).shape == (16, 8, 3), "turned, as the orientation says"


def test_metadata_that_cannot_be_read_at_all(tmp_path, monkeypatch):
    """The scan and the use agree, whatever Pillow raises."""
    path = with_exif(tmp_path / "a.jpg", (0x8298, 2, 4, 0))

    def fail(self):
        raise struct.error("unpack requires a buffer of 12 bytes")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert inspect_image(path) == ("colour", (16, 8))
    assert rgb_of(path).shape == (8, 16, 3)


def test_pixels_of_unknown_range_are_refused(tmp_path):
    floats = saved(tmp_path / "f.tif", numpy.zeros((2, 2), numpy.float32))
    large = saved(tmp_path / "i.tif", numpy.full((2, 2), 70_000, numpy.int32))
    for path, reason in ((floats, "floating-point"), (large, "beyond 16 bit")):
        with pytest.raises(DataError, match=reason):
            inspect_image(path)
    with pytest.raises(InputError, match="1 or 3 channels"):
        convert(Image.new("RGB", (1, 1)), 4)


def broken_files(folder):
    """Name: what must be said of it."""
    noise = numpy.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=numpy.uint8)
    for name in ("cut.jpg", "cut.png"):
        path = saved(folder / name, noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "text.jpg").write_text("this is no image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return {
        "cut.jpg": "truncated",
        "cut.png": "",
        "text.jpg": "not an image",
        "empty.png": "not an image",
        "gone.png": "No such file",
    }


def test_unreadable_files(tmp_path):
    good = saved(tmp_path / "good.jpg", numpy.zeros((64, 64, 3), numpy.uint8))
    reasons = broken_files(tmp_path)
    found, skipped = scan([good, *(tmp_path / name for name in reasons)], progress=False)
    assert found == {good: ("colour", (64, 64))}
    assert {path.name for path in skipped} == set(reasons)
    for path, reason in skipped.items():
        assert reasons[path.name] in reason
        assert reason
        with pytest.raises(DataError, match=path.name):
            open_image(path)


# ------------------------------------------------------------------------------- digits


def test_digits_are_split_once_and_for_all():
    data = open_digits()
    assert (len(data.train), len(data.val)) == (1437, 360)
    assert data.classes == tuple("0123456789")
    assert set(Counter(data.val.targets).values()) <= {35, 36, 37}
    assert open_digits().val.targets == data.val.targets
    pixels = [numpy.asarray(image) for image in data.train.images + data.val.images]
    assert {pixel.shape for pixel in pixels} == {(8, 8)}
    assert (min(p.min() for p in pixels), max(p.max() for p in pixels)) == (0, 255)
    with pytest.raises(UsageError, match="a fixed fifth for validation"):
        open_data("digits", val_fraction=0.5)


def test_exported_digits_are_validation_ones_in_class_folders(tmp_path):
    paths = export_digits(tmp_path / "some", 12)
    assert [int(path.parent.name) for path in paths] == [*range(10), 0, 1]
    data = open_digits()
    validation = {
        image.tobytes(): target
        for image, target in zip(data.val.images, data.val.targets, strict=True)
    }
    assert all(validation[open_image(path).tobytes()] == int(path.parent.name) for path in paths)
    with pytest.raises(UsageError, match="1 to 360"):
        export_digits(tmp_path, 361)


# ------------------------------------------------------------------------------ folders


def test_train_and_val(digit_folder):
    digit_folder("photos/train", {"b": 4, "a": 3})
    root = digit_folder("photos/val", {"b": 1, "a": 2}).parent
    data = open_folder(root)
    assert data.classes == ("a", "b")
    assert (data.train.targets, data.val.targets) == ([0] * 3 + [1] * 4, [0, 0, 1])
    assert data.split == "train/ and val/"
    assert data.small
    image, target = data.val[2]
    assert (image.size, image.mode, target) == ((8, 8), "L", 1)
    with pytest.raises(UsageError, match="leave val_fraction out"):
        open_folder(root, val_fraction=0.3)


def test_one_folder_is_split_reproducibly(digit_folder):
    root = digit_folder("photos", {"a": 10, "b": 20, "rare": 2})

    def validation(**options):
        data = open_folder(root, **options)
        assert not set(data.train.images) & set(data.val.images)
        assert len(data.train) + len(data.val) == 32
        return data.val.images, Counter(data.val.targets)

    files, counts = validation(seed=1)
    assert counts == {0: 2, 1: 4, 2: 1}
    assert validation(seed=1)[0] == files
    assert validation(seed=2)[0] != files
    assert validation(seed=1, val_fraction=0.5)[1] == {0: 5, 1: 10, 2: 1}
    with pytest.raises(InputError, match="between 0 and 1"):
        open_folder(root, val_fraction=1.0)


def test_train_without_val_is_split_and_said(digit_folder):
    root = digit_folder("photos/train", {"a": 10, "b": 10}).parent
    with pytest.warns(ZooWarning, match="no val/: a part of train/ is for validation$"):
        data = open_folder(root)
    assert (len(data.train), len(data.val), data.test) == (16, 4, None)
    flat = root / "test" / "test"  # of a competition: without labels
    flat.mkdir(parents=True)
    Image.new("L", (8, 8)).save(flat / "1.png")
    with pytest.warns(ZooWarning, match="a part of train/ is for validation, test/ is not used"):
        assert open_folder(root).test is None


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Train", "Val"),
        ("training", "validation"),
        ("TRAINING", "Valid"),
        ("train2017", "val2017"),
        ("TrainSet", "val_set"),
        ("seg_train/seg_train", "seg_val/seg_val"),
    ],
)
def test_parts_by_their_usual_names(digit_folder, tmp_path, train, val):
    digit_folder(f"photos/{train}", {"a": 3, "b": 3})
    digit_folder(f"photos/{val}", {"a": 2, "b": 1})
    data = open_folder(tmp_path / "photos")
    assert data.classes == ("a", "b")
    assert (data.train.targets, data.val.targets) == ([0] * 3 + [1] * 3, [0, 0, 1])
    assert data.split == f"{train}/ and {val}/"


@pytest.mark.parametrize(
    ("train", "test"), [("Training", "Testing"), ("seg_train/seg_train", "seg_test/seg_test")]
)
def test_a_test_part_is_not_for_validation(digit_folder, tmp_path, train, test):
    """It reports; what selects is a part of the training data."""
    digit_folder(f"photos/{train}", {"a": 10, "b": 10})
    digit_folder(f"photos/{test}", {"a": 2, "b": 3})
    with pytest.warns(ZooWarning, match=f"has {train.split('/')[0]}/ but no val/: a part of "):
        data = open_folder(tmp_path / "photos")
    assert (data.classes, len(data.train), len(data.val)) == (("a", "b"), 16, 4)
    assert data.test.targets == [0] * 2 + [1] * 3
    assert data.split == f"{train}/ and {test}/; of {train}/ stratified, 20% for validation, seed 0"
    digit_folder("photos/val", {"a": 1, "b": 1})
    data = open_folder(tmp_path / "photos")
    assert [len(part) for part in (data.train, data.val, data.test)] == [20, 2, 5]
    assert data.split == f"{train}/, val/ and {test}/"
    with pytest.raises(UsageError, match="its own images to test on: leave test_fraction out"):
        open_folder(tmp_path / "photos", test_fraction=0.1)
    (tmp_path / "photos" / "val" / "c").mkdir()
    assert "class 'c' is in val/ but not in" in message(tmp_path / "photos")


def test_a_third_part_on_request(digit_folder):
    root = digit_folder("photos", {"a": 10, "b": 20, "rare": 3})
    data = open_folder(root, test_fraction=0.2, seed=4)
    parts = [data.train, data.val, data.test]
    files = [file for part in parts for file in part.images]
    assert len(files) == len(set(files)) == 33
    assert [Counter(part.targets) for part in parts] == [
        {0: 6, 1: 12, 2: 1}, {0: 2, 1: 4, 2: 1}, {0: 2, 1: 4, 2: 1},
    ]  # fmt: skip
    assert data.split == "stratified, 20% for validation, 20% to test on, seed 4"
    again = open_folder(root, test_fraction=0.2, seed=4)
    assert again.test.images == data.test.images
    pairs = from_dataset(Pairs(20), None, None, val_fraction=0.1, test_fraction=0.5, seed=0)
    assert [len(part) for part in (pairs.train, pairs.val, pairs.test)] == [8, 2, 10]
    given = from_dataset(Pairs(), Pairs(4), None, val_fraction=None, test_fraction=0.2, seed=0)
    assert [len(part) for part in (given.train, given.val, given.test)] == [8, 4, 2]
    for fractions, error in (((0.5, 0.5), "leave nothing to train on"), ((0.2, 2), "between 0")):
        with pytest.raises(InputError, match=error):
            open_folder(root, val_fraction=fractions[0], test_fraction=fractions[1])
    with pytest.raises(UsageError, match="a DataLoader is not divided"):
        loader = DataLoader(Pairs())
        from_dataset(loader, loader, None, val_fraction=None, test_fraction=0.1, seed=0)
    few = digit_folder("few", {"a": 5, "b": 2})
    assert "class 'b' has 2 readable images in" in message(few, test_fraction=0.2)


def test_a_fraction_is_one_of_the_whole():
    """5,000 of MNIST's 60,000, whose classes are of ten sizes."""
    sizes = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    targets = [number for number, size in enumerate(sizes) for _ in range(size)]
    rest, part = stratified_split(targets, 1 / 12, seed=0)
    assert (len(rest), len(part)) == (55_000, 5_000)
    counts = Counter(targets[index] for index in part)
    assert all(abs(counts[number] - size / 12) < 1 for number, size in enumerate(sizes))


@pytest.mark.parametrize("others", [("bus", "car"), ("bus", "test"), ("invalid", "valid")])
def test_a_class_called_as_a_part(digit_folder, others):
    root = digit_folder("photos", {"train": 4, **dict.fromkeys(others, 4)})
    assert open_folder(root).classes == tuple(sorted(("train", *others)))
    digit_folder("split/train", {"train": 4, "bus": 4})
    root = digit_folder("split/val", {"train": 4, "bus": 4}).parent
    assert open_folder(root).classes == ("bus", "train")


def test_parts_or_classes(digit_folder, tmp_path):
    """What could be either is refused, with what is there."""
    two = {"a": 2, "b": 2}
    for number, (folders, expected) in enumerate(
        (
            (("train", "bus"), "has train/ with folders in it, beside bus/: parts or classes?"),
            (("trainval", "test"), "has test/ with folders in it, beside trainval/: parts or"),
            (("train", "Training", "val"), "has Training/, train/: which of them is meant"),
            (("train", "val", "valid"), "has val/, valid/: which of them is meant is not clear"),
            (("Testing",), "has Testing/ but no train/"),
            (("cat/train", "cat/test", "dog/train", "dog/test"), "hold test/, train/: needs it"),
        )
    ):
        for folder in folders:
            digit_folder(f"{number}/{folder}", two)
        assert expected in message(tmp_path / str(number))
    flat = digit_folder("flat", {"train": 4, "test": 4})
    assert "train has no class folders, but 4 images: put each into" in message(flat)


def test_folders_that_look_like_parts_are_said(digit_folder, tmp_path):
    for fold in ("fold1", "fold2"):
        digit_folder(f"photos/{fold}", {"cat": 2, "dog": 2})
    with pytest.warns(ZooWarning, match=r"fold1/ and fold2/ in .* are taken as classes"):
        assert open_folder(tmp_path / "photos").classes == ("fold1", "fold2")


def test_a_folder_called_digits(digit_folder, tmp_path, monkeypatch):
    root = digit_folder("digits", {"a": 4, "b": 4})
    monkeypatch.chdir(tmp_path)
    for data in ("./digits", "digits/", root, root.relative_to(tmp_path), str(root)):
        assert open_data(data).classes == ("a", "b")
    with pytest.warns(ZooWarning, match=r"data set of that name; the folder is \./digits"):
        assert len(open_data("digits").classes) == 10


def test_what_is_left_out_is_said(digit_folder):
    root = digit_folder("photos", {"a": 6, "b": 6})
    reasons = broken_files(root / "b")
    (root / "a" / "notes.md").write_text("no image by its name")
    (root / ".hidden").mkdir()
    (root / "a" / ".ipynb_checkpoints").mkdir()
    Image.new("L", (8, 8)).save(root / "a" / ".ipynb_checkpoints" / "x.png")
    Image.new("L", (8, 8)).save(root / "loose.png")
    (root / "a" / "deeper").mkdir()
    Image.new("RGBA", (8, 8)).save(root / "a" / "deeper" / "x.PNG")
    with pytest.warns(ZooWarning) as notes:
        data = open_folder(root, progress=False)
    said = [str(note.message) for note in notes]
    assert len(said) == 3
    assert "1 images in" in said[0]
    assert "no class folder" in said[0]
    assert "no images by their names (1 .md)" in said[1]
    assert "5 of 18 images cannot be read and are skipped" in said[2]
    assert all(name in said[2] for name in reasons)
    assert set(data.skipped) == {f"b/{name}" for name in reasons}
    assert len(data.train) + len(data.val) == 13
    assert data.image_modes == {"grey": 12, "transparent": 1}


def files_of(data):
    """The files for training and for validation, of which none is there twice."""
    train, val = ([path.resolve() for path in part.images] for part in (data.train, data.val))
    assert len({*train, *val}) == len(train) + len(val)
    return train, val


def test_a_link_to_its_own_folder_adds_nothing(digit_folder):
    root = digit_folder("photos", {"a": 4, "b": 4})
    (root / "a" / "loop").symlink_to(root / "a")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "above").symlink_to(root.parent)
    (root / "a" / "aside").symlink_to(root / "b")
    with pytest.warns(ZooWarning, match="each file is used once, without a/aside, a/loop, a/up, b"):
        data = open_folder(root)
    assert [len(part) for part in files_of(data)] == [6, 2]
    assert Counter(data.train.targets + data.val.targets) == {0: 4, 1: 4}
    assert set(data.skipped) == {"a/loop", "a/up", "a/aside", "b/above"}


def test_a_file_with_two_names_is_there_once(digit_folder):
    root = digit_folder("photos", {"a": 4, "b": 4})
    (root / "a" / "again.png").symlink_to(root / "a" / "000.png")
    (root / "a" / "of_b.png").symlink_to(root / "b" / "000.png")
    (root / "b" / "hard.png").hardlink_to(root / "b" / "001.png")
    with pytest.warns(ZooWarning, match="each file is used once, without"):
        data = open_folder(root)
    assert Counter(data.train.targets + data.val.targets) == {0: 4, 1: 4}
    assert data.skipped["a/of_b.png"] == f"the same file as {root / 'b' / '000.png'}"
    files_of(data)


def test_training_and_validation_share_no_file(digit_folder):
    """A file comes before links to it, and of two equal names that for validation."""
    train = digit_folder("photos/train", {"a": 4, "b": 4})
    val = digit_folder("photos/val", {"a": 1, "b": 1})
    (val / "a" / "linked.png").symlink_to(train / "a" / "003.png")
    (train / "b" / "hard.png").hardlink_to(val / "b" / "000.png")
    with pytest.warns(ZooWarning, match="without val/a/linked.png|without train/b/hard.png"):
        data = open_folder(train.parent)
    assert [len(part) for part in files_of(data)] == [8, 2]


def test_a_validation_folder_that_is_the_training_folder(digit_folder):
    train = digit_folder("photos/train", {"a": 4, "b": 4})
    (train.parent / "val").symlink_to(train)
    with pytest.warns(ZooWarning, match="without train/a, train/b"):
        assert "class 'a' has no readable image in" in message(train.parent)


def test_links_to_files_elsewhere_are_used(digit_folder, tmp_path):
    source = digit_folder("elsewhere", {"a": 4, "b": 4})
    (tmp_path / "photos" / "b").mkdir(parents=True)
    (tmp_path / "photos" / "a").symlink_to(source / "a")
    for file in sorted((source / "b").iterdir()):
        (tmp_path / "photos" / "b" / file.name).symlink_to(file)
    data = open_folder(tmp_path / "photos")
    assert (data.skipped, [len(part) for part in files_of(data)]) == ({}, [6, 2])


def message(root, **options):
    with pytest.raises((DataError, UsageError)) as caught:
        open_folder(root, progress=False, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_faulty_folders(tmp_path, digit_folder):
    assert "there is no folder" in message(tmp_path / "nowhere")
    (tmp_path / "file.png").write_bytes(b"x")
    assert "is a file" in message(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    assert "has no class folders" in message(tmp_path / "empty")
    Image.new("L", (8, 8)).save(tmp_path / "empty" / "loose.png")
    assert "1 images: put each into its class folder" in message(tmp_path / "empty")
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    (tmp_path / "hollow" / "b").mkdir()
    assert f"there are no images in {tmp_path}" in message(tmp_path / "hollow")
    assert "only one class, 'a'" in message(digit_folder("one", {"a": 5}))
    assert "class 'b' has no readable image" in message(digit_folder("none", {"a": 5, "b": 0}))
    assert "class 'b' has 1 readable image in" in message(digit_folder("single", {"a": 5, "b": 1}))
    lone = digit_folder("lone/val", {"a": 1, "b": 1}).parent
    assert "val/ but no train/" in message(lone)


def test_a_class_with_unreadable_images_only(digit_folder):
    root = digit_folder("photos", {"a": 5, "b": 0})
    broken_files(root / "b")
    with pytest.warns(ZooWarning, match="5 of 10 images cannot be read"):
        assert "class 'b' has no readable image" in message(root)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_fails_later_is_replaced_and_said(digit_folder, workers):
    """In any process that reads, and always by the same one."""
    split = open_folder(digit_folder("photos", {"a": 30, "b": 10}), progress=False)
    train = transformed(split.train, EvalTransform(CFG))
    ready = replace(split, train=train, val=transformed(split.val, EvalTransform(CFG)))
    before = [image for image, _ in train]
    for index in (3, 4, 31):  # the last one
        split.train.images[index].write_bytes(b"cut off")
    with pytest.raises(DataError, match="not an image"):
        split.train[3]
    loader = DataLoader(train, batch_size=8, num_workers=workers)
    for _ in range(2):
        images = torch.cat([images for images, _ in loader])
        expected = [before[{3: 5, 4: 5, 31: 0}.get(index, index)] for index in range(32)]
        assert torch.equal(images, torch.stack(expected))
    assert train[31][1] == 0, "the class of the image that is shown"
    said = set()
    with pytest.warns(ZooWarning, match="3 images can no longer be read, .*b.009.png") as notes:
        say_unreadable(ready, said)
        say_unreadable(ready, said)
    assert len(notes) == 1
    assert said == {str(split.train.images[index]) for index in (3, 4, 31)}
    for file in split.train.images:
        file.unlink()
    with pytest.raises(DataError, match=r"20 images in a row cannot be read, the last: .*No such"):
        train[0]


@pytest.mark.parametrize(("train", "val"), [("train", "val"), ("val", "train")])
def test_a_class_in_one_part_only(digit_folder, train, val):
    digit_folder(f"photos/{train}", {"a": 2, "b": 2})
    root = digit_folder(f"photos/{val}", {"a": 2, "b": 2, "c": 2}).parent
    assert f"class 'c' is in {val}/ but not in {train}/" in message(root)


# ------------------------------------------------------------- Datasets and DataLoaders


class Pairs(Dataset):
    """PIL images as from torchvision's data sets."""

    classes = ("even", "odd")

    def __init__(self, count=10):
        self.targets = [i % 2 for i in range(count)]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return Image.new("RGB", (20, 30), (index, 0, 0)), self.targets[index]


def opened(data, val=None, classes=None, val_fraction=None):
    return from_dataset(data, val, classes, val_fraction=val_fraction, seed=0)


def test_dataset_of_pil_images():
    data = opened(Pairs())
    assert (data.classes, data.size, data.small) == (("even", "odd"), (20, 30), True)
    assert (len(data.train), len(data.val)) == (8, 2)
    assert sorted(target for _, target in data.val) == [0, 1]
    transform = build_transform(CFG)
    train, val = transformed(data.train, transform), transformed(data.val, transform)
    assert (train[0][0].shape, val[0][1]) == ((3, 32, 32), data.val[0][1])


def test_dataset_of_tensors():
    tensors = TensorDataset(torch.randn(9, 1, 4, 4), torch.arange(9) % 3)
    data = opened(tensors, Subset(tensors, [0, 1]))
    assert (data.classes, data.size, data.split) == (("0", "1", "2"), None, "given")
    assert data.train is tensors
    assert opened(Subset(Pairs(), range(4)), classes=["a", "b"]).classes == ("a", "b")
    loader = DataLoader(tensors)
    assert opened(loader, loader).train is loader


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 4, 4), 0


@pytest.mark.parametrize(
    ("data", "val", "fraction", "expected"),
    [
        (DataLoader(Pairs()), None, None, "DataLoader needs"),
        (DataLoader(Pairs()), Pairs(), None, "DataLoader needs"),
        (Pairs(), DataLoader(Pairs()), None, "DataLoader needs"),
        (Pairs(), Pairs(), 0.2, "exclude each other"),
        (Pairs(), Pairs(0), None, "val is empty"),
        (Pairs(1), None, None, "2 are needed"),
        (Stream(), Stream(), None, "no length"),
        (DataLoader(Stream()), DataLoader(Stream()), None, "no length"),
        ([(numpy.zeros((3, 3)), 0)] * 4, None, None, "needs tensors or PIL images"),
    ],
)
def test_faulty_datasets(data, val, fraction, expected):
    with pytest.raises(UsageError, match=expected):
        opened(data, val, val_fraction=fraction)


def test_val_belongs_to_datasets(tmp_path):
    for options in ({"val": Pairs()}, {"classes": ["a"]}):
        with pytest.raises(UsageError, match="belong to a Dataset"):
            open_data(tmp_path, **options)


def test_stratified_leaves_something_on_both_sides():
    targets = [0] * 2 + [1] * 7 + [2] * 30
    train, val = stratified_split(targets, 0.9, seed=3)
    assert sorted(train + val) == list(range(39))
    assert Counter(targets[i] for i in train) == {0: 1, 1: 1, 2: 3}


# --------------------------------------------------------------------------- transforms


def test_evaluation_transform_by_hand():
    ramp = numpy.tile(numpy.arange(80, dtype=numpy.uint8), (40, 1))  # 80 wide, 40 high
    cfg = Preprocessing((3, 35, 35), mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))
    x = build_transform(cfg)(
        Image.fromarray(ramp)
    )  # shorter side 40, then the 35 pixels in the middle
    assert x.shape == (3, 35, 35)
    row = (torch.arange(22, 57) / 255 - 0.5) / 0.5
    torch.testing.assert_close(x[0], row.expand(35, 35))
    torch.testing.assert_close(x[1], 2 * row.expand(35, 35))
    squashed = build_transform(replace(cfg, crop_mode="squash"))(Image.fromarray(ramp))
    assert squashed[0, 0, 0] < row[0]
    assert squashed[0, 0, -1] > row[-1]


def test_evaluation_without_torchvision_is_the_same_to_the_bit():
    """Every preprocessing of a network, and each kind that weights may ask for, on a
    photo, a part of it in odd sizes, and images smaller than the crop.
    """
    rows = [registry.family(name).variants[name] for name in zoo.list_models()]
    kinds = {row.image.preprocessing() for row in rows if row.image}
    kinds |= {CFG, replace(CFG, crop_pct=1.3), replace(CFG, input_size=(3, 20, 31), crop_pct=0.9)}
    for name in ("nearest", "nearest-exact", "bicubic", "box", "hamming", "lanczos"):
        kinds |= {
            replace(CFG, interpolation=name),
            replace(CFG, interpolation=name, crop_mode="squash"),
        }
    photo = Image.fromarray(load_sample_image("china.jpg"))
    images = [
        photo,
        photo.crop((100, 50, 353, 423)),
        photo.crop((0, 0, 31, 77)),
        photo.crop((0, 0, 7, 1)),
    ]
    for kind in kinds:
        ours, theirs = EvalTransform(kind), build_transform(kind)
        for image in images:
            x = ours(image)
            assert x.shape == kind.input_size
            assert torch.equal(x, theirs(image)), (kind, image.size)
    with pytest.raises(InputError, match="interpolation='cubic': expected 'nearest'"):
        EvalTransform(replace(CFG, interpolation="cubic"))
    with pytest.raises(InputError, match="interpolation='cubic': expected 'nearest'"):
        build_transform(replace(CFG, interpolation="cubic"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16", "I"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_every_mode_are_the_same_to_the_bit(mode, channels):
    photo = Image.fromarray(load_sample_image("flower.jpg")).crop((200, 100, 271, 153))
    image = photo.convert("L").convert("I").convert(mode) if mode[0] == "I" else photo.convert(mode)
    kind = CFG.with_channels(channels)
    assert torch.equal(EvalTransform(kind)(image), build_transform(kind)(image))
    assert pickle.loads(pickle.dumps(EvalTransform(kind)))(image).shape == (channels, 32, 32)


@pytest.mark.parametrize("size", [(30000, 1), (1, 30000), (3, 20001)])
def test_thin_images_take_little_memory(size, monkeypatch, tmp_path):
    """Resized as they are, the first one has 256 x 7,680,000 pixels."""
    made, resize = [], Image.Image.resize

    def watched(image, size, *args, **kwargs):
        made.append(size[0] * size[1])
        assert made[-1] < 10**7
        return resize(image, size, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "resize", watched)
    path = tmp_path / "thin.png"
    Image.new("RGB", size, "red").save(path)
    assert inspect_image(path) == ("colour", size)
    imagenet, image = Preprocessing(), open_image(path)
    red = EvalTransform(imagenet)(image)
    assert torch.equal(red, build_transform(imagenet)(image))
    assert red[0].min() == red[0].max() > 1.9
    for augment in ("photo", "small", "none"):
        x = build_transform(imagenet, train=True, augment=augment)(image)
        assert x.shape == (3, 224, 224)
    assert max(made) < 256 * 256 * 20
    pixels = torch.zeros(3, size[1], size[0], dtype=torch.uint8)
    assert build_transform(imagenet)(pixels).shape == (3, 224, 224)


def test_the_ends_of_a_thin_image_are_not_in_its_centre():
    ramp = Image.fromarray(numpy.arange(2000, dtype=numpy.float32).reshape(1, -1).repeat(40, 0) / 8)
    image = ramp.convert("L")
    kept = trim(image)
    assert kept.size == (640, 40)
    assert trim(kept) is kept
    x = EvalTransform(CFG.with_channels(1))(image)
    whole = image.resize((36 * 2000 // 40, 36)).crop((884, 2, 916, 34))
    expected = torch.from_numpy(numpy.array(whole) / 255)
    torch.testing.assert_close(x[0], expected.float(), atol=1.5 / 255, rtol=0)
    assert trim(torch.zeros(3, 2000, 41)).shape == (3, 656, 41)


def test_transforms_of_a_network():
    x = zoo.transforms("lenet5")(Image.new("RGB", (50, 40), "white"))
    assert (tuple(x.shape), x.dtype) == ((1, 32, 32), torch.float32)
    torch.testing.assert_close(x, torch.full_like(x, 1.175))  # the paper's white ink, section II.B
    x = zoo.transforms("vgg11")(torch.full((1, 300, 400), 255, dtype=torch.uint8))
    assert x.shape == (3, 224, 224)
    network = zoo.create("vgg11", in_chans=1, device="meta")
    assert zoo.transforms(network)(Image.new("RGB", (300, 300))).shape == (1, 224, 224)
    assert zoo.transforms(torch.nn.Conv2d(1, 2, 3))(Image.new("RGB", (300, 300))).shape == (
        1,
        224,
        224,
    )
    with pytest.raises(UsageError, match="expected a name, a run folder"):
        zoo.transforms(3)


def test_preprocessing_of_any_module():
    import timm
    import torchvision

    assert preprocessing_of(torchvision.models.resnet18()) == Preprocessing()
    assert preprocessing_of(torch.nn.Linear(2, 2)) == Preprocessing()
    theirs = preprocessing_of(timm.create_model("resnet10t"))
    assert theirs.input_size == (3, 176, 176)
    assert (theirs.interpolation, theirs.crop_pct) == ("bicubic", 0.875)
    grey = preprocessing_of(timm.create_model("resnet10t", in_chans=1))
    assert (grey.input_size, len(grey.mean)) == ((1, 176, 176), 1)
    ours = zoo.create("vgg11", in_chans=1, device="meta")
    assert preprocessing_of(ours) is ours.preprocessing
    assert preprocessing_of(zoo.create("resnet18", features_only=True)) == Preprocessing()


def half(side):
    """Black image with one white half."""
    image = Image.new("L", (16, 16))
    image.paste(255, (0, 0, 8, 16) if side == "left" else (8, 0, 16, 16))
    return image


def test_small_images_are_never_mirrored_and_photos_are():
    mirrored = {}
    for augment in ("small", "photo"):
        transform = build_transform(CFG, train=True, augment=augment)
        pictures = [transform(half("left"))[0] for _ in range(40)]
        mirrored[augment] = sum(bool(x[:, 20:].mean() > x[:, :12].mean()) for x in pictures)
    assert mirrored["small"] == 0
    assert 8 < mirrored["photo"] < 32
    white = build_transform(replace(CFG, mean=(1, 1, 1)), train=True, augment="small")
    assert all(white(Image.new("L", (8, 8), 255)).abs().max() < 1e-5 for _ in range(20)), (
        "turning brings in black corners"
    )
    with pytest.raises(InputError, match="augment='flip': expected 'photo', 'inception'"):
        build_transform(CFG, train=True, augment="flip")


def test_transforms_repeat_under_a_seed_and_can_be_sent_to_workers():
    transform = pickle.loads(pickle.dumps(build_transform(CFG, train=True, augment="small")))
    pictures = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        pictures.append(transform(half("left")))
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])

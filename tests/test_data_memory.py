"""Images held in memory are those that are read each time; what is drawn for one
depends on seed, epoch and index alone.
"""

from dataclasses import replace

import numpy
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import zoo
from zoo.data import cache
from zoo.data.cache import free_memory, prepared
from zoo.data.datasets import from_dataset
from zoo.data.digits import open_digits
from zoo.data.folder import open_folder
from zoo.data.labels import first_batch
from zoo.data.order import Order, OrderedLoader
from zoo.data.pixels import PixelBatches, PixelDataset, PixelTransform, pad_crop_mirror, uniform
from zoo.errors import ZooWarning
from zoo.spec import Preprocessing

CFG = Preprocessing((3, 32, 32), mean=(0.2, 0.3, 0.4), std=(0.5, 0.6, 0.7))
SQUASHED = replace(CFG, crop_mode="squash", crop_pct=1.0)


@pytest.fixture
def photos(tmp_path):
    """A split of photos of several sizes, in colour and grey."""
    generator = numpy.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shape = (40 + number, 60 - number, 3) if number % 3 else (70, 50)
        pixels = generator.integers(0, 256, shape, dtype=numpy.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return open_folder(tmp_path / "photos", test_fraction=0.2, progress=False)


def same_items(first, second):
    assert len(first) == len(second) > 0
    for index in range(len(first)):
        torch.manual_seed(index)
        image, target = first[index]
        torch.manual_seed(index)
        other, label = second[index]
        assert target == label
        assert torch.equal(image, other)


@pytest.mark.parametrize(
    "config", [CFG, replace(CFG, input_size=(1, 24, 20), mean=(0.1,), std=(1.0,))]
)
@pytest.mark.parametrize("augment", ["none", "photo"])
def test_held_images_are_those_that_are_read(photos, config, augment):
    read = prepared(photos, config, augment, cache="off")
    held = prepared(photos, config, augment, cache="on")
    assert (read.cached, held.cached) == (False, True)
    assert isinstance(held.val, PixelDataset)
    assert isinstance(held.train, PixelDataset) == (augment == "none")
    for part in ("train", "val", "test"):
        same_items(getattr(read, part), getattr(held, part))


def test_they_are_held_where_they_fit(photos, monkeypatch):
    needed = (8 * 4 * 50 * 50 + 4 * 3 * 32 * 32) // 2  # about half of it
    for free, expected in ((40 * needed, True), (4 * needed, False)):
        monkeypatch.setattr(cache, "free_memory", lambda free=free: free)
        assert prepared(photos, CFG, "photo").cached == expected
    monkeypatch.undo()
    assert 2**20 < free_memory() < 2**50
    given = [(Image.new("L", (9, 9), 7), 0), (Image.new("L", (9, 9)), 1)] * 4
    own = from_dataset(given, None, None, val_fraction=None, seed=0)
    assert not prepared(own, CFG, "none", cache="on").cached, "it may draw at random"


def test_small_images_move_as_they_did():
    """The batch, the item, and the transform of one image after the other."""
    digits = open_digits()
    config = replace(SQUASHED, input_size=(1, 16, 16), mean=(0.5,), std=(0.3,))
    read = prepared(digits, config, "small", cache="off")
    held = prepared(digits, config, "small")
    for index in (0, 700):
        torch.manual_seed(index)
        expected, target = read.train[index]
        torch.manual_seed(index)
        item, label = held.train[index]
        assert target == label
        torch.testing.assert_close(item, expected, atol=1e-5, rtol=1e-5)
    same_items(read.val, held.val)


def test_cut_out_and_mirrored_by_hand():
    """Each draw is one of 81 places, mirrored or not."""
    data = torch.randint(1, 256, (200, 3, 8, 8), dtype=torch.uint8)
    draws = uniform(torch.arange(200), 3, 0, 1)
    found = pad_crop_mirror(data, draws)
    padded = torch.nn.functional.pad(data, (4, 4, 4, 4))
    places = set()
    for image, whole, (top, left, side) in zip(found, padded, draws.tolist(), strict=True):
        top, left, mirrored = int(9 * top), int(9 * left), side < 0.5
        expected = whole[:, top : top + 8, left : left + 8]
        assert torch.equal(image, expected.flip(2) if mirrored else expected)
        places.add((top, left, mirrored))
    assert len(places) > 100
    assert {top for top, _, _ in places} == set(range(9))


def test_what_is_drawn_depends_on_seed_epoch_and_index():
    indices = torch.arange(5000)
    base = uniform(indices, 4, 7, 3)
    assert torch.equal(uniform(indices[[4, 90]], 4, 7, 3), base[[4, 90]])
    assert base.min() >= 0
    assert base.max() < 1
    others = [uniform(indices, 4, *key) for key in ((7, 4), (8, 3), (7 + 2**32, 3), (3, 7))]
    columns = torch.cat([base, *others, base.roll(1, 0)], 1)
    assert columns.mean(0).sub(0.5).abs().max() < 0.02
    assert columns.var(0).sub(1 / 12).abs().max() < 0.005
    assert torch.corrcoef(columns.T).fill_diagonal_(0).abs().max() < 0.07  # five deviations
    assert len(columns.unique()) > 0.99 * 5000 * 20


def test_batches_are_their_examples_in_any_order():
    data = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8)
    dataset = PixelDataset(data, [n % 3 for n in range(30)], PixelTransform(SQUASHED, "cifar"))
    placed = PixelBatches(dataset, seed=5)
    order = [[(2, index) for index in part] for part in ([3, 1, 29], [7, 8])]
    loader = DataLoader(placed, batch_sampler=order, collate_fn=placed.collate, num_workers=1)
    first, second = loader
    assert first.targets.tolist() == [0, 1, 2]
    images = dataset.transform(first.data, first.draws)
    alone = dataset.batch([29], (5, 2))
    assert torch.equal(dataset.transform(alone.data, alone.draws)[0], images[2])
    later = dataset.batch([29], (5, 3))
    assert not torch.equal(later.draws, alone.draws)
    assert second.data.shape == (2, 3, 32, 32)
    plain = PixelBatches(dataset, seed=None).__getitems__(order[0])
    expected = PixelTransform(SQUASHED)(data[[3, 1, 29]])
    assert torch.equal(dataset.transform(plain.data, plain.draws), expected), "not augmented"
    images, targets = placed.collate([placed[3], placed[(1, 4)]])
    assert (images.shape, targets.tolist()) == ((2, 3, 32, 32), [0, 1])


def test_an_image_that_is_gone_when_it_is_to_be_held(photos):
    file = photos.train.images[0]
    file.write_bytes(b"")
    with pytest.warns(ZooWarning, match=f"1 images cannot be read and are skipped: .*{file.name}"):
        held = prepared(photos, CFG, "none", cache="on")
    assert len(held.train) == len(photos.train) - 1
    assert held.train.targets == photos.train.targets[1:]
    assert str(file) in held.skipped


def test_a_run_says_whether_its_images_were_held(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for wanted, found in (("auto", "on"), ("off", "off")):
        run = zoo.finetune(
            "lenet5_modern", "digits", pretrained=False, epochs=1, cache=wanted, progress=False,
            cpu=True,
        )  # fmt: skip
        assert run.config["recipe"]["cache"] == found
        assert run.history[0]["val_accuracy"] > 0.5


def test_an_ordered_loader_takes_whole_batches():
    """From any batch on, with the same draws, in the training step as in a process."""
    data = torch.randint(0, 256, (30, 3, 32, 32), dtype=torch.uint8)
    dataset = PixelDataset(data, list(range(30)), PixelTransform(SQUASHED, "cifar"))
    loader = OrderedLoader(dataset, Order(30, 8, seed=3, shuffle=True))
    batches = {}
    for start in (0, 2):
        loader.set_position(2, start)
        batches[start] = list(loader)
    for whole, later in zip(batches[0][2:], batches[2], strict=True):
        assert all(map(torch.equal, whole, later))
    numbers = torch.cat([batch.targets for batch in batches[0]])
    assert sorted(numbers.tolist()) == list(range(30))
    last = batches[0][-1]
    alone = dataset.batch(last.targets[:1].tolist(), (3, 2))
    assert torch.equal(alone.draws[0], last.draws[0])
    images, _ = first_batch(loader, (1, 2))
    assert images.shape == (2, 3, 32, 32)
    assert images.is_floating_point(), "as a network takes them"

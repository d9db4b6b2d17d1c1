"""The digest of a data set: what changes it, and what does not."""

import os
import shutil
from functools import partial

import numpy
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from zoo.data.fingerprint import fingerprint
from zoo.data.open import open_data

opened = partial(open_data, progress=False)


def test_of_a_folder_it_is_names_sizes_and_classes(digit_folder, tmp_path):
    counts = {"one": 4, "two": 4}
    folder = digit_folder("digits", counts)
    first = opened(folder).record()["fingerprint"]
    assert len(first) == 32
    assert opened(folder, seed=3, val_fraction=0.5).record()["fingerprint"] == first, "split"
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert opened(tmp_path / "elsewhere").record()["fingerprint"] == first, "moved"
    changes = (
        lambda: os.rename(folder / "one/000.png", folder / "one/009.png"),
        lambda: os.rename(folder / "one/001.png", folder / "two/001b.png"),
        lambda: os.remove(folder / "two/003.png"),
        lambda: (folder / "two/002.png").write_bytes((folder / "one/002.png").read_bytes() + b"x"),
        lambda: os.rename(folder / "two", folder / "a two"),  # the class numbers change places
    )
    seen = {first}
    for change in changes:
        change()
        seen.add(opened(folder).record()["fingerprint"])
    assert len(seen) == 1 + len(changes)


def test_of_images_and_tensors_in_memory_it_is_every_byte():
    digits = opened("digits")
    first = digits.record()["fingerprint"]
    assert first == opened("digits").record()["fingerprint"]
    digits.train.targets[0] += 1
    assert fingerprint([digits.train, digits.val]) != first
    digits.train.targets[0] -= 1
    x, y = torch.rand(10, 3, 4, 4), torch.arange(10) % 2
    whole = TensorDataset(x, y)
    parts = [Subset(whole, range(8)), DataLoader(Subset(whole, [8, 9]))]
    first = fingerprint([whole])
    assert fingerprint(parts) == fingerprint([ConcatDataset(parts[:1])]) == first
    x[9, 2, 3, 3] += 1
    assert fingerprint(parts) != first


class Held(Dataset):
    def __init__(self, **known):
        vars(self).update(known)


def test_other_sets_are_known_by_what_they_hold():
    pixels, targets = numpy.zeros((3, 8, 8, 3), numpy.uint8), [0, 1, 1]
    found = {
        fingerprint([Held(data=pixels, targets=targets)]),
        fingerprint([Held(data=pixels + 1, targets=targets)]),
        fingerprint([Held(data=torch.from_numpy(pixels), targets=targets)]),
        fingerprint([Held(samples=[("a/0.png", 0), ("b/1.png", 1)], targets=[0, 1])]),
    }
    assert len(found) == 4
    assert fingerprint([Held(targets=targets)]) == "", "it does not say what it holds"
    assert fingerprint([Held(images=[object()], targets=[0])]) == ""

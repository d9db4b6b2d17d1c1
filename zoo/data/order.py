"""The order of training examples, and what is drawn for each, as functions of (seed,
epoch, index): the same in any number of reading processes, and when a run goes on
later.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.data.datasets import ImageDataset, root_of
from zoo.data.pixels import PixelBatches, PixelDataset
from zoo.errors import DataError

Place = tuple[int, int]  # epoch and index


class Order(Sampler[list[Place]]):
    """The batches of process `rank` of `world`, as lists of (epoch, index). All
    processes together go through each example once; their parts of a batch differ by
    one example at most. `shuffle`: in another order in each epoch.

    A last batch that leaves a process fewer than two examples is left out in training
    (`shuffle`), as a batch norm cannot train on one.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if count < world:
            raise DataError(f"{count} examples for {world} processes: each needs one at least")
        self.count = count
        self.step = batch_size * world
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.epoch = 1
        self.start = 0  # batches of the epoch that are through

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        whole, rest = divmod(self.count, self.step)
        left_out = self.shuffle and whole and rest // self.world < 2
        return whole + (rest > 0 and not left_out)

    def __iter__(self) -> Iterator[list[Place]]:
        epoch, order = self.epoch, self._order(self.epoch)
        for number in range(self.start, len(self)):
            yield [(epoch, index) for index in self._part(order, number)]

    def batch(self, epoch: int, number: int) -> list[int]:
        """The examples of one batch of this process."""
        return self._part(self._order(epoch), number)

    def _order(self, epoch: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.count))
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
        order: list[int] = torch.randperm(self.count, generator=generator).tolist()
        return order

    def _part(self, order: list[int], number: int) -> list[int]:
        return order[number * self.step : (number + 1) * self.step][self.rank :: self.world]


class PlacedDataset(Dataset[Any]):
    """A data set by (epoch, index). With a `seed`, what is drawn for an example depends
    on the three alone.
    """

    def __init__(self, dataset: Any, seed: int | None) -> None:
        self.dataset = dataset
        self.seed = seed
        self.foreign = not isinstance(root_of(dataset), ImageDataset)  # may draw as it likes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: Place | int) -> Any:
        epoch, index = (0, place) if isinstance(place, int) else place
        if self.seed is None:
            return self.dataset[index]
        with drawn_from(seed_of(self.seed, epoch, index), others=self.foreign):
            return self.dataset[index]


class OrderedLoader(DataLoader[Any]):
    """Batches in an Order. `set_position` says where the next pass over the data
    begins.
    """

    def __init__(self, dataset: Any, order: Order, **options: Any) -> None:
        self.order = order
        self.names = getattr(dataset, "images", None)
        seed = order.seed if order.shuffle else None
        data: Dataset[Any] = PlacedDataset(dataset, seed)
        if isinstance(dataset, PixelDataset):
            data, options["collate_fn"] = PixelBatches(dataset, seed), PixelBatches.collate
        # with a generator of its own, it draws nothing from the process's
        super().__init__(data, batch_sampler=order, generator=torch.Generator(), **options)

    def set_position(self, epoch: int, start: int = 0) -> None:
        """The next pass is that of `epoch`, from its batch number `start` on."""
        self.order.epoch, self.order.start = epoch, start

    def describe(self, epoch: int, number: int) -> str:
        """The files, or else the indices, of the examples in a batch."""
        indices = self.order.batch(epoch, number)
        files = [self.names[index] for index in indices] if self.names else []
        if files and all(isinstance(file, Path) for file in files):
            return ", ".join(map(str, files))
        return f"numbers {', '.join(map(str, indices))}"


def seed_of(*numbers: int) -> int:
    """A seed for torch, from several numbers."""
    return int.from_bytes(blake2b(repr(numbers).encode(), digest_size=7).digest())


@contextmanager
def drawn_from(seed: int, *, others: bool = True) -> Iterator[None]:
    """Draw on the CPU from this seed, and leave the random state as it was; `others`:
    that of Python and of numpy too.
    """
    generator = torch.default_generator
    before = generator.get_state()
    if others:
        import numpy

        kept = random.getstate(), numpy.random.get_state()
        random.seed(seed)
        numpy.random.seed(seed % 2**32)
    try:
        generator.manual_seed(seed)
        yield
    finally:
        generator.set_state(before)
        if others:
            random.setstate(kept[0])
            numpy.random.set_state(kept[1])

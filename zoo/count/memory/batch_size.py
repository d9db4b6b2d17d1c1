"""Which batches a network takes, and the largest of them that fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from zoo.errors import InputError

if TYPE_CHECKING:
    from zoo.count.memory.predict import Memory

TRIED = range(1, 9)  # batches of which a network takes one, if it takes any
Result = TypeVar("Result")


class Batches(NamedTuple):
    """The batches that a network takes: `first`, and from there on every `stride`-th.
    Batch norm cannot train on one value, and some networks view images in pairs.
    """

    first: int = 1
    stride: int = 1

    def up_to(self, most: int) -> int:
        """The largest that is no larger than `most`; 0 for none."""
        return most - (most - self.first) % self.stride if most >= self.first else 0

    def __str__(self) -> str:
        if self.stride == 1:
            return f"{self.first} or more"
        return ", ".join(str(self.first + place * self.stride) for place in range(3)) + ", …"


def smallest_batch(step: Callable[[int], Result]) -> tuple[int, Result]:
    """The smallest batch that `step` takes, with what it gives for it. Raises the
    InputError of a batch of one where it takes none.
    """
    refusal = None
    for batch in TRIED:
        try:
            return batch, step(batch)
        except InputError as error:
            refusal = refusal or error
    assert refusal
    raise refusal


def possible_batches(step: Callable[[int], object], first: int) -> Batches:
    """All that `step` takes, of which `first` is the smallest."""
    for stride in range(1, first):
        try:
            step(first + stride)
            return Batches(first, stride)
        except InputError:
            pass
    return Batches(first, first)


def check_batch(step: Callable[[int], Result], batch: int) -> Result:
    """What `step` gives for a batch. Raises InputError, which says which batches are
    possible where others are.
    """
    try:
        return step(batch)
    except InputError as error:
        try:
            first, _ = smallest_batch(step)
        except InputError:
            raise error from None
        possible = possible_batches(step, first)
        if possible.up_to(batch) == batch:
            raise
        raise InputError(f"batch_size={batch}: needs {possible}: {error}") from error


class Largest(NamedTuple):
    """The largest batch that fits, 0 for none; the memory of its step, or of the
    smallest batch's where none fits; and which batches there are.
    """

    batch_size: int
    memory: Memory
    smallest: int
    possible: Batches


def largest_batch(step: Callable[[int], Memory], capacity: int, most: int | None = None) -> Largest:
    """The largest batch whose step is predicted to fit into `capacity` bytes; at most
    `most`, or the smallest that is possible; above 200 to within half a percent.

    `step` predicts the memory for a batch, and the one that is returned was predicted
    itself. Memory grows nearly linearly: so the line through the two smallest says
    about where the answer lies, and from there the interval is widened until it holds
    the answer, then halved.
    """
    first, smallest = smallest_batch(step)
    if not smallest.fits:
        return Largest(0, smallest, first, Batches(first))
    if most is not None and most <= first:
        return Largest(first, smallest, first, Batches(first))
    possible = possible_batches(step, first)

    def predicted(place: int) -> Memory:
        return step(first + place * possible.stride)

    low, best = 0, smallest
    high = None if most is None else (most - first) // possible.stride + 1
    place = max(1, (capacity - smallest.peak) // _growth(smallest, predicted(1)))
    width = max(1, place // 50)
    while high is None or high - low > max(1, low // 200):
        if high is not None and not low < place < high:
            place = (low + high) // 2
        found = predicted(place)
        if found.fits:
            low, best, place = place, found, place + width
        else:
            high, place = place, place - width
        width *= 2
    return Largest(first + low * possible.stride, best, first, possible)


def _growth(one: Memory, two: Memory) -> int:
    """About how many bytes one more batch takes; where the optimizer's step is the peak
    of small batches, what the forward pass leaves.
    """
    left = [memory.activations + memory.input_bytes for memory in (one, two)]
    return max(two.peak - one.peak, left[1] - left[0], 1)

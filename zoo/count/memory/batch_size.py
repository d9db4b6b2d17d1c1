"""The largest batch that fits."""

from __future__ import annotations

from collections.abc import Callable

from zoo.count.memory.predict import Memory


def largest_batch(step: Callable[[int], Memory], capacity: int, most: int = 2**20) -> int:
    """The largest batch whose step fits into `capacity` bytes, 0 for none; at most
    `most`; above 200 to within half a percent.

    `step` predicts the memory for a batch. It grows nearly linearly: so the line
    through batches of one and two says about where the answer lies, and from there the
    interval is widened until it holds the answer, then halved.
    """
    one = step(1)
    if not one.fits or most == 1:
        return int(bool(one.fits))
    slope = max(step(2).peak - one.peak, 1)
    low, high = 1, most + 1
    batch = min(max(2, 1 + (capacity - one.peak) // slope), most)
    width = max(1, batch // 50)
    while high - low > max(1, low // 200):
        if step(batch).fits:
            low, outward = batch, batch + width
        else:
            high, outward = batch, batch - width
        width *= 2
        batch = outward if low < outward < high and (low == 1 or high > most) else (low + high) // 2
    return low

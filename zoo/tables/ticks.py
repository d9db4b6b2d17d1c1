"""Where an axis has its marks, and how they are written."""

from __future__ import annotations

import math

FACTORS = ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))  # of powers of ten
FEW, MANY = 3, 8  # marks of an axis


def linear_ticks(low: float, high: float, most: int = MANY) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten between two values, at most
    `most` of them.
    """
    power = 10 ** math.floor(math.log10((high - low) / most))
    steps = (factor * power for factor in (1, 2, 5, 10, 20))
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = MANY) -> list[float]:
    """Round values between two positive ones for a logarithmic axis: enough to read it
    by, whether it covers many powers of ten or a part of one.
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in FACTORS:
        found = [float(f"{factor}e{power}") for power in powers for factor in factors]
        found = [value for value in found if low <= value <= high]
        if len(found) >= FEW:
            return found[:: math.ceil(len(found) / most)]
    return linear_ticks(low, high, most - 2)


def short(value: float) -> str:
    """A number with the letter of its thousands: 1.5 G, 200 M, 60 k."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g} {letter}"
    return f"{value:.4g}"

"""Which examples choose (epoch, penalty, strategy) and which are reported: a part for
validation and, on request, one to test on, drawn from the training data.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from zoo.errors import InputError, UsageError

DEFAULT_VAL_FRACTION = 0.2


@dataclass(frozen=True)
class Fractions:
    """The parts that are taken from the training data; None: not taken."""

    val: float | None
    test: float | None

    @classmethod
    def checked(
        cls,
        val_fraction: float | None,
        test_fraction: float | None,
        *,
        source: str = "the data",
        own: Collection[str] = (),
    ) -> Fractions:
        """`own`: the parts ("val", "test") that the data bring. Without one for
        validation a fifth becomes it. Raises InputError for a number that is no
        fraction, UsageError for a part that is there.
        """
        wanted = {"val": val_fraction, "test": test_fraction}
        words = {"val": "for validation", "test": "to test on"}
        for part, fraction in wanted.items():
            if fraction is None:
                continue
            if not 0 < fraction < 1:
                raise InputError(
                    f"{part}_fraction={fraction}: needs a number between 0 and 1, e.g. 0.2"
                )
            if part in own:
                raise UsageError(
                    f"{source} has its own images {words[part]}: leave {part}_fraction out"
                )
        if val_fraction is None and "val" not in own:
            val_fraction = DEFAULT_VAL_FRACTION
        if (val_fraction or 0) + (test_fraction or 0) >= 1:
            raise InputError(
                f"val_fraction={val_fraction} and test_fraction={test_fraction} leave nothing to "
                "train on"
            )
        return cls(val_fraction, test_fraction)

    @property
    def parts(self) -> int:
        """How many parts the training data become."""
        return 1 + sum(each is not None for each in (self.val, self.test))

    def divide(self, targets: Sequence[int], seed: int) -> dict[str, list[int]]:
        """Indices by part: train and those taken. Depends on the seed alone."""
        left = list(range(len(targets)))
        found: dict[str, list[int]] = {}
        taken = 0.0
        for part, fraction in (("test", self.test), ("val", self.val)):
            if fraction is None:
                continue
            own = [targets[index] for index in left]
            rest, chosen = stratified_split(own, fraction / (1 - taken), seed)
            found[part] = [left[index] for index in chosen]
            left = [left[index] for index in rest]
            taken = fraction
        return {"train": left, **found}

    def words(self, seed: int, way: str = "stratified") -> str:
        """As config.json says it; "" when nothing is taken."""
        named = ((self.val, "for validation"), (self.test, "to test on"))
        parts = [f"{100 * fraction:.3g}% {use}" for fraction, use in named if fraction is not None]
        return f"{way}, {', '.join(parts)}, seed {seed}" if parts else ""


def stratified_split(
    targets: Sequence[int], fraction: float, seed: int
) -> tuple[list[int], list[int]]:
    """Indices of what stays, and of a part of about `fraction` of each class, at least
    one and not all; together the fraction of the whole, where that allows it. Depends
    on the seed alone.
    """
    generator = random.Random(seed)
    by_class: dict[int, list[int]] = {}
    for index, target in enumerate(targets):
        by_class.setdefault(target, []).append(index)
    counts = _shares(Counter(targets), fraction)
    rest, part = [], []
    for target in sorted(by_class):
        indices = by_class[target]
        generator.shuffle(indices)
        part += indices[: counts[target]]
        rest += indices[counts[target] :]
    return sorted(rest), sorted(part)


def _shares(sizes: Counter[int], fraction: float) -> dict[int, int]:
    """Whole numbers by class that sum up to the fraction of all: those are rounded up
    that lose most by rounding down.
    """
    exact = {target: fraction * size for target, size in sorted(sizes.items())}
    counts = {target: int(share) for target, share in exact.items()}
    missing = round(fraction * sizes.total()) - sum(counts.values())
    for target in sorted(exact, key=lambda target: counts[target] - exact[target])[:missing]:
        counts[target] += 1
    return {target: min(max(count, 1), sizes[target] - 1) for target, count in counts.items()}

"""Whether a state dict is a network's, under its own key names or a peer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo import checkpoints
from zoo.weights.convert import to_ours, to_theirs

if TYPE_CHECKING:
    from torch import Tensor


def read_as(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], table: Mapping[str, str], where: str
) -> dict[str, Tensor]:
    """A state dict with a peer's keys under ours, and without a wrapper's prefix."""
    theirs = to_theirs(own, table)
    return to_ours(checkpoints.without_prefix(state, theirs, where), table)


def fits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether the names and shapes are those of a network's tensors. The number of
    classes may be another, auxiliary heads may be there or not, and old files lack
    batch counters.
    """

    def comparable(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {
            key: tuple(tensor.shape[1:] if key.startswith("head.") else tensor.shape)
            for key, tensor in tensors.items()
            if not key.startswith("aux.") and not key.endswith("num_batches_tracked")
        }

    return comparable(state) == comparable(own)

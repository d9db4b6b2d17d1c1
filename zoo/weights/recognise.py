"""State dicts in a peer's layout as ours and back, and whether one is a network's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo import checkpoints
from zoo.weights import input_norm
from zoo.weights.convert import respell, to_ours, to_theirs, with_start, without_start
from zoo.weights.operations import read_steps, write_steps

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.weights.manifest import Layout


def read_as(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], layout: Layout, where: str
) -> dict[str, Tensor]:
    """A state dict in a peer's layout as ours, without a wrapper's prefix."""
    theirs = to_theirs(own, layout.table, layout.endings)
    state = without_start(state, layout.prefix) if layout.prefix else state
    state = respell(state, layout.old_names) if layout.old_names else state
    state = checkpoints.without_prefix(state, theirs, where)
    return read_steps(layout.operations, to_ours(state, layout.table, layout.endings), own)


def write_as(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Our state dict in a peer's layout. Raises WeightsError where the peer's files
    cannot hold it.
    """
    theirs = to_theirs(write_steps(layout.operations, dict(state)), layout.table, layout.endings)
    return with_start(theirs, layout.prefix)


def in_own_precision(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floating-point tensors in the network's precision; some are published in half."""
    return {
        key: tensor.to(own[key].dtype)
        if key in own and tensor.is_floating_point() and own[key].is_floating_point()
        else tensor
        for key, tensor in state.items()
    }


def fits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Whether the names and shapes are those of a network's tensors. The number of
    classes may be another, auxiliary heads and a norm on the image may be there or not,
    and old files lack batch counters.
    """

    def comparable(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
        return {
            key: tuple(tensor.shape[1:] if key.startswith("head.") else tensor.shape)
            for key, tensor in input_norm.split(tensors, own)[0].items()
            if not key.startswith("aux.") and not key.endswith("num_batches_tracked")
        }

    return comparable(state) == comparable(own)

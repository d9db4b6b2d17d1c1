"""Networks that leave parts out at random in training: all parts kept, and how many run
on average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import ismethod

from torch import nn

from zoo.count.module_counts import ModuleCounts


def disable_drop_path(model: nn.Module) -> None:
    """Tell the layers that leave parts of the network out at random to leave out
    none.
    """
    for module in model.modules():
        disable = getattr(module, "disable_drop_path", None)
        if ismethod(disable) and not isinstance(module, nn.Dropout):
            disable()


def keep_probabilities(modules: Sequence[ModuleCounts]) -> dict[str, float]:
    """Of parts that are left out at random in training: the share of the passes in
    which they run, by path.

    They come from the method `keep_probabilities` of the module that leaves them out,
    with paths from there.
    """
    found: dict[str, float] = {}
    for counts in modules:
        offered = getattr(counts.module, "keep_probabilities", None)
        for path, share in offered().items() if ismethod(offered) else ():
            found[f"{counts.path}.{path}" if counts.path else path] = share
    return found


def expected_macs(modules: Sequence[ModuleCounts], probabilities: Mapping[str, float]) -> float:
    """The mean multiply-adds of a forward pass in training, from the counts with every
    part and the probabilities of keeping them.
    """
    whole, *others = modules
    inside: dict[str, int] = {}
    for counts in others:
        parent = counts.path.rpartition(".")[0]
        inside[parent] = inside.get(parent, 0) + counts.forward.macs
    weights = {"": 1.0}
    total = float(whole.forward.macs - inside.get("", 0))
    for counts in others:
        parent = counts.path.rpartition(".")[0]
        weights[counts.path] = weights[parent] * probabilities.get(counts.path, 1.0)
        total += weights[counts.path] * (counts.forward.macs - inside.get(counts.path, 0))
    return total

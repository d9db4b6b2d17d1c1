"""Frozen layer groups: without gradients, and in evaluation mode whatever is called."""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from zoo.count.meta import unwrapped
from zoo.errors import UsageError, nearest
from zoo.transfer.groups import HEAD, layer_groups, name_of, on_the_way


class StayInEvaluation:
    """Stands in for `train` in a frozen module: batch norm keeps its statistics, and
    dropout stays off, so that an image has the same features each time.

    An attribute of the module itself, and no hook or subclass: it acts as soon as
    anyone calls `.train()` on the module or on what holds it, a copy gets its own,
    state dicts and types stay as they were, and a forward pass does nothing more. It
    refers to its module weakly, as a circle would keep the memory of both until the
    next garbage collection.
    """

    def __init__(self, module: nn.Module, parameters: list[str]) -> None:
        self.module = weakref.ref(module)
        self.parameters = parameters  # of the module itself, which had a gradient before

    def __call__(self, mode: bool = True) -> nn.Module | None:
        module = self.module()
        if module is not None:
            type(module).train(module, False)
        return module

    def __reduce__(self) -> tuple[Any, ...]:
        """In a copy and after unpickling: of the module there."""
        return StayInEvaluation, (self.module(), self.parameters)


def freeze_groups(model: nn.Module, until: str | None = None, last: int | None = None) -> None:
    """Freeze the groups up to `until`, or all but the `last` ones; see `zoo.freeze`."""
    if isinstance(model, DistributedDataParallel):
        raise UsageError(
            "freeze a network before it is wrapped: DistributedDataParallel waits for the "
            "gradients of all parameters that had one then"
        )
    inner = unwrapped(model)
    groups = layer_groups(inner)
    count = _count(name_of(inner), list(groups), until, last)
    _freeze(inner, list(groups.values()), count)
    model.train(model.training)


def unfreeze_groups(model: nn.Module) -> None:
    """Take back all that `freeze_groups` did."""
    for module in unwrapped(model).modules():
        stays = vars(module).get("train")
        if isinstance(stays, StayInEvaluation):
            del vars(module)["train"]
            for name in stays.parameters:
                getattr(module, name).requires_grad_(True)
    model.train(model.training)


def _count(kind: str, names: list[str], until: str | None, last: int | None) -> int:
    """How many groups are frozen."""
    shown = ", ".join(names)
    if last is not None:
        if until is not None:
            raise UsageError(f"until={until!r} and last={last} both say what is frozen: give one")
        if isinstance(last, bool) or not isinstance(last, int) or not 1 <= last <= len(names):
            raise UsageError(f"last={last!r}: {kind} has {len(names)} layer groups ({shown})")
        return len(names) - last
    if until is None:
        if names[-1] != HEAD:
            raise UsageError(
                f"{kind} has no head that could be trained: until=… names the last group to "
                f"freeze, one of {shown}"
            )
        return len(names) - 1
    if until == HEAD:
        raise UsageError("the head is never frozen: leave out until=… to freeze all but the head")
    if until not in names:
        near = nearest(str(until), names, f"its groups: {shown}")
        raise UsageError(f"{kind} has no layer group {until!r}{near}")
    return names.index(until) + 1


def _freeze(model: nn.Module, groups: list[nn.Module], count: int) -> None:
    """Freeze the first `count` groups, and put in evaluation mode what holds no other
    parameters, and what holds none and comes before the first layer that is trained.
    """
    held = {id(each) for group in groups[:count] for each in group.parameters()}
    trained = {id(each) for group in groups[count:] for each in on_the_way(group)}
    before = count > 0
    for module in model.modules():
        own = dict(module.named_parameters(recurse=False))
        before = before and not any(id(each) in trained for each in own.values())
        inside = [id(each) for each in module.parameters()]
        if held.issuperset(inside) if inside else before:
            _freeze_module(module, own)


def _freeze_module(module: nn.Module, own: dict[str, nn.Parameter]) -> None:
    earlier = vars(module).get("train")
    names = earlier.parameters if isinstance(earlier, StayInEvaluation) else []
    names = [*names, *(name for name, each in own.items() if each.requires_grad)]
    for parameter in own.values():
        parameter.requires_grad_(False).grad = None
    vars(module)["train"] = StayInEvaluation(module, names)

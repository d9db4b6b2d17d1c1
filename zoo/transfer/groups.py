"""The layer groups of any module, in order from input to head: what freezing, learning
rates by group and probes go by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.pooling import _AvgPoolNd, _MaxPoolNd

from zoo.count.meta import unwrapped
from zoo.errors import UsageError

HEAD = "head"
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
POOLS = (_MaxPoolNd, _AvgPoolNd)
MODEL = "."  # the path of the model itself
WRAPPER_SHARE = 0.9  # of the body's parameters, from which on a module is taken apart
# parameters that transformers hold outside of their layers, next to the input
EMBEDDINGS = ("cls_token", "class_token", "dist_token", "pos_embed", "pos_embedding", "reg_token")
OWN_GROUPS = "give the model a method layer_groups() that returns its modules by name, in order"

Parts = list[tuple[str, nn.Module]]


class AuxiliaryHeads(nn.ModuleList):
    """Heads for training only, which are part of the group of the head."""


def layer_groups(model: nn.Module) -> dict[str, nn.Module]:
    """The groups by name, each parameter in exactly one. The last one is "head" unless
    the model has no head, or none with parameters.

    A model's own `layer_groups()` says them; any other is taken apart by its modules,
    in the order in which they were registered: the stages of timm's and torchvision's
    networks, the children of others. Several modules that make one group are in a
    ModuleList, in that order. A group of norms alone belongs to the one before it,
    auxiliary heads to the head.

    Raises UsageError where the order cannot be told, or a parameter is in two groups.
    """
    model = unwrapped(model)
    if next(model.parameters(), None) is None:
        raise UsageError(f"{name_of(model)} has no parameters, so no layer groups")
    own = getattr(model, "layer_groups", None)
    groups = _joined(own() if callable(own) else _by_structure(model))
    _check(model, groups)
    if type(model).__module__.startswith("timm.") and hasattr(model, "group_matcher"):
        _check_order(model, groups)
    return groups


def output_module(group: nn.Module) -> nn.Module:
    """The module whose output is that of a group: of several the last."""
    return output_module(group[-1]) if isinstance(group, nn.ModuleList) and len(group) else group


def name_of(model: nn.Module) -> str:
    """In messages: the name that it was created by, another model's class."""
    return str(getattr(model, "architecture", type(model).__name__))


def on_the_way(group: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters of a group without those of auxiliary heads."""
    parts = group if type(group) is nn.ModuleList else [group]
    for part in parts:
        if not isinstance(part, AuxiliaryHeads):
            yield from part.parameters()


# --------------------------------------------------------- groups that belong together


def _joined(groups: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Norms with the group before them, auxiliary heads with the head."""
    found: dict[str, nn.Module] = {}
    auxiliary = []
    for name, group in groups.items():
        if name.lower().startswith("aux") and HEAD in groups:
            auxiliary.append(group)
        elif found and name != HEAD and _only_vectors(group):
            last = next(reversed(found))
            found[last] = _together(found[last], group)
        else:
            found[name] = group
    if auxiliary:
        found[HEAD] = _together(AuxiliaryHeads(auxiliary), found[HEAD])
    return found


def _only_vectors(group: nn.Module) -> bool:
    """Whether a group has no weights but those of norms and scales."""
    return all(each.ndim < 2 for each in group.parameters())


def _together(*groups: nn.Module) -> nn.Module:
    """One module is itself, several are a list of them."""
    modules: list[nn.Module] = []
    for group in groups:
        modules += group if type(group) is nn.ModuleList else [group]
    return modules[0] if len(modules) == 1 else nn.ModuleList(modules)


def _check(model: nn.Module, groups: Mapping[str, nn.Module]) -> None:
    """Raise UsageError unless each parameter is in exactly one group."""
    kind = name_of(model)
    times = Counter(id(each) for group in groups.values() for each in group.parameters())
    for name, parameter in model.named_parameters():
        if times[id(parameter)] != 1:
            where = [key for key, group in groups.items() if _holds(group, {id(parameter)})]
            raise UsageError(
                f"{kind}: {name} is in {' and '.join(where) or 'none'} of its layer groups: each "
                "parameter must be in one"
            )


def _check_order(model: nn.Module, groups: Mapping[str, nn.Module]) -> None:
    """Raise UsageError where timm says that the weights come in another order."""
    from timm.models import group_parameters

    try:
        matcher = model.group_matcher(coarse=True)  # type: ignore[operator]
    except AssertionError:  # of networks without coarse groups
        return
    place = group_parameters(model, matcher, reverse=True)
    names = {id(each): name for name, each in model.named_parameters()}
    reached = 0
    for name, group in groups.items():
        places = [place[names[id(each)]] for each in group.parameters() if each.ndim > 1]
        if places and min(places) < reached:
            raise UsageError(
                f"{name_of(model)}: {name} is registered after layers that it comes before: "
                f"{OWN_GROUPS}"
            )
        reached = max(places, default=reached)


def _holds(module: nn.Module, parameters: set[int]) -> bool:
    return any(id(each) in parameters for each in module.parameters())


# --------------------------------------------------------------------- by the structure


def _by_structure(model: nn.Module) -> dict[str, nn.Module]:
    classifiers = _classifiers(model)
    parts = _parts(model, classifiers)
    embeddings = [part for _, part in parts if isinstance(part, nn.ParameterList)]
    parts = [(path, part) for path, part in parts if not isinstance(part, nn.ParameterList)]
    heads = [part for _, part in parts if part in (classifiers or ())]
    groups = _grouped([(path, part) for path, part in parts if part not in heads])
    if classifiers is None and groups:
        heads = [groups.pop()[1]]
    if embeddings and groups:
        groups[0] = groups[0][0], _together(*embeddings, groups[0][1])
    named = dict(
        zip(_short([name for name, _ in groups]), (part for _, part in groups), strict=True)
    )
    return {**named, HEAD: _together(*heads)} if heads else named


def _classifiers(model: nn.Module) -> list[nn.Module] | None:
    """The last layers that a model names, as timm's do; [] for one that has none, None
    where the last group is taken for it.
    """
    get = getattr(model, "get_classifier", None)
    if not callable(get):
        return [] if hasattr(model, "feature_info") else None
    found: Any = get()
    several = found if isinstance(found, (tuple, list)) else [found]
    return [each for each in several if _size(each)]


def _parts(model: nn.Module, classifiers: list[nn.Module] | None) -> Parts:
    """The modules that groups are made of, with those that hold no parameters."""
    children = [child for child in model.children() if _size(child)]
    if not children:
        return [("", model)]
    heads = children[-1:] if classifiers is None and len(children) > 1 else classifiers or []
    body = _size(model) - sum(map(_size, heads))
    named = {id(each) for head in classifiers or () for each in head.parameters()}
    return list(_Wrappers(name_of(model), heads, named, body).open(model, ""))


@dataclass(frozen=True)
class _Wrappers:
    """What only wraps others, and is taken apart."""

    kind: str  # of the model, in messages
    heads: Sequence[nn.Module]
    named: set[int]  # the parameters of the classifier that the model names
    body: int  # parameters but for those of the head

    def open(self, module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
        for name, parameter in module.named_parameters(recurse=False):
            if name not in EMBEDDINGS:
                raise UsageError(
                    f"{self.kind}: {prefix}{name} lies outside of its layers, and where between "
                    f"input and head it belongs cannot be told: {OWN_GROUPS}"
                )
            yield prefix + name, nn.ParameterList([parameter])
        once = dict(module.named_children())
        for name, child in module._modules.items():
            if child is None or (name not in once and _size(child)):
                continue  # a pool may stand in several places
            if self.is_one(child, top=not prefix):
                yield from self.open(child, f"{prefix}{name}.")
            else:
                yield prefix + name, child

    def is_one(self, child: nn.Module, top: bool) -> bool:
        if self.named and child in self.heads:
            return False
        if _holds(child, self.named):
            return True
        if top and type(child) in CONTAINERS and _several_groups(child):
            return True
        wraps = any(isinstance(each, CONTAINERS) for each in (child, *child.children()))
        return wraps and child not in self.heads and _size(child) > WRAPPER_SHARE * self.body


def _several_groups(container: nn.Module) -> bool:
    """Whether a container holds several layers or stages, not a row of like blocks as a
    stage does, nor one layer with what belongs to it.
    """
    kinds = {type(child) for child in container.children()}
    layers = [child for child in container.children() if _size(child) and not _only_vectors(child)]
    return len(layers) > 1 and (len(kinds) > 1 or issubclass(kinds.pop(), CONTAINERS))


def _grouped(parts: Parts) -> Parts:
    """Parts joined to groups: those between the pools of a sequence, and a layer with
    the parameterless ones behind it.
    """
    pools = Counter(_parent(path) for path, part in parts if isinstance(part, POOLS))
    staged = {parent for parent, count in pools.items() if count > 1}
    groups: list[tuple[str, list[nn.Module]]] = []
    stages, inside = 0, ""  # the sequence whose stage is not complete
    for path, part in parts:
        parent = _parent(path)
        begins = parent in staged and (pools[parent] > 0 or parent != MODEL)
        if inside == parent:
            groups[-1][1].append(part)
        elif begins and _size(part):
            stages, inside = stages + 1, parent
            groups.append((f"stage{stages}", [part]))
        elif _size(part):
            groups.append((path, [part]))
        elif groups and not any(groups[-1][1][-1].children()):
            groups[-1][1].append(part)
        if isinstance(part, POOLS):
            inside = ""
            pools[parent] -= 1
    return [(name, _together(*members)) for name, members in groups]


def _parent(path: str) -> str:
    """The path of the module that a part is in."""
    return path.rpartition(".")[0] or MODEL


def _short(paths: list[str]) -> list[str]:
    """The last words of paths; whole paths where these are numbers or not unique."""
    words = [path.rpartition(".")[2] for path in paths]
    return [
        path if word.isdigit() or words.count(word) > 1 else word
        for path, word in zip(paths, words, strict=True)
    ]


def _size(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())

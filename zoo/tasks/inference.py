"""A trained network made faster to use, without other answers."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from zoo.errors import UsageError


def for_inference(
    model: nn.Module, *, fold: bool = False, channels_last: bool = False
) -> nn.Module:
    """A copy in evaluation mode. `fold`: each batch norm directly behind a convolution
    becomes part of it; `channels_last`: the convolutions compute in NHWC. The outputs
    are the same within rounding.

    Raises UsageError where what follows what cannot be told: a network whose forward
    depends on its values.
    """
    found = deepcopy(model).eval()
    if fold:
        for before, behind in foldable(found):
            convolution, norm = found.get_submodule(before), found.get_submodule(behind)
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(norm, nn.BatchNorm2d)
            found.set_submodule(before, fuse_conv_bn_eval(convolution, norm))
            found.set_submodule(behind, nn.Identity())
    return found.to(memory_format=torch.channels_last) if channels_last else found


def foldable(model: nn.Module) -> list[tuple[str, str]]:
    """The names of convolutions and of the batch norms that alone take their outputs,
    each computed once in a pass.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:  # whatever the network's own code raises
        raise UsageError(
            f"{type(model).__name__}: batch norms cannot be folded, as its forward cannot be traced"
        ) from error
    modules = dict(model.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or type(modules[node.target]) is not nn.BatchNorm2d:
            continue
        norm, before = modules[node.target], node.args[0]
        if before.op != "call_module" or type(modules[before.target]) is not nn.Conv2d:
            continue
        once = calls[node.target] == calls[before.target] == 1
        if once and len(before.users) == 1 and norm.track_running_stats:
            found.append((before.target, node.target))
    return found

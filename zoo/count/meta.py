"""Modules and inputs on the meta device: shapes without numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map_only

from zoo.count.torch_internals import compiled_module
from zoo.errors import UsageError

META = torch.device("meta")


def on_meta(value: Any) -> Any:
    """`value` with every tensor in it (nested tuples, lists and dicts) replaced by one
    of its shape on the meta device.

    The lengths of a packed sequence stay: they are sizes, not data.
    """
    if isinstance(value, PackedSequence):
        return PackedSequence(_meta_tensor(value.data), *value[1:])
    if type(value) in (tuple, list):
        return type(value)(map(on_meta, value))
    if type(value) is dict:
        return {key: on_meta(part) for key, part in value.items()}
    return tree_map_only(Tensor, _meta_tensor, value)


def _meta_tensor(tensor: Tensor) -> Tensor:
    return _made_anew(tensor, META, lambda tensor: torch.empty_like(tensor, device=META))


def _made_anew(tensor: Tensor, device: torch.device, make: Callable[[Tensor], Tensor]) -> Tensor:
    """What `make` gives for a tensor, as a parameter where the tensor is one."""
    if is_lazy(tensor):  # it has no shape before the first forward pass
        lazy: Any = type(tensor)
        return lazy(tensor.requires_grad, device, tensor.dtype)
    made = make(tensor)
    return nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else made


def copy_on_meta(model: nn.Module) -> nn.Module:
    """A copy of the model whose tensors are on the meta device, shared ones still
    shared; no numbers are copied.

    A copy, because a forward pass may change more than tensors: attributes, lists,
    flags. A compiled or wrapped model is unwrapped. Raises UsageError for a model that
    holds something that cannot be copied.
    """
    return _copy(model, _meta_tensor)


def copy_of_zeros(model: nn.Module) -> nn.Module:
    """The same with zeros on the CPU."""
    cpu = torch.device("cpu")

    def zeros(tensor: Tensor) -> Tensor:
        return _made_anew(tensor, cpu, lambda tensor: torch.zeros_like(tensor, device=cpu))

    return _copy(model, zeros)


def copy_of_numbers(model: nn.Module) -> nn.Module:
    """The same with the model's own numbers, on its device."""

    def same(tensor: Tensor) -> Tensor:
        return _made_anew(tensor, tensor.device, lambda tensor: tensor.detach().clone())

    return _copy(model, same)


def _copy(model: nn.Module, copy_tensor: Callable[[Tensor], Tensor]) -> nn.Module:
    model = unwrapped(model)
    held = [tensor for module in model.modules() for tensor in tensors(vars(module))]
    memo = {id(tensor): copy_tensor(tensor) for tensor in held}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        kind = type(model).__name__
        raise UsageError(
            f"{kind} cannot be copied to be counted: {type(error).__name__}: {error}"
        ) from error


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        elif (inside := compiled_module(model)) is not None:
            model = inside
        else:
            return model


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))


def shapes(value: Any) -> tuple[Any, ...]:
    """The shape of a tensor; of anything nested the tuple of its tensors' shapes."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return tuple(tuple(tensor.shape) for tensor in tensors(value))

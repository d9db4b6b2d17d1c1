"""Modules and inputs on the meta device: shapes without numbers."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_map_only

from zoo.count.host_values import remember
from zoo.count.torch_internals import compiled_module, module_hooks, storage_address
from zoo.errors import InputError, UsageError, warn

META = torch.device("meta")
Found = TypeVar("Found")
NO_RECORDS = (  # what is never looked into for tensors
    *(bool, int, float, complex, str, bytes, type(None), type),
    *(torch.dtype, torch.device, Tensor, nn.Module, ModuleType, FunctionType, MethodType),
)


def on_meta(value: Any) -> Any:
    """`value` with every tensor in it (nested tuples, lists and dicts) replaced by one
    of its shape on the meta device.

    It is for the arguments of an operator; `inputs_on_meta` is for those of a network.
    """
    if type(value) in (tuple, list):
        return type(value)(map(on_meta, value))
    if type(value) is dict:
        return {key: on_meta(part) for key, part in value.items()}
    return tree_map_only(Tensor, _meta_tensor, value)


def inputs_on_meta(inputs: Any) -> Any:
    """A copy of a network's inputs, whatever structure holds the tensors, with each of
    them on the meta device. One that is given twice stays one, views of one storage
    stay so, and an expanded one is no larger than it was. Integers and booleans
    remember their values: they are lengths and masks.

    The lengths of a packed sequence stay: they are sizes, not data.
    """
    memo = {
        id(part): part
        for packed in _find(inputs, PackedSequence)
        for part in packed[1:]
        if part is not None
    }
    storages: dict[int, list[Tensor]] = {}
    for tensor in tensors(inputs):
        if id(tensor) in memo:
            continue
        plain = type(tensor) in (Tensor, nn.Parameter) and not tensor.is_quantized
        if plain and tensor.layout is torch.strided:
            address = storage_address(tensor.untyped_storage())
            storages.setdefault(address, []).append(tensor)
        elif tensor.is_quantized:
            raise InputError("inputs= holds a quantized tensor, which has no shape without numbers")
        else:
            memo[id(tensor)] = _remembering(tensor)
    for views in storages.values():
        memo |= _views_on_meta(views)
    return copy_with(inputs, memo)


def _views_on_meta(views: list[Tensor]) -> dict[int, Tensor]:
    """Tensors of one storage on the meta device, by identity, in a storage that reaches
    from the first of their bytes to the last.
    """
    begins = [view.storage_offset() * view.itemsize for view in views]
    ends = [begin + _span(view) for begin, view in zip(begins, views, strict=True)]
    first = min(begins) - min(begins) % max(view.itemsize for view in views)
    base = torch.empty(max(ends) - first, dtype=torch.uint8, device=META).untyped_storage()
    made = {}
    for view, begin in zip(views, begins, strict=True):
        empty = torch.empty(0, dtype=view.dtype, device=META)
        offset = (begin - first) // view.itemsize
        tensor = remember(empty.set_(base, offset, view.shape, view.stride()), view)
        made[id(view)] = nn.Parameter(tensor) if isinstance(view, nn.Parameter) else tensor
    return made


def _span(tensor: Tensor) -> int:
    """Bytes from a tensor's first value to the end of its last."""
    if not tensor.numel():
        return 0
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return (1 + sum((size - 1) * stride for size, stride in steps)) * tensor.itemsize


def copy_with(inputs: Any, memo: dict[int, Any]) -> Any:
    """A copy of a network's inputs in which other tensors stand for its tensors, by
    their identity; they require a gradient where those did.

    Raises UsageError for something that cannot be copied.
    """
    for tensor in tensors(inputs):
        if tensor.is_leaf and tensor.requires_grad:
            memo[id(tensor)].requires_grad_()
    try:
        return copy.deepcopy(inputs, memo)
    except Exception as error:
        raise UsageError(
            f"inputs= cannot be copied to be counted: {type(error).__name__}: {error}"
        ) from error


def _meta_tensor(tensor: Tensor) -> Tensor:
    return _made_anew(tensor, META, lambda tensor: torch.empty_like(tensor, device=META))


def _remembering(tensor: Tensor) -> Tensor:
    return remember(_meta_tensor(tensor), tensor)


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
    flags. A compiled or wrapped model is unwrapped, and hooks of the user's own, which
    run too, are said. Raises UsageError for a model that holds something that cannot be
    copied.
    """
    copied = _copy(model, _remembering)
    for path, module in copied.named_modules():
        if any(map(_is_users, module_hooks(module))):
            place = f"{type(copied).__name__}, module {path}" if path else type(copied).__name__
            warn(f"{place} has a hook, which runs too: it sees shapes without numbers")
            break
    return copied


def _is_users(hook: Any) -> bool:
    """Whether a hook is none of torch's own, as weight_norm has them."""
    owner = getattr(getattr(hook, "func", hook), "__module__", None) or ""
    return not owner.startswith("torch.")


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
        copied = copy.deepcopy(model, memo)
        for module in copied.modules():
            if isinstance(module, torch.jit.ScriptModule):  # its tensors are no attributes
                for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                    if tensor is not None:
                        made = copy_tensor(tensor).requires_grad_(tensor.requires_grad)
                        setattr(module, name, made)
        return copied
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
    """The tensors in nested collections, dataclasses, and objects with attributes, but
    not those of modules.
    """
    return _find(value, Tensor)


def _find(value: Any, kind: type[Found], known: set[int] | None = None) -> Iterator[Found]:
    if isinstance(value, kind):
        yield value
        return
    parts: Iterable[Any] = ()
    if isinstance(value, (tuple, list, set, frozenset, deque)):
        parts = value
    elif isinstance(value, Mapping):
        parts = list(value.values())
    elif not isinstance(value, NO_RECORDS):
        known = set() if known is None else known
        if id(value) not in known:  # objects may refer to each other
            known.add(id(value))
            parts = _attributes(value)
    for part in parts:
        yield from _find(part, kind, known)


def _attributes(value: Any) -> list[Any]:
    if is_dataclass(value):
        return [getattr(value, field.name, None) for field in fields(value)]
    return list(getattr(value, "__dict__", {}).values())


def shapes(value: Any) -> tuple[Any, ...]:
    """The shape of a tensor; of anything nested the tuple of its tensors' shapes."""
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return tuple(tuple(tensor.shape) for tensor in tensors(value))

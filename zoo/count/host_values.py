"""Values that are known although a pass has shapes only: of tensors made on the host,
of integers and booleans in the inputs and buffers, and of what follows from them
alone.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from zoo.count.torch_internals import asking_module, run_operator, schema, storages

MAX_VALUES = 2**18  # of one tensor; larger ones are not followed
CPU = torch.device("cpu")
READ = torch.ops.aten._local_scalar_dense.default  # a tensor's value as a Python number
MASKED_SELECT = torch.ops.aten.masked_select.default
# Modules of torch that read a value only to check it, or to choose between ways of the
# same cost: no count depends on it.
VALUE_IS_IRRELEVANT = {
    "torch.distributions.distribution",
    "torch.distributions.uniform",
    "torch.nn.modules.batchnorm",  # momentum=None: a mean of all batches
    "torch.optim._adafactor",  # sizes of parameters and updates
    "torch.optim.asgd",  # the share of the average
    "torch.optim.optimizer",  # numbers of steps
    "torch.nn.modules.transformer",  # whether a mask is the causal one
}
INDEXED = {  # where a mask stands for the places that it has
    f"aten::{name}"
    for name in ("index", "index_put", "_index_put_impl", "_unsafe_index", "_unsafe_index_put")
}
READERS = {"tolist", "numpy", "__array__"}  # methods that no operator stands for
MAKERS = {"tensor", "as_tensor", "asarray"}  # the same: from Python's numbers


class NeedsValues(Exception):
    """Something asks for values that only data have."""


def remember(tensor: Tensor, values: Tensor) -> Tensor:
    """The tensor, on the meta device, with these values, which are copied."""
    if not values.is_meta and not values.dtype.is_floating_point and not values.dtype.is_complex:
        plain = type(values) in (Tensor, nn.Parameter) and values.layout is torch.strided
        if plain and values.numel() <= MAX_VALUES:
            _attach(tensor, values.detach().to(CPU, copy=True))
    return tensor


def _attach(tensor: Any, values: Tensor) -> None:
    tensor.zoo_values = values


def known(tensor: Tensor) -> Tensor | None:
    """A tensor's values, on the CPU; None where they depend on data."""
    values: Tensor | None = getattr(tensor, "zoo_values", None) if tensor.is_meta else tensor
    if values is None or any(hasattr(storage, "zoo_lost") for storage in storages(values)):
        return None
    return values


def forget(tensor: Tensor) -> None:
    """Data was written into a tensor: its values, and those of its views, are no longer
    known.
    """
    values = known(tensor)
    for storage in storages(values) if values is not None else ():
        storage.zoo_lost = True


def compute(func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
    """What an operator gives for known values; None where it depends on others, or on
    chance.
    """
    for tensor in inputs:
        if known(tensor) is None:
            break
    else:
        if torch.Tag.nondeterministic_seeded not in func.tags and all(
            tensor.numel() <= MAX_VALUES for tensor in inputs
        ):
            args, kwargs = tree_map_only(Tensor, known, (args, kwargs))
            if kwargs.get("device") is not None:
                kwargs = {**kwargs, "device": CPU}
            with suppress(Exception):  # on the meta device the operator says what is wrong
                return run_operator(func, args, kwargs)
    if schema(func).is_mutable:
        for tensor in inputs[:1]:
            forget(tensor)
    return None


def attach_all(output: Any, values: Any) -> None:
    """Attach what was computed to what has the shapes of it."""
    if isinstance(output, Tensor):
        if output.is_meta and output.numel() <= MAX_VALUES and isinstance(values, Tensor):
            _attach(output, values)
    elif isinstance(output, (tuple, list)):
        for part, value in zip(output, values, strict=True):
            attach_all(part, value)


def places_of_masks(args: Any) -> Any:
    """The arguments of an indexing operator with the places in a mask for the mask."""
    x, indices, *others = args
    found: list[Tensor | None] = []
    for index in indices:
        values = None
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            values = known(index)
        if values is None:
            found.append(index)
            continue
        for places in values.nonzero().unbind(1):
            place = torch.empty_like(places, device=x.device)
            attach_all(place, places)
            found.append(place)
    return (x, found, *others)


def depends_on_values(func: Any) -> bool:
    """Whether an operator on the same shapes may give others; indices are places
    here.
    """
    return torch.Tag.dynamic_output_shape in func.tags and schema(func).name not in INDEXED


def run_with(values: Any, func: Any, args: Any, kwargs: Any) -> Any:
    """An operator's output on the meta device, with the shape of its known `values`
    where that is not to be had otherwise.
    """
    if values is not None and depends_on_values(func):
        return tree_map_only(Tensor, lambda made: torch.empty_like(made, device="meta"), values)
    if func is MASKED_SELECT and args[0].is_meta and (mask := known(args[1])) is not None:
        shape = torch.broadcast_shapes(args[0].shape, mask.shape)  # type: ignore[no-untyped-call]
        return args[0].new_empty(int(mask.expand(shape).sum()))
    return run_operator(func, args, kwargs)


def read(tensor: Tensor, func: Any = READ) -> Any:
    """A tensor's value as a Python number."""
    values = known(tensor)
    if values is not None:
        return run_operator(func, (values,), {})
    if asking_module() in VALUE_IS_IRRELEVANT:
        return True if tensor.dtype is torch.bool else 1
    raise NeedsValues("the value of a tensor is asked for, as .item(), int() and if do")


def read_all(tensor: Tensor, what: str) -> Tensor:
    """A tensor's values, for something that needs them."""
    values = known(tensor)
    if values is None:
        raise NeedsValues(f"the values of a tensor are asked for, {what}")
    return values


class HostFunctions(TorchFunctionMode):
    """Follows known values through functions that no operator stands for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in READERS and isinstance(args[0], Tensor):
            args = (read_all(args[0], f"by .{name}()"), *args[1:])
        output = run_operator(func, args, kwargs)
        if name in MAKERS and output.is_meta and not isinstance(args[0], Tensor):
            attach_all(output, run_operator(func, args, {**kwargs, "device": CPU}))
        return output

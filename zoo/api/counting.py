"""Counting networks, and holding them to the claims of their papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.networks import create
from zoo.errors import UsageError, check_choice, note

if TYPE_CHECKING:
    from torch import nn

    from zoo.count.report import Profile
    from zoo.tables.verify import Verification


def profile(
    model: str | nn.Module,
    input_size: int | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    mode: str = "eval",
    **fields: Any,
) -> Profile:
    """Parameters, MACs and FLOPs of one forward pass, in total and per module, without running numbers.

    `mode`: "eval", a forward pass in evaluation mode, or "train", a forward and backward pass in training mode.

    `model` is a name (built with the given `fields`) or any module, which is left exactly as it is. The input is the network's own,
    or images of `input_size`: the side in pixels or (C, H, W); or `inputs`: a tensor, a tuple of positional arguments or a dict of
    keyword arguments, of which only the shapes count. Operators that nothing is known of are noted and listed in `uncounted`.

    Raises UsageError when the input of a module is not known, and InputError when the model does not take it.
    """
    import torch

    check_choice("zoo.profile", "mode", mode, ("eval", "train"))
    with torch.inference_mode(False):
        network, name = to_count(model, fields)
        return _count(network, name, *example(model, network, input_size, batch_size, inputs, fields), mode)


def to_count(model: str | nn.Module, fields: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """A network on the meta device, ours to use up, and its name."""
    from zoo.count.meta import copy_on_meta, unwrapped

    if isinstance(model, str):
        return create(model, device="meta", **fields), model
    if fields:
        raise UsageError(f"{', '.join(fields)}: fields are for a network that is built by name, not for a module")
    model = unwrapped(model)
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    return copy_on_meta(model), name or type(model).__name__


def example(
    model: str | nn.Module,
    network: nn.Module,
    input_size: int | tuple[int, ...] | None,
    batch_size: int,
    inputs: Any,
    fields: Mapping[str, Any],
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of one forward pass, on the meta device."""
    if inputs is None:
        return _image_batch(model, network, input_size, batch_size, fields), {}
    if input_size is not None or batch_size != 1:
        raise UsageError("inputs= has its own sizes: leave out input_size and batch_size")
    return _arguments(inputs)


def _image_batch(
    model: str | nn.Module, network: nn.Module, input_size: int | tuple[int, ...] | None, batch_size: int, fields: Mapping[str, Any]
) -> tuple[Any, ...]:
    import torch

    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size}: needs one example or more")
    if isinstance(model, str) and input_size is None:
        variant = registry.variant(model.partition(".")[0])
        return variant.example_inputs(batch_size, device="meta", in_chans=fields.get("in_chans", 0))
    own = (getattr(network, "pretrained_cfg", None) or {}).get("input_size")
    size = own if input_size is None else input_size
    if size is None:
        raise UsageError(f"the input of {type(network).__name__} is not known: give input_size=(C, H, W) or inputs=")
    if isinstance(size, int):
        size = (own[0] if own else 3, size, size)
    if not size or min(size) < 1:
        raise UsageError(f"input_size={size}: needs the side in pixels or (C, H, W), each 1 or more")
    dtype = next((parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()), None)
    return (torch.empty(batch_size, *size, device="meta", dtype=dtype),)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    from torch import Tensor

    from zoo.count.meta import on_meta

    if isinstance(inputs, Mapping):
        return (), on_meta(dict(inputs))
    if isinstance(inputs, (Tensor, tuple)):
        return on_meta(inputs if isinstance(inputs, tuple) else (inputs,)), {}
    raise UsageError(f"inputs= is a {type(inputs).__name__}: give a tensor, a tuple of arguments or a dict of keyword arguments")


def _count(network: nn.Module, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], mode: str = "eval") -> Profile:
    from zoo.count import report

    counted = report.profile(network, name, args, kwargs, mode)
    if counted.uncounted:
        missing = ", ".join(f"{operator} (called {calls}x)" for operator, calls in counted.uncounted.items())
        note(f"{name}: the counts lack these operators, which are not known: {missing}")
    return counted


def verify(name: str) -> Verification:
    """Each claim of a network's paper: printed, computed, whether they agree or the reason why not; and the exact counts.

    Raises UnknownModelError, and ZooError for a claim that cannot be computed.
    """
    import torch

    from zoo.tables.verify import verify as check

    variant = registry.variant(name)
    with torch.inference_mode(False), torch.no_grad():
        network, _ = to_count(name, {})
        counted = _count(network, name, variant.example_inputs(1, device="meta"), {})
        return check(counted, variant.claims, network)

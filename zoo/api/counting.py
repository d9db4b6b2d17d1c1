"""Counting networks, and holding them to the claims of their papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.networks import create
from zoo.errors import UsageError, check_choice, note

if TYPE_CHECKING:
    from torch import nn

    from zoo.count.engines import Opinion
    from zoo.count.report import Profile
    from zoo.tables.verify import Verification


def profile(
    model: str | nn.Module,
    input_size: int | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    mode: str = "eval",
    stats: bool = False,
    **fields: Any,
) -> Profile:
    """Parameters, MACs and FLOPs of one forward pass, in total and per module, without
    running numbers.

    `mode`: "eval", a forward pass in evaluation mode, or "train", a forward and
    backward pass in training mode. `stats`: run one batch of real numbers as well,
    through a copy, for each row's `mean` and `std` of its output and share of `dead`
    ReLUs: a module with its own numbers, a name with its network's initialisation; the
    tensors of `inputs`, or normal-distributed images. What is drawn is the same in
    every call.

    `model` is a name (built with the given `fields`) or any module, which is left
    exactly as it is. The input is the network's own, or images of `input_size`: the
    side in pixels or (C, H, W); or `inputs`: a tensor, a tuple or list of positional
    arguments or a dict of keyword arguments, of which only the shapes count. Operators
    that nothing is known of are noted and listed in `uncounted`.

    Raises UsageError when the input of a module is not known, and InputError when the
    model does not take it.
    """
    import torch

    from zoo.count.process import paused_collector

    check_choice("zoo.profile", "mode", mode, ("eval", "train"))
    with torch.inference_mode(False):
        with paused_collector():
            network, name = to_count(model, fields)
            counted = _count(
                network,
                name,
                *example(model, network, input_size, batch_size, inputs, fields),
                mode,
            )
        if not stats:
            return counted
        return _run(
            counted,
            model,
            fields,
            example(model, network, input_size, batch_size, None, fields)[0]
            if inputs is None
            else inputs,
        )


def _run(
    counted: Profile, model: str | nn.Module, fields: Mapping[str, Any], inputs: Any
) -> Profile:
    """The profile with the statistics of a batch of real numbers."""
    import torch

    from zoo.count.meta import copy_of_numbers
    from zoo.count.process import kept_random_state
    from zoo.count.stats import random_batch, with_stats

    with kept_random_state():
        torch.default_generator.manual_seed(0)
        network = create(model, **fields) if isinstance(model, str) else copy_of_numbers(model)
        device = next(
            (tensor.device for tensor in (*network.parameters(), *network.buffers())),
            torch.device("cpu"),
        )
        if device.type == "meta":
            raise UsageError(
                f"{counted.name} is on the meta device: statistics need a network with numbers"
            )
        args, kwargs = _arguments(random_batch(inputs, device))
        return with_stats(counted, network, args, kwargs)


def second_opinion(
    model: str | nn.Module,
    engine: str = "fvcore",
    input_size: int | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    mode: str = "eval",
    **fields: Any,
) -> Opinion:
    """What another counter says of a network, side by side with ours. `print` shows it
    as a table.

    `engine`: "fvcore" (FlopCountAnalysis), which traces a run on zeros, or "torch"
    (FlopCounterMode), which sees the operators of a run on the meta device. All else is
    as for `profile`; mode "train" is for torch only. Where an engine fails, a note says
    so, and the table has our numbers alone.
    """
    from zoo.count.engines import ask

    check_choice("zoo.second_opinion", "engine", engine, ("fvcore", "torch"))
    if (engine, mode) == ("fvcore", "train"):
        raise UsageError("fvcore counts forward passes only: leave mode='train' out, or ask torch")
    ours = profile(model, input_size, batch_size, inputs=inputs, mode=mode, **fields)
    network, _ = to_count(model, fields)
    opinion = ask(
        engine, ours, network, *example(model, network, input_size, batch_size, inputs, fields)
    )
    if opinion.failure:
        note(
            f"{engine} {opinion.version} gives no second opinion on {ours.name}: {opinion.failure}"
        )
    return opinion


def to_count(model: str | nn.Module, fields: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """A network on the meta device, ours to use up, and its name."""
    from zoo.count.meta import copy_on_meta, unwrapped

    if isinstance(model, str):
        return create(model, device="meta", **fields), model
    if fields:
        raise UsageError(
            f"{', '.join(fields)}: fields are for a network that is built by name, not for a module"
        )
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
    from zoo.count.meta import on_meta

    if inputs is None:
        return _image_batch(model, network, input_size, batch_size, fields), {}
    if input_size is not None or batch_size != 1:
        raise UsageError("inputs= has its own sizes: leave out input_size and batch_size")
    return on_meta(_arguments(inputs))


def _image_batch(
    model: str | nn.Module,
    network: nn.Module,
    input_size: int | tuple[int, ...] | None,
    batch_size: int,
    fields: Mapping[str, Any],
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
        raise UsageError(
            f"the input of {type(network).__name__} is not known: give input_size=(C, H, W) or inputs="
        )
    if isinstance(size, int):
        size = (own[0] if own else 3, size, size)
    if not size or min(size) < 1:
        raise UsageError(
            f"input_size={size}: needs the side in pixels or (C, H, W), each 1 or more"
        )
    dtype = next(
        (parameter.dtype for parameter in network.parameters() if parameter.is_floating_point()),
        None,
    )
    return (torch.empty(batch_size, *size, device="meta", dtype=dtype),)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    from torch import Tensor
    from torch.nn.utils.rnn import PackedSequence

    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (Tensor, PackedSequence)):
        return (inputs,), {}
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise UsageError(
        f"inputs= is a {type(inputs).__name__}: give a tensor, a tuple of arguments or a dict of keyword arguments"
    )


def _count(
    network: nn.Module,
    name: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    mode: str = "eval",
) -> Profile:
    from zoo.count import report

    counted = report.profile(network, name, args, kwargs, mode)
    if counted.uncounted:
        missing = ", ".join(
            f"{operator} (called {calls}x)" for operator, calls in counted.uncounted.items()
        )
        note(f"{name}: the counts lack these operators, which are not known: {missing}")
    return counted


def verify(name: str) -> Verification:
    """Each claim of a network's paper: printed, computed, whether they agree or the
    reason why not; and the exact counts.

    Raises UnknownModelError, and ZooError for a claim that cannot be computed.
    """
    import torch

    from zoo.tables.verify import verify as check

    variant = registry.variant(name)
    with torch.inference_mode(False), torch.no_grad():
        network, _ = to_count(name, {})
        counted = _count(network, name, variant.example_inputs(1, device="meta"), {})
        return check(counted, variant.claims, network)

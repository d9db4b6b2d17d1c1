"""Counting networks, comparing them, and holding them to the claims of their papers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.networks import create, info, list_models
from zoo.errors import PluginError, UsageError, check_choice, note

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.count.memory import Memory
    from zoo.count.report import Profile
    from zoo.tables.compare import Comparison
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
        network, name = _to_count(model, fields)
        return _count(network, name, *_example(model, network, input_size, batch_size, inputs, fields), mode)


def _to_count(model: str | nn.Module, fields: Mapping[str, Any]) -> tuple[nn.Module, str]:
    """A network on the meta device, ours to use up, and its name."""
    from zoo.count.meta import copy_on_meta, unwrapped

    if isinstance(model, str):
        return create(model, device="meta", **fields), model
    if fields:
        raise UsageError(f"{', '.join(fields)}: fields are for a network that is built by name, not for a module")
    model = unwrapped(model)
    name = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    return copy_on_meta(model), name or type(model).__name__


def _example(
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


def memory(
    model: str | nn.Module,
    batch_size: int = 1,
    mode: str = "train",
    *,
    input_size: int | tuple[int, ...] | None = None,
    inputs: Any = None,
    dtype: torch.dtype | str | None = None,
    autocast: torch.dtype | str | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    checkpointing: bool = False,
    device: str = "cuda",
    loss: Callable[[Any], Tensor] | None = None,
    **fields: Any,
) -> Memory:
    """Memory of a training step ("train") or an inference pass ("infer"), predicted in bytes without running it and without a GPU.

    `model` and its input are those of `profile`. `dtype`: of parameters and inputs (`torch.bfloat16` or "bfloat16"); `autocast`: mixed
    precision in this type. `optimizer`: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lbfgs, a function that makes one of a
    list of parameters, or None. `checkpointing`: stages are computed again in the backward pass instead of kept. `device`: whose kernels
    and allocator, "cuda" or "cpu". `loss`: from the output to a scalar; default: cross-entropy of logits, the sum of anything else.

    A training step begins without gradients and with the optimizer's state in place, as every one but the first does.
    Raises UsageError when the input of a module is not known, and InputError when the model does not take it.
    """
    import torch

    from zoo.count.memory import predict

    check_choice("zoo.memory", "mode", mode, ("train", "infer"))
    check_choice("zoo.memory", "device", device, ("cuda", "cpu"))
    with torch.inference_mode(False):
        network, name = _to_count(model, fields)
        args, kwargs = _example(model, network, input_size, batch_size, inputs, fields)
        if dtype is not None:
            network, (args, kwargs) = network.to(_dtype(dtype)), in_dtype((args, kwargs), _dtype(dtype))
        if checkpointing:
            _checkpoint(network, name)
        lower = None if autocast is None else _dtype(autocast)
        return predict(network, name, args, kwargs, mode=mode, device=device, autocast=lower, optimizer=optimizer, loss=loss)


def _dtype(given: torch.dtype | str) -> torch.dtype:
    import torch

    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(f"{given!r} is no floating-point type: give torch.float32, torch.bfloat16, torch.float16 or their names")
    return found


def in_dtype(value: Any, dtype: torch.dtype) -> Any:
    """The floating-point tensors in nested tuples, lists and dicts in another type."""
    from torch import Tensor
    from torch.utils._pytree import tree_map_only

    return tree_map_only(Tensor, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, value)


def _checkpoint(network: nn.Module, name: str) -> None:
    if not callable(switch := getattr(network, "set_grad_checkpointing", None)):
        raise UsageError(f"{name} has no set_grad_checkpointing(): checkpointing=True is for networks of zoo and timm")
    switch(True)


def compare(
    names: str | nn.Module | Iterable[str | nn.Module],
    *,
    input_size: int | tuple[int, ...] | None = None,
    progress: Callable[[list[Any]], Iterable[Any]] | None = None,
) -> Comparison:
    """Networks in one table, in the given order: year, depth, input, parameters, MACs, FLOPs and the reported error.

    `names` are names, shell patterns (`vgg*`) and modules. Each is counted for one image of its own size, or of `input_size`, which
    modules that zoo did not create need. `progress` wraps the list, as `tqdm.tqdm` or `rich.progress.track` do.
    Raises UsageError for a pattern that nothing matches.
    """
    from zoo.tables.compare import Comparison, row

    rows = []
    chosen = _chosen(names)
    for what in progress(chosen) if progress else chosen:
        counted = profile(what, input_size)
        if isinstance(what, str):
            known = info(what)
            rows.append(row(counted, known.paper.year, known.variant.results))
        else:
            rows.append(row(counted))
    return Comparison(tuple(rows))


def _chosen(names: str | nn.Module | Iterable[str | nn.Module]) -> list[str | nn.Module]:
    """Names and modules, each once; of a pattern's names a broken plug-in's are left out."""
    from torch import nn

    chosen: dict[str | nn.Module, None] = {}
    for what in [names] if isinstance(names, (str, nn.Module)) else names:
        if isinstance(what, str) and any(sign in what for sign in "*?["):
            matching = list_models(what)
            if not matching:
                raise UsageError(f"no network matches {what!r}; `zoo list` shows all")
            chosen |= dict.fromkeys(name for name in matching if _loads(name))
        else:
            chosen[what] = None
    if not chosen:
        raise UsageError("there is nothing to compare: give names, patterns or modules")
    return list(chosen)


def _loads(name: str) -> bool:
    try:
        registry.family(name)
    except PluginError as error:
        note(f"left out: {error}")
        return False
    return True


def verify(name: str) -> Verification:
    """Each claim of a network's paper: printed, computed, whether they agree or the reason why not; and the exact counts.

    Raises UnknownModelError, and ZooError for a claim that cannot be computed.
    """
    import torch

    from zoo.tables.verify import verify as check

    variant = registry.variant(name)
    with torch.inference_mode(False), torch.no_grad():
        network, _ = _to_count(name, {})
        counted = _count(network, name, variant.example_inputs(1, device="meta"), {})
        return check(counted, variant.claims, network)

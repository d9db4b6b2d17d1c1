"""How much memory a network needs, and which batch fits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.api.counting import example, to_count
from zoo.api.networks import create
from zoo.errors import UsageError, check_choice

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from zoo.count.memory import Memory


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
    """Memory of a training step ("train") or an inference pass ("infer"), predicted in
    bytes without running it and without a GPU.

    `model` and its input are those of `profile`. `dtype`: of parameters and inputs
    (`torch.bfloat16` or "bfloat16"); `autocast`: mixed precision in this type.
    `optimizer`: sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw, lbfgs, a
    function that makes one of a list of parameters, or None. `checkpointing`: stages
    are computed again in the backward pass instead of kept. `device`: whose kernels and
    allocator, "cuda" or "cpu". `loss`: from the output to a scalar; default:
    cross-entropy of logits, the sum of anything else.

    A training step begins without gradients and with the optimizer's state in place, as
    every one but the first does. Raises UsageError when the input of a module is not
    known, and InputError when the model does not take it.
    """
    import torch

    options = _options(mode, device, autocast, optimizer, loss)
    with torch.inference_mode(False):
        return _predict(
            model, input_size, batch_size, inputs, dtype, checkpointing, fields, options
        )


def max_batch_size(
    model: str | nn.Module,
    memory: str | int = "auto",
    mode: str = "train",
    *,
    input_size: int | tuple[int, ...] | None = None,
    dtype: torch.dtype | str | None = None,
    autocast: torch.dtype | str | None = None,
    optimizer: str | Callable[..., Any] | None = "momentum",
    checkpointing: bool = False,
    device: str = "cuda",
    loss: Callable[[Any], Tensor] | None = None,
    probe: bool = False,
    **fields: Any,
) -> int:
    """The largest batch whose step is predicted to fit; 0 when not even one example
    does.

    `memory`: of the card, "24GiB", "80GB" or bytes, of which a part is left for the
    driver and the libraries; or "auto": what is free now on this machine. `probe`: with
    a GPU, run the step, and take a smaller batch while it does not fit. The rest is
    that of `memory`.
    """
    import torch

    from zoo.count.memory import largest_batch
    from zoo.count.room import room

    options = _options(mode, device, autocast, optimizer, loss)
    capacity = room(memory, device)
    if probe and (device != "cuda" or not torch.cuda.is_available()):
        raise UsageError(
            "probe=True runs the step on a GPU, and there is none: leave it out for the prediction"
        )
    with torch.inference_mode(False):

        def step(batch_size: int) -> Memory:
            return _predict(
                model,
                input_size,
                batch_size,
                None,
                dtype,
                checkpointing,
                fields,
                {**options, "capacity": capacity},
            )

        batch = largest_batch(step, capacity)
        return (
            _probed(model, batch, input_size, dtype, checkpointing, fields, options)
            if probe
            else batch
        )


def _options(mode: str, device: str, autocast: Any, optimizer: Any, loss: Any) -> dict[str, Any]:
    check_choice("zoo.memory", "mode", mode, ("train", "infer"))
    check_choice("zoo.memory", "device", device, ("cuda", "cpu"))
    lower = None if autocast is None else _dtype(autocast)
    return {"mode": mode, "device": device, "autocast": lower, "optimizer": optimizer, "loss": loss}


def _predict(
    model: str | nn.Module,
    input_size: Any,
    batch_size: int,
    inputs: Any,
    dtype: Any,
    checkpointing: bool,
    fields: Any,
    options: Any,
) -> Memory:
    from zoo.count.memory import predict

    network, name = to_count(model, fields)
    args, kwargs = example(model, network, input_size, batch_size, inputs, fields)
    if dtype is not None:
        network, (args, kwargs) = (
            network.to(_dtype(dtype)),
            _in_dtype((args, kwargs), _dtype(dtype)),
        )
    if checkpointing:
        _checkpoint(network, name)
    return predict(network, name, args, kwargs, **options)


def _probed(
    model: str | nn.Module,
    batch: int,
    input_size: Any,
    dtype: Any,
    checkpointing: bool,
    fields: Any,
    options: Any,
) -> int:
    """The largest batch, from the predicted one downwards, whose step really runs on
    the GPU.
    """
    import copy

    import torch

    from zoo.count.measure import measure

    options = {key: value for key, value in options.items() if key != "device"}
    while batch:
        network = (
            create(model, device="cuda", **fields)
            if isinstance(model, str)
            else copy.deepcopy(model).cuda()
        ).train()
        (image,) = example(model, network, input_size, batch, None, fields)[0]
        images = torch.randn(image.shape, device="cuda", dtype=image.dtype)
        if dtype is not None:
            network, images = network.to(_dtype(dtype)), images.to(_dtype(dtype))
        if checkpointing:
            _checkpoint(network, type(network).__name__)
        try:
            measure(network, (images,), {}, **options)
            return batch
        except torch.OutOfMemoryError:
            del network, images
            torch.cuda.empty_cache()
            batch -= max(1, batch // 50)
    return 0


def _dtype(given: torch.dtype | str) -> torch.dtype:
    import torch

    found = getattr(torch, given, None) if isinstance(given, str) else given
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise UsageError(
            f"{given!r} is no floating-point type: give torch.float32, torch.bfloat16, torch.float16 or their names"
        )
    return found


def _in_dtype(value: Any, dtype: torch.dtype) -> Any:
    """The floating-point tensors in nested tuples, lists and dicts in another type."""
    from torch import Tensor
    from torch.utils._pytree import tree_map_only

    return tree_map_only(
        Tensor, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, value
    )


def _checkpoint(network: nn.Module, name: str) -> None:
    if not callable(switch := getattr(network, "set_grad_checkpointing", None)):
        raise UsageError(
            f"{name} has no set_grad_checkpointing(): checkpointing=True is for networks of zoo and timm"
        )
    switch(True)

"""A module and the arguments of one forward pass: what every counter takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from zoo.count.meta import copy_with, inputs_on_meta, shapes, tensors
from zoo.errors import InputError, UsageError, warn
from zoo.spec import ImageInput, Input, image_shape


@dataclass(frozen=True)
class Workload:
    """One forward pass: `module(*args, **kwargs)`. `name` is the network's, in tables
    and messages.

    Counting modifies the module in place: give a copy.
    """

    module: nn.Module
    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def on_meta(self) -> bool:
        """Whether any tensor of the module has a shape only, and no numbers."""
        held = (*self.module.parameters(), *self.module.buffers())
        return any(tensor.is_meta for tensor in held)

    def to(self, dtype: torch.dtype) -> Workload:
        """The same in another floating-point type; the module is modified in place."""
        args, kwargs = _in_dtype((self.args, dict(self.kwargs)), dtype)
        return replace(self, module=self.module.to(dtype), args=args, kwargs=kwargs)


def set_mode(module: nn.Module, mode: str) -> list[str]:
    """Put a module in the mode that is counted, "train" or "eval". What is in
    evaluation mode inside a module in training mode, as frozen normalisations are, was
    put there by hand and stays so: its paths are given, the outermost ones, but for
    what no `.train()` reaches.
    """
    training = mode == "train"
    frozen = {
        path: part
        for path, part in module.named_modules()
        if training and module.training and not part.training
    }
    module.train(training)
    frozen = {path: part for path, part in frozen.items() if part.training}
    for part in frozen.values():
        part.training = False
    return [path for path in frozen if path.rpartition(".")[0] not in frozen]


def say_frozen(name: str, paths: Sequence[str]) -> None:
    """Say what `set_mode` left in evaluation mode."""
    if paths:
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        warn(
            f"{name} is counted with {', '.join(paths[:3])}{more} in evaluation mode, as it is; "
            "call .train() on the whole first if that is not meant"
        )


def make_workload(
    module: nn.Module,
    name: str,
    inputs: Sequence[Input] = (),
    *,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 1,
    given: Any = None,
    model_args: Mapping[str, Any] | None = None,
    device: torch.device | str = "meta",
) -> Workload:
    """A module with an example of what it takes, on `device`.

    `given`: the arguments themselves, a tensor, a tuple or list of positional ones or a
    dict of keyword ones; on another device than meta, tensors without numbers get
    random ones. Without it, what the specs `inputs` describe for a network built with
    `model_args`, images in `input_size`; without specs, images of `input_size`, or of
    the size in the module's `pretrained_cfg`, as timm has it.

    Raises UsageError when the input of a module is not known, InputError for an
    `input_size` that is none, or of a network that takes no images.
    """
    if given is not None:
        if input_size is not None or batch_size != 1:
            raise UsageError("inputs= has its own sizes: leave out input_size and batch_size")
        found = _arguments(given)
        meta = torch.device(device).type == "meta"
        args, kwargs = inputs_on_meta(found) if meta else materialize(found, device)
        return Workload(module, name, args, kwargs)
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size}: needs one example or more")
    own = dict(model_args or {})
    if not inputs:
        inputs = (ImageInput(_image_size(module, name, input_size)),)
    elif input_size is not None:
        inputs = _resized(inputs, name, input_size, own)
        own.pop(ImageInput.follows, None)  # the size names the channels
    args = tuple(spec.example(batch_size, device=device, model_args=own) for spec in inputs)
    types = (each.dtype for each in module.parameters() if each.is_floating_point())
    dtype = next(types, None)
    return Workload(module, name, args if dtype is None else _in_dtype(args, dtype))


def materialize(value: Any, device: torch.device | str) -> Any:
    """`value` with every tensor in it copied to `device`; those on the meta device
    become normal-distributed numbers, or zeros where they hold integers.
    """

    def numbers(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor.detach().clone().to(device)
        make = torch.randn if tensor.is_floating_point() else torch.zeros
        return make(tensor.shape, dtype=tensor.dtype).to(device)

    return copy_with(value, {id(tensor): numbers(tensor) for tensor in tensors(value)})


def inputs_per_batch(given: Any) -> Callable[[int], Any]:
    """From an example of a network's inputs to those of any batch, on the meta device:
    each tensor's first dimension is the batch. A function from a batch to its inputs is
    that already.

    Raises UsageError where the tensors of the example have no batch in common.
    """
    if callable(given):
        return given
    args, kwargs = inputs_on_meta(_arguments(given))
    found = {id(tensor): tensor for tensor in tensors((args, kwargs))}
    packed = isinstance(given, PackedSequence)
    sizes = {tensor.shape[0] if tensor.ndim else 0 for tensor in found.values()}
    if packed or len(sizes) != 1 or sizes == {0}:
        raise UsageError(
            f"inputs= has the shapes {shapes(tuple(found.values()))}, whose first dimensions are "
            "not one batch: give a function from a batch size to the inputs"
        )

    def inputs(batch: int) -> Any:
        memo = {
            key: torch.empty((batch, *tensor.shape[1:]), dtype=tensor.dtype, device="meta")
            for key, tensor in found.items()
        }
        copied_args, copied_kwargs = copy_with((args, kwargs), memo)
        return copied_kwargs if isinstance(given, Mapping) else copied_args

    return inputs


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, from what a user passes as `inputs=`."""
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (Tensor, PackedSequence)):
        return (inputs,), {}
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise UsageError(
        f"inputs= is a {type(inputs).__name__}: give a tensor, a tuple of arguments or a dict of "
        "keyword arguments"
    )


def _image_size(
    module: nn.Module, name: str, size: int | str | tuple[int, ...] | None
) -> tuple[int, int, int]:
    """(C, H, W) of the images that a module without specs takes."""
    config = getattr(module, "pretrained_cfg", None)
    own = config.get("input_size") if isinstance(config, Mapping) else None
    wanted = own if size is None else size
    if wanted is None:
        raise UsageError(f"the input of {name} is not known: give input_size=(C, H, W) or inputs=")
    return image_shape(wanted, own or (3, 224, 224))


def _resized(
    inputs: Sequence[Input],
    name: str,
    size: int | str | tuple[int, ...],
    model_args: Mapping[str, Any],
) -> tuple[Input, ...]:
    """The inputs with images of another size, and of the channels of `model_args` where
    the size names none.
    """
    images = [isinstance(spec, ImageInput) for spec in inputs]
    if not any(images):
        takes = " and ".join(map(str, inputs))
        raise InputError(f"input_size={size!r} is for images, and {name} takes {takes}")
    return tuple(
        spec.resized(image_shape(size, spec.shape(model_args)[-3:])) if image else spec
        for spec, image in zip(inputs, images, strict=True)
    )


def _in_dtype(value: Any, dtype: torch.dtype) -> Any:
    """A copy of inputs with the floating-point tensors in another type."""

    def cast(tensor: Tensor) -> Tensor:
        return tensor.detach().to(dtype) if tensor.is_floating_point() else tensor

    return copy_with(value, {id(tensor): cast(tensor) for tensor in tensors(value)})

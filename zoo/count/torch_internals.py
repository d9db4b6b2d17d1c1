"""What the counters take from torch that is not public: each in a function of its own,
which tests/test_torch_internals.py holds to the versions that were seen. What torch
imports on the way is in torch_late_imports.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial, update_wrapper
from itertools import product
from threading import RLock
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

# ------------------------------------------------------------------------------ modules


@contextmanager
def redirected_calls(calls: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Inside, calling a module, or its `forward`, calls the function that stands beside
    it, with what would have run, a function of the same arguments, before them. Hooks
    would cost more, and would be seen by the module.
    """
    pairs = list(calls)
    own_forwards = {module: vars(module).get("forward") for module, _ in pairs}
    for module, call in pairs:
        if not isinstance(module, torch.jit.ScriptModule):
            vars(module)["forward"] = RedirectedForward(module.forward, call)
        vars(module)["_compiled_call_impl"] = partial(call, partial(plain_call, module))
    try:
        yield
    finally:
        for module, _ in pairs:
            vars(module).pop("_compiled_call_impl", None)
            vars(module).pop("forward", None)
            if own_forwards[module] is not None:
                vars(module)["forward"] = own_forwards[module]


class RedirectedForward:
    """A module's `forward`, which goes to `call` unless it is `plain_call` that runs
    it.
    """

    def __init__(self, plain: Callable[..., Any], call: Callable[..., Any]) -> None:
        update_wrapper(self, plain)  # for its signature
        self.plain = plain
        self.call = call
        self.expected = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if self.expected:
            self.expected = False
            return run_operator(self.plain, args, kwargs)
        return self.call(self.plain, *args, **kwargs)


def plain_call(module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
    """A module's call with its hooks, whatever `redirected_calls` has put in place."""
    redirected = vars(module).get("forward")
    if not isinstance(redirected, RedirectedForward):
        return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
    redirected.expected = True
    try:
        return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
    finally:
        redirected.expected = False


def compiled_module(module: nn.Module) -> nn.Module | None:
    """The module that torch.compile wrapped; None for one that it did not make."""
    inside = getattr(module, "_orig_mod", None)
    return inside if isinstance(inside, nn.Module) else None


def module_hooks(module: nn.Module) -> list[Any]:
    """The functions that run beside a module's forward and backward pass."""
    kinds = (
        *(module._forward_pre_hooks, module._forward_hooks),
        *(module._backward_pre_hooks, module._backward_hooks),
    )
    return [hook for kind in kinds for hook in kind.values()]


def own_parameters(module: nn.Module) -> list[Tensor]:
    """The parameters that a module itself holds, lazy ones too, in less time than
    `parameters(recurse=False)`.
    """
    return [tensor for tensor in module._parameters.values() if tensor is not None]


def own_buffers(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in module._buffers.values() if tensor is not None]


def hooks_of(module: nn.Module) -> list[Any]:
    """The hooks around a module's forward pass."""
    return [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]


# ---------------------------------------------------------------------------- operators


def run_operator(operator: Any, args: Any, kwargs: Any) -> Any:
    """An operator, or a function of torch, as the network called it: what goes wrong in
    it is not the counters' fault.
    """
    return operator(*args, **kwargs)


def without_override_check(function: Any) -> Any:
    """A copy of a function of torch.nn.functional that does not ask the modes over
    torch's functions whether they override it, so that they see what it is made of.
    The function itself, which other threads may be using, is left as it is.
    """
    scope = {**function.__globals__, "has_torch_function": lambda _: False}
    made = FunctionType(
        function.__code__, scope, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    return made


def fuses_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    grouped: bool,
    *,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
) -> bool:
    """Whether scaled_dot_product_attention of tensors (N, H, L, E) runs a fused kernel
    on the CPU: torch is asked with tensors of the same kind, one or two long where the
    length does not matter.
    """

    def stand_in(tensor: Tensor) -> Tensor:
        sizes = [min(size, 2) for size in tensor.shape]
        if tensor is not mask:
            sizes[1], sizes[3] = tensor.shape[1], tensor.shape[3]
        gap = 1 if tensor.stride(-1) == 1 else 2
        made = torch.empty(*sizes[:-1], sizes[-1] * gap, dtype=tensor.dtype)[..., ::gap]
        return made.requires_grad_(tensor.requires_grad)

    with _disable_current_modes():
        made = None if mask is None else stand_in(mask)
        choice: int = torch._fused_sdp_choice(
            stand_in(query),
            stand_in(key),
            stand_in(value),
            made,
            dropout_p,
            is_causal,
            scale=scale,
            enable_gqa=grouped,
        )
    return choice != 0


def asking_module() -> str:
    """For a function that torch's dispatcher calls: the name of the module whose code
    called torch.
    """
    frame = sys._getframe(2)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith(
        ("zoo.count.", "torch._", "torch.utils.")
    ):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__", ""))


def schema(operator: Any) -> Any:
    """The schema of an `OpOverload`: `name` (`aten::add_`), `arguments`,
    `is_mutable`.
    """
    return operator._schema


# ----------------------------------------------------------------------------- autograd


def sequence_number() -> int:
    """The number that the next node of autograd's graph gets in this thread."""
    return torch._C._autograd._get_sequence_nr()


def running_sequence_number() -> int | None:
    """The number of the node whose backward runs; None outside of a backward pass, and
    for the nodes that add up a parameter's gradient, which have the largest of all.
    """
    node = torch._C._current_autograd_node()
    if node is None:
        return None
    number: int = node._sequence_nr()
    return number if number < sys.maxsize else None


def reference_counts(tensor: Tensor) -> tuple[int, int]:
    """How many references torch itself has to a tensor and to its storage."""
    internal: Any = tensor
    address = storage_address(tensor.untyped_storage())
    return internal._use_count(), torch._C._storage_Use_Count(address)


def storages(tensor: Tensor) -> list[Any]:
    """The storages that hold a tensor: two of a sparse one, those of its parts of a
    wrapper, none where nothing is known.
    """
    parts: tuple[Tensor, ...] = ()
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        parts = (torch._C._functorch.get_unwrapped(tensor),)
    elif tensor.layout is torch.sparse_coo:
        parts = tensor._indices(), tensor._values()
    elif tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        parts = tensor.crow_indices(), tensor.col_indices(), tensor.values()
    elif tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = tensor.ccol_indices(), tensor.row_indices(), tensor.values()
    elif is_traceable_wrapper_subclass(tensor):
        parts = tuple(getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
    else:
        try:
            return [tensor.untyped_storage()]
        except NotImplementedError:
            return []
    return [storage for part in parts for storage in storages(part)]


def storage_address(storage: Any) -> int:
    """The address of a storage's C++ object, the same for all of its views and unique
    while it lives, on the meta device too, where `data_ptr` is 0.
    """
    return storage._cdata


# --------------------------------------------------------------------------- optimizers

OPTIMIZER_KINDS = ("capturable", "foreach_kernels", "fused_kernels")
_OPTIMIZERS = RLock()  # what is replaced is the same for all threads


@contextmanager
def optimizers_take_meta(device: str) -> Iterator[None]:
    """Inside, torch's optimizers do with parameters on the meta device what they do on
    this kind of device: which of their implementations is the default there, and
    whether `capturable` and `fused` are possible.
    """
    names = (f"_get_{kind}_supported_devices" for kind in OPTIMIZER_KINDS)
    modules = [each for name, each in sys.modules.items() if name.startswith("torch.optim.")]
    with _OPTIMIZERS, ExitStack() as stack:
        for module, name in product(modules, names):
            known = vars(module).get(name)
            if known and device in known():
                setattr(module, name, _with_meta(known))
                stack.callback(setattr, module, name, known)
        yield


def _with_meta(devices: Callable[..., list[str]]) -> Callable[..., list[str]]:
    return lambda *args, **kwargs: [*devices(*args, **kwargs), "meta"]


# ----------------------------------------------------------------------------- profiler


class Allocation(NamedTuple):
    """One entry of the allocator's record: bytes, negative when freed, and the number
    of the library's call that it happened in, 0 for none.
    """

    time: int
    size: int
    address: int
    call: int


def event_tree(profiler: torch.profiler.profile) -> Any:
    """What a finished profiler saw: events with `name`, `start_time_ns` and
    `children`.
    """
    inner: Any = profiler.profiler
    return inner.kineto_results.experimental_event_tree()


def allocations(
    events: Any, device: str, library: Iterable[str], call: int = 0
) -> Iterator[Allocation]:
    """The allocator's entries for a kind of device in a tree of events; `library` names
    the operators whose calls are numbered.
    """
    for event in events:
        if event.tag == torch._C._profiler._EventType.Allocation:
            fields = event.extra_fields
            if fields.device.type == device:
                yield Allocation(event.start_time_ns, fields.alloc_size, fields.ptr, call)
        else:
            inside = call or (event.start_time_ns if event.name in library else 0)
            yield from allocations(event.children, device, library, inside)

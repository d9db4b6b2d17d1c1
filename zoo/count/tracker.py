"""The forward pass over meta tensors: which operators run, inside which module, and how many of them follow one another."""

from __future__ import annotations

import copy
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from zoo.count.formulas import Formula, formula
from zoo.errors import InputError, UsageError, ZooError

META = torch.device("meta")


def on_meta(value: Any) -> Any:
    """`value` with every tensor in it (nested tuples, lists and dicts) replaced by one of its shape on the meta device."""
    return tree_map_only(Tensor, _meta_tensor, value)


def _meta_tensor(tensor: Tensor) -> Tensor:
    if is_lazy(tensor):  # it has no shape before the first forward pass
        lazy: Any = type(tensor)
        return lazy(tensor.requires_grad, META, tensor.dtype)
    shadow = torch.empty_like(tensor, device=META)
    return nn.Parameter(shadow, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else shadow


def copy_on_meta(model: nn.Module) -> nn.Module:
    """A copy of the model whose tensors are on the meta device, shared ones still shared; no numbers are copied.

    A copy, because a forward pass may change more than tensors: attributes, lists, flags. Raises UsageError for a model that
    holds something that cannot be copied.
    """
    held = [tensor for module in model.modules() for tensor in tensors(vars(module))]
    memo = {id(tensor): _meta_tensor(tensor) for tensor in held}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise UsageError(f"{type(model).__name__} cannot be copied to be counted: {_first_line(error)}") from error


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
    return tuple(value.shape) if isinstance(value, Tensor) else tuple(tuple(tensor.shape) for tensor in tensors(value))


@dataclass(slots=True)
class Node:
    """What one module did."""

    path: str  # "" is the whole model
    module: nn.Module
    calls: int = 0
    macs: int = 0  # of its calls, with all that ran inside them; of a container that is never called, of its children
    output: tuple[Any, ...] = ()  # shape, or shapes, of the last call
    running: int = 0  # calls that have not returned: in a recursion only the outermost counts
    before: int = 0  # the model's MACs when the outermost call began


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operators of a forward pass, below autograd, where few operators are left and all are plain.

    Not for use in inference mode, in which operators arrive that are made of others.

    Attributes: `nodes`, one per module in tree order; `macs`; `depth`, the most convolutions and matrix products on any path
    from a tensor in the input to one in the output; `uncounted`, operators without a formula and how often they ran.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.nodes = [Node(path, module) for path, module in model.named_modules()]
        self.macs = 0
        self.depth = 0
        self.uncounted: Counter[str] = Counter()
        self._formulas: dict[Any, Formula | None] = {}
        self._results: dict[Any, Any] = {}
        self._failed: tuple[BaseException | None, Node] = (None, self.nodes[0])

    def run(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """One forward pass. An exception in it becomes an InputError that says in which module of `name` it happened."""
        handles = []
        for node in self.nodes:
            handles.append(node.module.register_forward_pre_hook(partial(self._enter, node), prepend=True))
            handles.append(node.module.register_forward_hook(partial(self._leave, node), always_call=True))
        try:
            with kept_random_state(), torch.no_grad(), self:
                output = self.model(*args, **kwargs)
        except ZooError:
            raise
        except Exception as error:
            node = self._failed[1] if error is self._failed[0] else self.nodes[0]
            place = f"{node.path} ({type(node.module).__name__})" if node.path else type(node.module).__name__
            sizes = ", ".join("x".join(map(str, tensor.shape)) for tensor in tensors((args, dict(kwargs))))
            raise InputError(f"{name} does not take the input {sizes}: in {place}: {_first_line(error)}") from error
        finally:
            for handle in handles:
                handle.remove()
        self.depth = depth_of(tensors(output))
        self._fill_containers()

    def _fill_containers(self) -> None:
        """Lists of layers and other modules that only hold others are never called themselves: theirs is the sum of their parts."""
        nodes = {node.module: node for node in self.nodes}
        for node in reversed(self.nodes):  # children first
            if not node.calls:
                node.macs = sum(nodes[child].macs for child in node.module.children() if child in nodes)

    def _enter(self, node: Node, module: nn.Module, args: Any) -> None:
        node.calls += 1
        node.running += 1
        if node.running == 1:
            node.before = self.macs

    def _leave(self, node: Node, module: nn.Module, args: Any, output: Any) -> None:
        node.output = shapes(output)
        node.running -= 1
        if node.running == 0:
            node.macs += self.macs - node.before
        error = sys.exc_info()[1]
        if error is not self._failed[0]:  # it leaves the innermost module first
            self._failed = error, node

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs = list(tensors((args, kwargs)))
        if any(tensor.is_meta for tensor in inputs):
            args, kwargs = self._all_on_meta(inputs, args, kwargs)
        output = self._result(func, args, kwargs)
        count = self._formula(func)
        if count:
            self.macs += count(*args, **kwargs, output=output)
        depth = depth_of(inputs) + (count is not None)
        if depth:
            written = inputs[:1] if func._schema.is_mutable else []  # may be a real tensor that became a meta one here
            for tensor in [*tensors(output), *written]:
                carrier = _storage(tensor)
                carrier.zoo_depth = max(depth, getattr(carrier, "zoo_depth", 0))
        return output

    def _all_on_meta(self, inputs: list[Tensor], args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Constants and explicit devices follow the input to the meta device."""
        if not all(tensor.is_meta for tensor in inputs):
            args, kwargs = on_meta((args, kwargs))
        return args, {**kwargs, "device": META} if kwargs.get("device") is not None else kwargs

    def _result(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operator's output. Torch's meta kernels take longer than all else here: what is known from an equal call is made anew."""
        try:
            key = (func, _signature(args), _signature(kwargs))
            known = self._results.get(key)
        except (TypeError, RuntimeError):  # an argument without a hash, or a tensor without strides
            return func(*args, **kwargs)
        if known:
            return known(args)
        output = func(*args, **kwargs)
        if maker := _maker(func, args, kwargs, output):
            self._results[key] = maker
        return output

    def _formula(self, func: Any) -> Formula | None:
        if func not in self._formulas:
            try:
                self._formulas[func] = formula(func)
            except KeyError as error:
                self.uncounted[error.args[0]] += 1
                return None
        return self._formulas[func]


def _signature(value: Any) -> Any:
    """All of an argument that an output's shape depends on."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device.type
    if isinstance(value, (tuple, list)):
        return tuple(map(_signature, value))
    if isinstance(value, dict):
        return tuple((key, _signature(part)) for key, part in value.items())
    return type(value), value  # 1 and 1.0 are equal, but give outputs of different types


def _maker(func: Any, args: Any, kwargs: Any, output: Any) -> Callable[[Any], Any] | None:
    """A function of an operator's arguments that makes the same output again, where that is safe: new tensors on the meta device,
    or the first argument that an elementwise operator changed in place.
    """
    if func._schema.is_mutable:
        unchanged = args and output is args[0] and output.is_meta and torch.Tag.pointwise in func.tags
        return (lambda args: args[0]) if unchanged else None
    parts = output if isinstance(output, tuple) else (output,)
    if not all(isinstance(part, Tensor) and part.is_meta and part.layout is torch.strided for part in parts):
        return None
    given = [_storage(tensor) for tensor in tensors((args, kwargs))]
    if any(_storage(part) is storage for part in parts for storage in given):  # a view, whatever its schema says
        return None
    plans = [partial(torch.empty_strided, part.shape, part.stride(), dtype=part.dtype, device=META) for part in parts]
    return (lambda _: tuple(plan() for plan in plans)) if isinstance(output, tuple) else lambda _: plans[0]()


def _storage(tensor: Tensor) -> Any:
    """What a tensor shares with its views and keeps through in-place operators; it carries the depth as an attribute."""
    return tensor.untyped_storage() if tensor.layout is torch.strided else tensor


def depth_of(values: Iterable[Tensor]) -> int:
    return max((getattr(_storage(tensor), "zoo_depth", 0) for tensor in values), default=0)


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Every generator that a forward pass may use is afterwards as before."""
    numpy = sys.modules.get("numpy.random")
    states = random.getstate(), numpy.get_state() if numpy else None
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(gpus):
        try:
            yield
        finally:
            random.setstate(states[0])
            if numpy:
                numpy.set_state(states[1])


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"

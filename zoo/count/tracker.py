"""A pass over meta tensors: which operators run, inside which module, forwards and backwards, and which memory they make."""

from __future__ import annotations

import gc
import random
import sys
import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count import trail
from zoo.count.formulas import Cost, cost
from zoo.count.meta import META, on_meta, shapes, tensors
from zoo.errors import InputError, ZooError

REMEMBERED = 50_000  # outputs of operators that are kept as recipes, over all passes of a process


@dataclass(slots=True)
class Counts:
    """Operations of one pass: multiply-adds, and the others by kind."""

    macs: int = 0
    other: dict[str, int] = field(default_factory=dict)

    def add(self, macs: int, kind: str, other: int) -> None:
        self.macs += macs
        if other:
            self.other[kind] = self.other.get(kind, 0) + other

    def merge(self, counts: Counts) -> None:
        self.macs += counts.macs
        for kind, other in counts.other.items():
            self.other[kind] = self.other.get(kind, 0) + other


@dataclass(slots=True, eq=False)
class Frame:
    """One call of a module. Its counts are its own until `Tracker.sum_up`, then with those of the calls inside it."""

    node: Node
    parent: Frame | None
    nested: bool = False  # inside another call of the same module
    forward: Counts = field(default_factory=Counts)
    backward: Counts = field(default_factory=Counts)
    kept: int = 0  # bytes


@dataclass(slots=True, eq=False)
class Node:
    """What one module did in all its calls, with all that ran inside them; of a container that is never called, of its children."""

    path: str  # "" is the whole model
    module: nn.Module
    calls: int = 0
    inside: int = 0  # calls of it that run
    output: tuple[Any, ...] = ()  # shape, or shapes, of the last call
    sees: tuple[int, ...] | None = None  # what one value of the output sees of the input, in pixels; None: all, or no image
    forward: Counts = field(default_factory=Counts)
    backward: Counts = field(default_factory=Counts)
    kept: int = 0  # bytes that the backward pass needs, of what was made here

    def merge(self, other: Node | Frame) -> None:
        self.forward.merge(other.forward)
        self.backward.merge(other.backward)
        self.kept += other.kept


@dataclass(slots=True)
class Operator:
    """All calls of one operator, forwards and backwards. `kind` "": nothing is known of its cost."""

    kind: str
    calls: int = 0
    macs: int = 0
    other: int = 0


@dataclass(slots=True, eq=False)
class Block:
    """One storage: its size in bytes, the call in which it was made, and in which phase; `alive` until it is freed."""

    size: int
    frame: Frame | None
    phase: str
    label: str = ""
    alive: bool = True


class Ledger:
    """The life of every storage: `events` in order, each a block and whether it is made (True) or freed."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.events: list[tuple[Block, bool]] = []
        self._known: dict[int, tuple[Block, Any]] = {}

    def see(self, tensor: Tensor, frame: Frame | None, phase: str, label: str = "") -> Block:
        """Enter the tensor's storage, unless it is known, and follow it from now on."""
        storage = tensor.untyped_storage()
        address = storage._cdata
        known = self._known.get(address)
        if known:
            known[0].label = label or known[0].label
            return known[0]
        block = Block(storage.nbytes(), frame, phase, label)
        self.blocks.append(block)
        self.events.append((block, True))
        self._known[address] = block, weakref.ref(storage, partial(self._freed, address, block))
        return block

    def close(self) -> None:
        """Follow nothing any more. Without it everything seen, the model too, waits for Python's garbage collector, which is slow."""
        self._known.clear()

    def _freed(self, address: int, block: Block, _: Any) -> None:
        del self._known[address]
        block.alive = False
        self.events.append((block, False))


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operators of a pass, below autograd, where few operators are left and all are plain.

    Not for use in inference mode, in which operators arrive that are made of others.

    Attributes: `nodes`, one per module in tree order; `depth`, the most convolutions and matrix products on any path from a tensor
    in the input to one in the output; `operators` by name; `ledger`; `phase`, "forward" or what the caller sets it to.
    """

    def __init__(self, model: nn.Module, name: str, ledger: Ledger | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.name = name
        self.nodes = [Node(path, module) for path, module in model.named_modules()]
        self.depth = 0
        self.operators: dict[str, Operator] = {}
        self.ledger = ledger
        self.phase = "forward"
        self.frames: list[Frame] = []
        self._frame: Frame | None = None  # of the module that runs
        self._marks: tuple[list[int], list[Frame]] = [], []  # from which number of autograd's on nodes belong to which call
        self._failed: tuple[BaseException | None, Node] = (None, self.nodes[0])

    def register(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Enter what is there before the pass into the ledger."""
        if self.ledger:
            for label, found in (
                ("parameters", [tensor for node in self.nodes for tensor in node.module._parameters.values()]),
                ("buffers", [tensor for node in self.nodes for tensor in node.module._buffers.values()]),
                ("inputs", tensors((args, dict(kwargs)))),
            ):
                for tensor in found:
                    if tensor is not None and not is_lazy(tensor) and tensor.is_meta and tensor.layout is torch.strided:
                        self.ledger.see(tensor, None, "", label)

    def forward(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The output of one forward pass. An exception in it becomes an InputError that says in which module it happened."""
        try:
            for tensor in tensors((args, dict(kwargs))):
                trail.begin(tensor)
            with kept_random_state(), self._watched(), self:
                output = self.model(*args, **kwargs)
        except ZooError:
            raise
        except Exception as error:
            raise self._refusal(error, args, kwargs) from error
        self.depth = max([trail.of(tensor).depth for tensor in tensors(output)], default=0)
        return output

    def backward(self, output: Any) -> None:
        """The backward pass from all of an output's tensors that have a gradient."""
        self.phase = "backward"
        _alone()  # found out outside of the pass
        roots = [tensor for tensor in tensors(output) if tensor.requires_grad]
        if roots:
            gradients = [torch.empty_like(root) for root in roots]
            del output
            with kept_random_state(), self._watched(), self:
                torch.autograd.backward(roots, gradients)

    def sum_up(self) -> None:
        """At the end: each call with those inside it, and each module with its calls."""
        if self.ledger:
            self.ledger.close()
        for frame in reversed(self.frames):  # inner calls first
            if frame.parent:
                frame.parent.forward.merge(frame.forward)
                frame.parent.backward.merge(frame.backward)
                frame.parent.kept += frame.kept
            if not frame.nested:
                frame.node.merge(frame)
        nodes = {node.module: node for node in self.nodes}
        for node in reversed(self.nodes):  # children first: lists of layers and the like are never called themselves
            if not node.calls:
                for child in node.module.children():
                    if child in nodes:
                        node.merge(nodes[child])

    def keep(self) -> None:
        """Assign to each call the bytes that it made and that are still alive, for the backward pass."""
        self.register((), {})  # what lazily built layers made is no activation
        if self.ledger:
            for block in self.ledger.blocks:
                if block.alive and block.frame and not block.label:
                    block.frame.kept += block.size

    # ----------------------------------------------------------------------------------------------------- modules

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Modules' calls go through `_call`."""
        for node in self.nodes:  # torch's place for another function in place of a module's call; hooks would cost more
            vars(node.module)["_compiled_call_impl"] = partial(self._call, node)
        try:
            yield
        finally:
            for node in self.nodes:
                vars(node.module).pop("_compiled_call_impl", None)

    def _call(self, node: Node, /, *args: Any, **kwargs: Any) -> Any:
        """A module's call: what runs inside belongs to it."""
        outer = self._frame
        parent = outer or self._first_call(node)
        frame = Frame(node, parent, nested=node.inside > 0 or (parent is not None and outer is None and parent.node is node))
        self.frames.append(frame)
        node.calls += self.phase == "forward"
        node.inside += 1
        self._mark(frame)
        try:
            output = node.module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        except BaseException as error:
            # it leaves the innermost module first; that which ends a recomputation would keep tensors alive
            if self.phase == "forward" and error is not self._failed[0]:
                self._failed = error, node
            raise
        finally:
            node.inside -= 1
            self._mark(outer)
        if self.phase == "forward":
            node.output = shapes(output)
            node.sees = next((trail.of(tensor).field for tensor in tensors(output)), None)
        return output

    def _first_call(self, node: Node) -> Frame | None:
        """In a backward pass, what a checkpointed module's second call belongs to: its first one, or that of a module around it."""
        frame = self._running() if self.phase == "backward" else None
        while frame and frame.parent and frame.node is not node and not node.path.startswith(f"{frame.node.path}."):
            frame = frame.parent
        return frame

    def _mark(self, frame: Frame | None) -> None:
        self._frame = frame
        if frame:
            self._marks[0].append(torch._C._autograd._get_sequence_nr())
            self._marks[1].append(frame)

    def _running(self) -> Frame | None:
        """The call that an operator belongs to: what runs, or in the backward pass the call that made the node of autograd."""
        if self._frame:
            return self._frame
        node = torch._C._current_autograd_node()
        if node is None:
            return None
        number = min(node._sequence_nr(), sys.maxsize)
        place = bisect_right(self._marks[0], number) - 1
        return self._marks[1][place] if place >= 0 and number < sys.maxsize else None

    def _refusal(self, error: Exception, args: Any, kwargs: Mapping[str, Any]) -> InputError:
        node = self._failed[1] if error is self._failed[0] else self.nodes[0]
        place = f"{node.path} ({type(node.module).__name__})" if node.path else type(node.module).__name__
        sizes = ", ".join("x".join(map(str, tensor.shape)) for tensor in tensors((args, dict(kwargs))))
        if _needs_numbers(error):
            return InputError(
                f"{self.name} cannot be counted without numbers: in {place} a shape or a branch depends on data "
                f"({first_line(error).partition('. ')[0]}): count its other modules one by one"
            )
        return InputError(f"{self.name} does not take the input {sizes}: in {place}: {first_line(error)}")

    # --------------------------------------------------------------------------------------------------- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs: list[Tensor] = []
        price = cost(func)
        try:
            key: Any = price, _signature(args, inputs), _signature(kwargs.items(), inputs) if kwargs else ()
            meta = [tensor.is_meta for tensor in inputs]
            if True in meta and (False in meta or kwargs.get("device") is not None):
                args, kwargs = self._all_on_meta(args, kwargs)
                key = price, _signature(args, []), _signature(kwargs.items(), [])
            recipe = _recipes.get(key)
        except (TypeError, RuntimeError):  # an argument without a hash, or a tensor without a shape
            recipe = key = None
        if recipe:
            output = recipe.make(args)
        else:
            output = func(*args, **kwargs)
            recipe = _Recipe(price, *price.of(args, kwargs, output), _maker(func, args, kwargs, output))
            if key is not None and recipe.make:
                if len(_recipes) > REMEMBERED:
                    _recipes.clear()
                _recipes[key] = recipe
        if func is ADD and self.phase == "backward" and not self._frame and in_place(*args):
            output = args[0]
        self._count(recipe, func, args, inputs, output)
        return output

    def _count(self, recipe: _Recipe, func: Any, args: Any, inputs: list[Tensor], output: Any) -> None:
        price = recipe.cost
        frame = self._running()
        operator = self.operators.get(price.name)
        if operator is None:
            operator = self.operators[price.name] = Operator(price.kind)
        operator.calls += 1
        if recipe.macs or recipe.other:
            operator.macs += recipe.macs
            operator.other += recipe.other
            if frame:
                counts = frame.forward if self.phase == "forward" else frame.backward
                counts.add(recipe.macs, price.kind, recipe.other)
        outputs = [output] if isinstance(output, Tensor) else list(tensors(output))
        if self.phase == "forward":
            written = inputs[:1] if func._schema.is_mutable else []  # may be a real tensor that became a meta one here
            trail.follow(price, args, inputs, [*outputs, *written])
        if self.ledger:
            for tensor in outputs:
                if tensor.is_meta and tensor.layout is torch.strided:
                    self.ledger.see(tensor, frame, self.phase)

    def _all_on_meta(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Constants and explicit devices follow the input to the meta device."""
        args, kwargs = on_meta((args, kwargs))
        return args, {**kwargs, "device": META} if kwargs.get("device") is not None else kwargs


# -------------------------------------------------------------------------------------------------- sums of gradients

ADD = torch.ops.aten.add.Tensor


def in_place(a: Any, b: Any) -> bool:
    """Whether autograd's engine, which adds up the gradients that meet in one tensor, would add `b` to `a` itself: as it does when nothing
    else holds `a`, but never under a dispatch mode.
    """
    if not (isinstance(b, Tensor) and a.is_meta and a.shape == b.shape and a.dtype == b.dtype and a.is_contiguous()):
        return False
    return bool(_holders(a) <= _alone())


def _holders(tensor: Any) -> tuple[int, int]:
    """How many references torch itself has to a tensor and to its storage."""
    return tensor._use_count(), torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


@cache
def _alone() -> tuple[int, int]:
    """The same for a gradient that only the engine has, as it is seen in a dispatch mode."""
    seen = []

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is ADD:
                seen.append(_holders(args[0]))
            return func(*args, **(kwargs or {}))

    with torch.enable_grad(), torch.inference_mode(False):
        x = torch.empty(2, device=META, requires_grad=True) * 2
        y = torch.mul(x * 3, x.exp())
    with Watch():  # type: ignore[no-untyped-call]
        torch.autograd.backward(y, torch.empty_like(y))
    return seen[0]


# ------------------------------------------------------------------------------------------------------------- recipes


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What an operator costs on given shapes, and how its output is made anew: torch's meta kernels take longer than all else here."""

    cost: Cost
    macs: int
    other: int
    make: Any  # a function of the operator's arguments; None where it is not safe


_recipes: dict[Any, _Recipe] = {}


def _signature(values: Iterable[Any], found: list[Tensor]) -> tuple[Any, ...]:
    """All of some arguments that an output's shape depends on; their tensors are added to `found`.

    Most of the counters' own time is spent here: hence the order of the questions.
    """
    key: list[Any] = []
    for value in values:
        kind = type(value)
        if value is None or kind is int:
            key.append(value)
        elif kind is Tensor or kind is nn.Parameter or isinstance(value, Tensor):
            if value.layout is not torch.strided:
                raise TypeError(f"a tensor of layout {value.layout} has no strides")
            found.append(value)
            key += value.shape, value.stride(), value.dtype, value.is_meta
        elif kind is list or kind is tuple:
            key.append(tuple(value) if value and type(value[0]) is int else _signature(value, found))
        else:
            key += kind, value  # 1 and 1.0 are equal, but give outputs of different types
    return tuple(key)


def _maker(func: Any, args: Any, kwargs: Any, output: Any) -> Callable[[Any], Any] | None:
    """A function of an operator's arguments that makes the same output again, where that is safe: new tensors on the meta device,
    or the first argument that an elementwise operator changed in place.
    """
    if func._schema.is_mutable:
        unchanged = args and output is args[0] and output.is_meta and torch.Tag.pointwise in func.tags
        return (lambda args: args[0]) if unchanged else None
    parts = output if isinstance(output, (tuple, list)) else (output,)
    if not all(isinstance(part, Tensor) and part.is_meta and part.layout is torch.strided for part in parts):
        return None
    given = [trail.carrier(tensor) for tensor in tensors((args, kwargs))]
    if any(trail.carrier(part) is storage for part in parts for storage in given):  # a view, whatever its schema says
        return None
    plans = [partial(torch.empty_strided, part.shape, part.stride(), dtype=part.dtype, device=META) for part in parts]
    if isinstance(output, Tensor):
        return lambda _: plans[0]()
    return (lambda _: tuple([plan() for plan in plans])) if isinstance(output, tuple) else lambda _: [plan() for plan in plans]


@contextmanager
def paused_collector() -> Iterator[None]:
    """Python's garbage collector has nothing to find in a pass, but would look at all that torch has loaded, for half a second."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Every generator that a pass may use is afterwards as before."""
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


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _needs_numbers(error: BaseException) -> bool:
    """Whether torch refused an operator because the meta device has no values."""
    text = str(error)
    return "meta tensor" in text or "Meta" in text or "register_meta" in text or "data-dependent" in text or "item()" in text

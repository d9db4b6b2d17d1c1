"""A pass over meta tensors: which operators run, inside which module, forwards and
backwards, and which memory they make.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count import trail
from zoo.count.formulas import cost
from zoo.count.gradients import ADD, alone, in_place
from zoo.count.ledger import Ledger
from zoo.count.meta import META, on_meta, shapes, tensors
from zoo.count.process import first_line, kept_random_state, load_kernels
from zoo.count.recipes import RECIPES, Recipe, recipe_of, signature
from zoo.errors import InputError, ZooError


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
    """One call of a module. Its counts are its own until `Tracker.sum_up`, then with
    those of the calls inside it.
    """

    node: Node
    parent: Frame | None
    nested: bool = False  # inside another call of the same module
    forward: Counts = field(default_factory=Counts)
    backward: Counts = field(default_factory=Counts)
    kept: int = 0  # bytes


@dataclass(slots=True, eq=False)
class Node:
    """What one module did in all its calls, with all that ran inside them; of a
    container that is never called, of its children.
    """

    path: str  # "" is the whole model
    module: nn.Module
    calls: int = 0
    inside: int = 0  # calls of it that run
    output: tuple[Any, ...] = ()  # shape, or shapes, of the last call
    sees: tuple[int, ...] | None = (
        None  # what one value of the output sees of the input, in pixels; None: all, or no image
    )
    forward: Counts = field(default_factory=Counts)
    backward: Counts = field(default_factory=Counts)
    kept: int = 0  # bytes that the backward pass needs, of what was made here

    def merge(self, other: Node | Frame) -> None:
        self.forward.merge(other.forward)
        self.backward.merge(other.backward)
        self.kept += other.kept


@dataclass(slots=True)
class Operator:
    """All calls of one operator, forwards and backwards. `kind` "": nothing is known of
    its cost.
    """

    kind: str
    calls: int = 0
    macs: int = 0
    other: int = 0


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operators of a pass, below autograd, where few operators are left and
    all are plain.

    Not for use in inference mode, in which operators arrive that are made of others.

    Attributes: `nodes`, one per module in tree order; `depth`, the most convolutions
    and matrix products on any path from a tensor in the input to one in the output;
    `operators` by name; `ledger`; `phase`, "forward" or what the caller sets it to.
    """

    def __init__(self, model: nn.Module, name: str, ledger: Ledger | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        load_kernels()
        self.model = model
        self.name = name
        self.nodes = [Node(path, module) for path, module in model.named_modules()]
        self.depth = 0
        self.operators: dict[str, Operator] = {}
        self.ledger = ledger
        self.phase = "forward"
        self.frames: list[Frame] = []
        self._frame: Frame | None = None  # of the module that runs
        self._marks: tuple[list[int], list[Frame]] = (
            [],
            [],
        )  # from which number of autograd's on nodes belong to which call
        self._failed: tuple[BaseException | None, Node] = (None, self.nodes[0])

    def register(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Enter what is there before the pass into the ledger."""
        if self.ledger:
            for label, found in (
                (
                    "parameters",
                    [tensor for node in self.nodes for tensor in node.module._parameters.values()],
                ),
                (
                    "buffers",
                    [tensor for node in self.nodes for tensor in node.module._buffers.values()],
                ),
                ("inputs", tensors((args, dict(kwargs)))),
            ):
                for tensor in found:
                    if (
                        tensor is not None
                        and not is_lazy(tensor)
                        and tensor.is_meta
                        and tensor.layout is torch.strided
                    ):
                        self.ledger.see(tensor, None, "", label)

    def forward(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The output of one forward pass. An exception in it becomes an InputError that
        says in which module it happened.
        """
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
        alone()  # found out outside of the pass
        roots = [tensor for tensor in tensors(output) if tensor.requires_grad]
        if roots:
            gradients = [torch.empty_like(root) for root in roots]
            del output
            with kept_random_state(), self._watched(), self:
                torch.autograd.backward(roots, gradients)

    def sum_up(self) -> None:
        """At the end: each call with those inside it, and each module with its
        calls.
        """
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
        for node in reversed(
            self.nodes
        ):  # children first: lists of layers and the like are never called themselves
            if not node.calls:
                for child in node.module.children():
                    if child in nodes:
                        node.merge(nodes[child])

    def keep(self) -> None:
        """Assign to each call the bytes that it made and that are still alive, for the
        backward pass.
        """
        self.register((), {})  # what lazily built layers made is no activation
        if self.ledger:
            for block in self.ledger.blocks:
                if block.alive and block.frame and not block.label:
                    block.frame.kept += block.size

    # -------------------------------------------------------------------------- modules

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Modules' calls go through `_call`."""
        for node in (
            self.nodes
        ):  # torch's place for another function in place of a module's call; hooks would cost more
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
        frame = Frame(
            node,
            parent,
            nested=node.inside > 0
            or (parent is not None and outer is None and parent.node is node),
        )
        self.frames.append(frame)
        node.calls += self.phase == "forward"
        node.inside += 1
        self._mark(frame)
        try:
            output = node.module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
        except BaseException as error:
            # it leaves the innermost module first; that which ends a recomputation
            # would keep tensors alive
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
        """In a backward pass, what a checkpointed module's second call belongs to: its
        first one, or that of a module around it.
        """
        frame = self._running() if self.phase == "backward" else None
        while (
            frame
            and frame.parent
            and frame.node is not node
            and not node.path.startswith(f"{frame.node.path}.")
        ):
            frame = frame.parent
        return frame

    def _mark(self, frame: Frame | None) -> None:
        self._frame = frame
        if frame:
            self._marks[0].append(torch._C._autograd._get_sequence_nr())
            self._marks[1].append(frame)

    def _running(self) -> Frame | None:
        """The call that an operator belongs to: what runs, or in the backward pass the
        call that made the node of autograd.
        """
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
        place = (
            f"{node.path} ({type(node.module).__name__})"
            if node.path
            else type(node.module).__name__
        )
        sizes = ", ".join(
            "x".join(map(str, tensor.shape)) for tensor in tensors((args, dict(kwargs)))
        )
        if _needs_numbers(error):
            return InputError(
                f"{self.name} cannot be counted without numbers: in {place} a shape or a branch depends on data "
                f"({first_line(error).partition('. ')[0]}): count its other modules one by one"
            )
        return InputError(
            f"{self.name} does not take the input {sizes}: in {place}: {first_line(error)}"
        )

    # ------------------------------------------------------------------------ operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        inputs: list[Tensor] = []
        price = cost(func)
        try:
            key: Any = (
                price,
                signature(args, inputs),
                signature(kwargs.items(), inputs) if kwargs else (),
            )
            meta = [tensor.is_meta for tensor in inputs]
            if True in meta and (False in meta or kwargs.get("device") is not None):
                args, kwargs = self._all_on_meta(args, kwargs)
                key = price, signature(args, []), signature(kwargs.items(), [])
            recipe = RECIPES.get(key)
        except (TypeError, RuntimeError):  # an argument without a hash, or a tensor without a shape
            recipe = key = None
        if recipe:
            output = recipe.make(args)
        else:
            output = func(*args, **kwargs)
            recipe = recipe_of(price, func, args, kwargs, output, key)
        if func is ADD and self.phase == "backward" and not self._frame and in_place(*args):
            output = args[0]
        self._count(recipe, func, args, inputs, output)
        return output

    def _count(
        self, recipe: Recipe, func: Any, args: Any, inputs: list[Tensor], output: Any
    ) -> None:
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
            written = (
                inputs[:1] if func._schema.is_mutable else []
            )  # may be a real tensor that became a meta one here
            trail.follow(price, args, inputs, [*outputs, *written])
        if self.ledger:
            for tensor in outputs:
                if tensor.is_meta and tensor.layout is torch.strided:
                    self.ledger.see(tensor, frame, self.phase)

    def _all_on_meta(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Constants and explicit devices follow the input to the meta device."""
        args, kwargs = on_meta((args, kwargs))
        return args, {**kwargs, "device": META} if kwargs.get("device") is not None else kwargs


def _needs_numbers(error: BaseException) -> bool:
    """Whether torch refused an operator because the meta device has no values."""
    text = str(error)
    return (
        "meta tensor" in text
        or "Meta" in text
        or "register_meta" in text
        or "data-dependent" in text
        or "item()" in text
    )

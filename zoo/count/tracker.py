"""A pass over meta tensors: which operators run, inside which module, forwards and
backwards, and which memory they make.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count import receptive_field
from zoo.count.costs import cost
from zoo.count.grad_accumulation import ADD, CLONE, adds_in_place, engine_refcounts, kept_sparse
from zoo.count.host_values import (
    INDEXED,
    READ,
    HostFunctions,
    NeedsValues,
    attach_all,
    compute,
    depends_on_values,
    known,
    places_of_masks,
    read,
    read_all,
    run_with,
)
from zoo.count.isolation import (
    is_own_fault,
    kept_random_state,
    load_kernels,
    own_fault,
)
from zoo.count.meta import META, on_meta, shapes, tensors
from zoo.count.module_counts import ModuleCall, ModuleCounts, OperatorCounts, aggregate
from zoo.count.op_cache import CACHE, CachedOp, cache_op, signature
from zoo.count.refusals import later_refusal, refusal
from zoo.count.storage_log import StorageLog
from zoo.count.torch_internals import (
    own_buffers,
    own_parameters,
    redirected_calls,
    run_operator,
    running_sequence_number,
    schema,
    sequence_number,
)
from zoo.errors import InputError, ZooError

PACK = torch.ops.aten._pack_padded_sequence.default


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watches the operators of a pass, below autograd, where few operators are left and
    all are plain.

    Not for use in inference mode, in which operators arrive that are made of others.

    Attributes: `modules`, what was counted in each, in tree order; `depth`, the most
    convolutions and matrix products on any path from a tensor in the input to one in
    the output; `operators` by name; `log`; `phase`, "forward" or what the caller sets
    it to.
    """

    def __init__(self, model: nn.Module, name: str, log: StorageLog) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        load_kernels()
        self.model = model
        self.name = name
        self.modules = [ModuleCounts(path, module) for path, module in model.named_modules()]
        self.calls: list[ModuleCall] = []
        self.depth = 0
        self.operators: dict[str, OperatorCounts] = {}
        self.log = log
        self.phase = "forward"
        self._call: ModuleCall | None = None  # of the module that runs
        # from which number of autograd's on nodes belong to which call
        self._numbers: list[int] = []
        self._numbered: list[ModuleCall] = []
        self._running: Any = None  # the operator
        self._failed: tuple[BaseException | None, ModuleCounts] = (None, self.modules[0])

    def register(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Enter what is there before the pass into the log."""
        modules = [counts.module for counts in self.modules]
        self._label([each for module in modules for each in own_parameters(module)], "parameters")
        self._label([each for module in modules for each in own_buffers(module)], "buffers")
        self._label(tensors((args, dict(kwargs))), "inputs")

    def _label(self, found: Iterable[Tensor], label: str) -> None:
        for tensor in found:
            if not is_lazy(tensor) and tensor.is_meta:
                self.log.record(tensor, None, "", label)

    def forward(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The output of one forward pass. An exception in it becomes an InputError that
        says in which module it happened.
        """
        try:
            for tensor in tensors((args, dict(kwargs))):
                receptive_field.mark_input(tensor)
            with kept_random_state(), redirected_calls(self._module_calls()), HostFunctions(), self:
                output = self.model(*args, **kwargs)
        except ZooError:
            raise
        except Exception as error:
            self._check_own_fault(error)
            raise self._refusal(error, args, kwargs) from error
        depths = (receptive_field.get(tensor).depth for tensor in tensors(output))
        self.depth = max(depths, default=0)
        return output

    def backward(self, output: Any) -> bool:
        """The backward pass from all of an output's tensors that have a gradient; False
        where there are none.
        """
        self.phase = "backward"
        engine_refcounts()  # found out outside of the pass
        roots = [tensor for tensor in tensors(output) if tensor.requires_grad]
        if roots:
            gradients = [torch.empty_like(root) for root in roots]
            del output
            with (
                kept_random_state(),
                redirected_calls(self._module_calls()),
                self.stage("the backward pass"),
            ):
                run_operator(torch.autograd.backward, (roots, gradients), {})
        return bool(roots)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What runs inside is watched; an exception in it becomes an InputError that
        names this stage of a step.
        """
        try:
            with HostFunctions(), self:
                yield
        except ZooError:
            raise
        except Exception as error:
            self._check_own_fault(error)
            raise later_refusal(self.name, name, error, self._running) from error

    def _check_own_fault(self, error: Exception) -> None:
        if is_own_fault(error) and not isinstance(error, NeedsValues):
            raise own_fault(self.name, error) from error

    def aggregate(self) -> None:
        """At the end: each call with those inside it, and each module with its
        calls.
        """
        self.log.close()
        aggregate(self.modules, self.calls)

    def assign_saved(self) -> None:
        """Assign to each call the bytes that it made and that are still alive, for the
        backward pass.
        """
        self.register((), {})  # what lazily built layers made is no activation
        for record in self.log.records:
            if record.alive and record.call and not record.label:
                record.call.saved += record.size

    # -------------------------------------------------------------------------- modules

    def _module_calls(self) -> list[tuple[nn.Module, Any]]:
        return [(counts.module, partial(self._call_module, counts)) for counts in self.modules]

    def _call_module(
        self, owner: ModuleCounts, run: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Any:
        """A module's call, or that of its forward: what `run` runs belongs to it."""
        outer = self._call
        parent = outer or self._first_call(owner)
        again = parent is not None and outer is None and parent.owner is owner
        call = ModuleCall(owner, parent, nested=owner.running > 0 or again)
        self.calls.append(call)
        owner.calls += self.phase == "forward"
        owner.running += 1
        self._enter_call(call)
        try:
            output = run_operator(run, args, kwargs)
        except BaseException as error:
            # it leaves the innermost module first; that which ends a recomputation
            # would keep tensors alive
            if self.phase == "forward" and error is not self._failed[0]:
                self._failed = error, owner
            raise
        finally:
            owner.running -= 1
            self._enter_call(outer)
        if self.phase == "forward":
            owner.output = shapes(output)
            fields = (receptive_field.get(tensor).field for tensor in tensors(output))
            owner.receptive_field = next(fields, None) or None  # () of no direction
        return output

    def _first_call(self, owner: ModuleCounts) -> ModuleCall | None:
        """In a backward pass, what a checkpointed module's second call belongs to: its
        first one, or that of a module around it.
        """
        call = self._current_call() if self.phase == "backward" else None
        while (
            call
            and call.parent
            and call.owner is not owner
            and not owner.path.startswith(f"{call.owner.path}.")
        ):
            call = call.parent
        return call

    def _enter_call(self, call: ModuleCall | None) -> None:
        self._call = call
        if call:
            self._numbers.append(sequence_number())
            self._numbered.append(call)

    def _current_call(self) -> ModuleCall | None:
        """The call that an operator belongs to: what runs, or in the backward pass the
        call that made the node of autograd.
        """
        if self._call:
            return self._call
        number = running_sequence_number()
        if number is None:
            return None
        place = bisect_right(self._numbers, number) - 1
        return self._numbered[place] if place >= 0 else None

    def _refusal(self, error: Exception, args: Any, kwargs: Mapping[str, Any]) -> InputError:
        failed = self._failed[1] if error is self._failed[0] else self.modules[0]
        kind = type(failed.module).__name__
        place = f"{failed.path} ({kind})" if failed.path else kind
        sizes = shapes((args, dict(kwargs)))
        return refusal(self.name, place, error, failed.module, self._running, sizes)

    # ------------------------------------------------------------------------ operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self._running = func
        if func is READ and known(args[0]) is not args[0]:
            return read(args[0])
        found = cost(func)
        if found.name in INDEXED:
            args = places_of_masks(args)
        inputs: list[Tensor] = []
        key: Any
        given, values = (args, kwargs), None
        try:
            positional = signature(args, inputs)
            key = found, positional, signature(kwargs.items(), inputs) if kwargs else ()
            meta = [tensor.is_meta for tensor in inputs]
            shapes_only = True in meta or kwargs.get("device") == META
            if False in meta and not shapes_only:  # data was written into a constant
                shapes_only = any(known(tensor) is None for tensor in inputs)
            if shapes_only and (False in meta or kwargs.get("device") or func is PACK):
                args, kwargs = self._all_on_meta(func, args, kwargs)
                key = found, signature(args, []), signature(kwargs.items(), [])
            op = CACHE.get(key)
        except (TypeError, RuntimeError):  # an argument without a hash, or a tensor without a shape
            op = key = None
            shapes_only = False
        if shapes_only and (not inputs or known(inputs[0]) is not None):
            values = compute(func, *given, inputs)
        if op:
            output = op.replay(args)
        else:
            output = run_with(values, func, args, kwargs)
            if depends_on_values(func):
                key = None
            op = cache_op(found, func, (args, kwargs), output, key=key)
        if values is not None:
            attach_all(output, values)
        if func is ADD and self.phase == "backward" and not self._call and adds_in_place(*args):
            output = args[0]
        if func is CLONE and self.phase == "backward" and args[0].layout is torch.sparse_coo:
            output = kept_sparse(args[0])
        self._count(op, func, args, inputs, output=output)
        self._running = None
        return output

    def _count(
        self, op: CachedOp, func: Any, args: Any, inputs: list[Tensor], *, output: Any
    ) -> None:
        call = self._current_call()
        operator = self.operators.get(op.cost.name)
        if operator is None:
            operator = self.operators[op.cost.name] = OperatorCounts(op.cost.kind)
        operator.calls += 1
        if op.macs or op.other:
            operator.macs += op.macs
            operator.other += op.other
            if call:
                counts = call.forward if self.phase == "forward" else call.backward
                counts.add(op.macs, op.cost.kind, op.other)
        outputs = [output] if isinstance(output, Tensor) else list(tensors(output))
        if self.phase == "forward":
            # what is written to may be a real tensor that became a meta one here
            written = inputs[:1] if schema(func).is_mutable else []
            receptive_field.propagate(op.cost, args, inputs, [*outputs, *written])
        for tensor in outputs:
            if tensor.is_meta and tensor.layout is torch.strided:
                self.log.record(tensor, call, self.phase)

    def _all_on_meta(self, func: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Constants and explicit devices follow the input to the meta device."""
        if func is PACK:  # its lengths stay on the host
            return (args[0], read_all(args[1], "as lengths"), *args[2:]), kwargs
        args, kwargs = on_meta((args, kwargs))
        return args, {**kwargs, "device": META} if kwargs.get("device") is not None else kwargs

"""Other people's counters as a second opinion: fvcore's FlopCountAnalysis and torch's
FlopCounterMode.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from zoo.count.isolation import first_line, kept_random_state
from zoo.count.meta import copy_of_zeros, tensors
from zoo.count.profile import Profile
from zoo.count.workload import Workload, set_mode
from zoo.formatting import Printable, Section, Table, figure, markdown, separated

MULTIPLY_ADDS = ("convolution", "matrix product", "attention", "recurrence")
FVCORE = {  # its names of operators
    "convolution": "conv",
    "matrix product": "linear addmm matmul mm bmm mv dot einsum baddbmm",
    "normalisation": "batch_norm group_norm layer_norm instance_norm",
    "pooling": "adaptive_avg_pool2d",
    "interpolation": "upsample_nearest2d upsample_bilinear2d grid_sampler",
}
FVCORE_KINDS = {name: kind for kind, names in FVCORE.items() for name in names.split()}
HEADERS = ("operations", "ours", "theirs", "difference")
TOTALS = {  # what the engines' own totals are: times what is in the table, and in words
    "fvcore": (1, "which it calls flops: all of its column above"),
    "torch": (2, "FLOPs: two for each multiply-add"),
}
# Operations by path of the module, then by kind: multiply-adds where the kind is one of
# MULTIPLY_ADDS.
Found = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Operations:
    """One kind of operations, or one module's multiply-adds. `theirs` is None where the
    engine failed.
    """

    what: str
    ours: int
    theirs: int | None

    @property
    def difference(self) -> int | None:
        return None if self.theirs is None else self.theirs - self.ours


@dataclass(frozen=True, repr=False)
class CrossCheck(Printable):
    """Our counts beside another engine's, in multiply-adds and other operations.

    `modules`: where multiply-adds differ, the innermost ones (of a forward pass; the
    engines are not sure where a backward pass belongs). `uncounted`: operators that the
    engine says it leaves out, with their number of calls; torch says nothing.
    `failure`: why there is nothing from the engine.
    """

    name: str
    engine: str
    version: str
    mode: str
    kinds: tuple[Operations, ...]
    macs: Operations
    total: int | None  # as the engine gives it
    modules: tuple[Operations, ...] = ()
    uncounted: Mapping[str, int] = field(default_factory=dict)
    failure: str = ""

    @property
    def agrees(self) -> bool:
        return self.macs.difference == 0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "agrees": self.agrees}

    def cells(self) -> list[list[str]]:
        """The table as text, a cell per entry of HEADERS."""
        names = {f"MACs of {each.what}": each for each in self.modules}
        lines = {**{each.what: each for each in self.kinds}, "MACs": self.macs, **names}
        return [
            [what, *map(figure, (each.ours, each.theirs, each.difference))]
            for what, each in lines.items()
        ]

    def headers(self) -> list[str]:
        return [self.engine if header == "theirs" else header for header in HEADERS]

    def to_markdown(self) -> str:
        return markdown(self.headers(), self.cells(), HEADERS[:1])

    def to_csv(self) -> str:
        rows = (*self.kinds, self.macs, *self.modules)
        records = ([each.what, each.ours, each.theirs, each.difference] for each in rows)
        return separated(HEADERS, records)

    def remarks(self) -> list[str]:
        """What stands below the table, a line each."""
        if self.failure:
            return [f"{self.engine} {self.version} failed: {self.failure}"]
        left_out = ", ".join(f"{name} ({calls}x)" for name, calls in self.uncounted.items())
        total = f"{self.engine} itself prints {self.total:,}, {TOTALS[self.engine][1]}"
        return [total, f"not counted by {self.engine}: {left_out}"] if left_out else [total]

    def sections(self) -> list[Section]:
        return [Table(self.headers(), self.cells(), HEADERS[:1]), "\n".join(self.remarks())]


def run_engine(engine: str, ours: Profile, workload: Workload) -> CrossCheck:
    """What "fvcore" or "torch" counts of a workload on the meta device, beside our own
    counts. Its module is modified in place; pass a copy.

    Whatever goes wrong in the engine is in `failure`.
    """
    set_mode(workload.module, ours.mode)
    version = "?"
    try:
        version = importlib.metadata.version(engine)
        with kept_random_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both use what newer versions of torch deprecate
            found, uncounted = ENGINES[engine](workload, ours.mode == "train")
    except Exception as error:
        return _beside(ours, engine, version, failure=first_line(error))
    return _beside(ours, engine, version, found=found, uncounted=uncounted)


def _beside(
    ours: Profile,
    engine: str,
    version: str,
    *,
    found: Found | None = None,
    uncounted: Mapping[str, int] | None = None,
    failure: str = "",
) -> CrossCheck:
    own = dict(_own(ours))
    theirs = None if found is None else found.get("", {})
    kinds = [kind for kind in own if kind in MULTIPLY_ADDS or kind in (theirs or ())]
    kinds += [kind for kind in theirs or () if kind not in own]
    macs = ours.macs + ours.backward_macs
    return CrossCheck(
        name=ours.name,
        engine=engine,
        version=version,
        mode=ours.mode,
        kinds=tuple(
            Operations(kind, own.get(kind, 0), None if theirs is None else theirs.get(kind, 0))
            for kind in kinds
        ),
        macs=Operations("MACs", macs, None if theirs is None else _macs(theirs)),
        total=None if theirs is None else sum(theirs.values()) * TOTALS[engine][0],
        modules=tuple(_differing(ours, found or {})),
        uncounted=uncounted or {},
        failure=failure,
    )


def _own(ours: Profile) -> Iterator[tuple[str, int]]:
    """Our operations by kind: multiply-adds as the engines part them, then the
    others.
    """
    for kind in MULTIPLY_ADDS:
        if macs := sum(row.macs for row in ours.operators if row.macs and _kind(row.name) == kind):
            yield kind, macs
    for kind in dict.fromkeys([*ours.other, *ours.backward_other]):
        yield kind, ours.other.get(kind, 0) + ours.backward_other.get(kind, 0)


def _kind(name: str) -> str:
    """The kind of multiply-adds that an operator of torch's makes."""
    if "conv" in name:
        return "convolution"
    if "attention" in name:
        return "attention"
    return "recurrence" if "rnn" in name else "matrix product"


def _macs(kinds: Mapping[str, int]) -> int:
    return sum(kinds.get(kind, 0) for kind in MULTIPLY_ADDS)


def _differing(ours: Profile, found: Found) -> Iterator[Operations]:
    if ours.mode != "eval":
        return
    rows = [row for row in ours.rows if row.path in found and row.macs != _macs(found[row.path])]
    for row in rows:
        if row.path and not any(other.path.startswith(f"{row.path}.") for other in rows):
            yield Operations(row.path, row.macs, _macs(found[row.path]))


def _run_fvcore(workload: Workload, train: bool) -> tuple[Found, dict[str, int]]:
    from fvcore.nn import FlopCountAnalysis

    if workload.kwargs:
        raise TypeError("it takes positional arguments only")
    args = tensors(workload.args)
    zeros = tuple(torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in args)
    model = copy_of_zeros(workload.module)  # tracing a convolution fails on the meta device
    analysis = FlopCountAnalysis(model, zeros).tracer_warnings("none")
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    found: Found = {}
    for path, operators in analysis.by_module_and_operator().items():
        counts = found.setdefault(path, {})
        for name, count in operators.items():
            kind = FVCORE_KINDS.get(name, name)
            counts[kind] = counts.get(kind, 0) + int(count)
    return found, dict(analysis.unsupported_ops())


def _run_torch(workload: Workload, train: bool) -> tuple[Found, dict[str, int]]:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.set_grad_enabled(train), counter:
        output = workload.module(*workload.args, **workload.kwargs)
        if train:
            roots = [tensor for tensor in tensors(output) if tensor.requires_grad]
            torch.autograd.backward(roots, [torch.empty_like(root) for root in roots])
    found: Found = {"": {}}
    for path, operators in counter.get_flop_counts().items():
        counts = found.setdefault("" if path == "Global" else path.partition(".")[2], {})
        if path == "Global" or "." in path:
            for operator, flops in operators.items():
                kind = _kind(str(operator))
                counts[kind] = counts.get(kind, 0) + flops // 2
    return found, {}


ENGINES = {"fvcore": _run_fvcore, "torch": _run_torch}

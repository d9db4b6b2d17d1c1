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
from torch import nn

from zoo.count.meta import copy_of_zeros, tensors
from zoo.count.process import first_line, kept_random_state
from zoo.count.report import Profile
from zoo.count.text import figure, markdown, plain, separated

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
Found = dict[
    str, dict[str, int]
]  # operations by path of the module, then by kind; multiply-adds where the kind is one of those


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


@dataclass(frozen=True)
class Opinion:
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
        return separated(
            HEADERS, ([each.what, each.ours, each.theirs, each.difference] for each in rows)
        )

    def remarks(self) -> list[str]:
        """What stands below the table, a line each."""
        if self.failure:
            return [f"{self.engine} {self.version} failed: {self.failure}"]
        left_out = ", ".join(f"{name} ({calls}x)" for name, calls in self.uncounted.items())
        total = f"{self.engine} itself prints {self.total:,}, {TOTALS[self.engine][1]}"
        return [total, *[f"not counted by {self.engine}: {left_out}"] * bool(left_out)]

    def __str__(self) -> str:
        return "\n".join([plain(self.headers(), self.cells(), HEADERS[:1]), *self.remarks()])


def ask(
    engine: str, ours: Profile, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Opinion:
    """The opinion of "fvcore" or "torch" on a model on the meta device, which is ours
    to use up, beside our own counts.

    Whatever goes wrong in the engine is in `failure`.
    """
    model.train(ours.mode == "train")
    version = "?"
    try:
        version = importlib.metadata.version(engine)
        with kept_random_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both use what newer versions of torch deprecate
            found, uncounted = ENGINES[engine](model, args, kwargs, ours.mode == "train")
    except Exception as error:
        return _opinion(ours, engine, version, None, {}, first_line(error))
    return _opinion(ours, engine, version, found, uncounted, "")


def _opinion(
    ours: Profile,
    engine: str,
    version: str,
    found: Found | None,
    uncounted: Mapping[str, int],
    failure: str,
) -> Opinion:
    own = dict(_own(ours))
    theirs = None if found is None else found.get("", {})
    kinds = [kind for kind in own if kind in MULTIPLY_ADDS or kind in (theirs or ())]
    kinds += [kind for kind in theirs or () if kind not in own]
    return Opinion(
        name=ours.name,
        engine=engine,
        version=version,
        mode=ours.mode,
        kinds=tuple(
            Operations(kind, own.get(kind, 0), None if theirs is None else theirs.get(kind, 0))
            for kind in kinds
        ),
        macs=Operations(
            "MACs", ours.macs + ours.backward_macs, None if theirs is None else _macs(theirs)
        ),
        total=None if theirs is None else sum(theirs.values()) * TOTALS[engine][0],
        modules=tuple(_differing(ours, found or {})),
        uncounted=uncounted,
        failure=failure,
    )


def _own(ours: Profile) -> Iterator[tuple[str, int]]:
    """Our operations by kind: multiply-adds as the engines part them, then the
    others.
    """
    for kind in MULTIPLY_ADDS:
        if macs := sum(
            each.macs for each in ours.operators if each.macs and _kind(each.name) == kind
        ):
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
    rows = (
        [row for row in ours.rows if row.path in found and row.macs != _macs(found[row.path])]
        if ours.mode == "eval"
        else []
    )
    for row in rows:
        if row.path and not any(other.path.startswith(f"{row.path}.") for other in rows):
            yield Operations(row.path, row.macs, _macs(found[row.path]))


def _ask_fvcore(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], train: bool
) -> tuple[Found, dict[str, int]]:
    from fvcore.nn import FlopCountAnalysis

    if kwargs:
        raise TypeError("it takes positional arguments only")
    zeros = tuple(torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in tensors(args))
    analysis = FlopCountAnalysis(
        copy_of_zeros(model), zeros
    )  # tracing a convolution fails on the meta device
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings(
        "none"
    )
    found: Found = {}
    for path, operators in analysis.by_module_and_operator().items():
        counts = found.setdefault(path, {})
        for name, count in operators.items():
            kind = FVCORE_KINDS.get(name, name)
            counts[kind] = counts.get(kind, 0) + int(count)
    return found, dict(analysis.unsupported_ops())


def _ask_torch(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], train: bool
) -> tuple[Found, dict[str, int]]:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.set_grad_enabled(train), counter:
        output = model(*args, **kwargs)
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


ENGINES = {"fvcore": _ask_fvcore, "torch": _ask_torch}

"""What an operator of torch's dispatcher costs, looked up in the tables of
formulas.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch

from zoo.count import formulas
from zoo.count.formulas import per_output
from zoo.count.mac_formulas import Formula
from zoo.count.torch_internals import schema
from zoo.errors import UsageError


@dataclass(frozen=True, eq=False)
class Cost:
    """What one operator costs. `kind` is that of its other operations, "free" where it
    has none, "" for one that is not known.
    """

    name: str
    macs: Formula | None
    kind: str
    other: Formula | None
    out: tuple[str, ...] = ()  # the arguments in which an `out=` form gives its output

    def of(self, args: Any, kwargs: Any, output: Any) -> tuple[int, int]:
        """Multiply-adds, and other operations, of one call. Raises UsageError when a
        formula does not take the arguments.
        """
        kwargs = {key: value for key, value in kwargs.items() if key not in self.out}
        try:
            macs = self.macs(*args, **kwargs, output=output) if self.macs else 0
            return macs, self.other(*args, **kwargs, output=output) if self.other else 0
        except Exception as error:
            raise UsageError(
                f"the formula of {self.name} fails: {type(error).__name__}: {error}"
            ) from error


_costs: dict[Any, Cost] = {}


def cost(operator: Any) -> Cost:
    """The cost of an `OpOverload`."""
    found = _costs.get(operator)
    if found is None:
        found = _costs[operator] = _look_up(operator)
    return found


def _look_up(operator: Any) -> Cost:
    name = _plain(schema(operator).name)
    if name in formulas.MACS or name in formulas.OTHER:
        kind, other = formulas.OTHER.get(name, ("free", None))
        out = tuple([argument.name for argument in schema(operator).arguments if argument.is_out])
        return Cost(name, formulas.MACS.get(name), kind, other, out=out)
    if (
        name in formulas.FREE
        or operator.is_view
        or torch.Tag.inplace_view in operator.tags
        or operator.namespace == "profiler"
    ):
        return Cost(name, None, "free", None)
    if _elementwise(operator, name):
        return Cost(name, None, "elementwise", per_output())
    return Cost(name, None, "", None)


def _plain(name: str) -> str:
    """In place costs as the plain form; `__and__` is a plain form."""
    return name if name.endswith("__") else name.removesuffix("_")


def _elementwise(operator: Any, name: str) -> bool:
    """Whether any overload says so: the tag is missing from some of them, in-place ones
    above all.
    """
    plain = getattr(
        getattr(torch.ops, operator.namespace), name.partition("::")[2], operator.overloadpacket
    )
    return any(
        torch.Tag.pointwise in getattr(plain, overload).tags for overload in plain.overloads()
    )


def register_formula(
    operator: str,
    macs: Formula | None = None,
    other: Formula | None = None,
    kind: str = "elementwise",
) -> None:
    """Tell the counters what an operator of your own costs, in this process:
    `zoo.register_formula("mylib::op", lambda x, w, output: …)`.

    `operator`: its name in torch's dispatcher, for all its overloads, in-place and
    `out=` forms. `macs` and `other` take the operator's arguments and its `output`, and
    return the number of multiply-adds and of other operations, which are listed under
    `kind`; with neither, the operator is free. It replaces what was known. Raises
    UsageError for a name that is none.
    """
    if not re.fullmatch(r"\w+::\w+", operator):
        raise UsageError(
            f"{operator!r} is no operator's name: give namespace::name, as in torch.library"
        )
    name = _plain(operator)
    for table in (formulas.MACS, formulas.OTHER):
        table.pop(name, None)
    if macs:
        formulas.MACS[name] = macs
    if other:
        formulas.OTHER[name] = kind, other
    if not macs and not other:
        formulas.FREE.add(name)
    for known in list(_costs):
        if _plain(schema(known).name) == name:
            del _costs[known]

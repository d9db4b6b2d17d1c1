"""The claims of a paper against what its network computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from zoo.count.report import Profile
from zoo.errors import ZooError
from zoo.spec import Claims, Printed
from zoo.tables.text import figure, plain

FLOAT_BYTES = 4  # a parameter in single precision


@dataclass(frozen=True)
class Check:
    """One figure: it holds when it agrees, or, where a `reason` says why it should not,
    when it does not.
    """

    what: str
    where: str  # section, table or figure of the paper
    printed: Any
    computed: Any
    agrees: bool  # at the printed precision
    reason: str = ""
    unit: float = 1  # value of the last printed digit

    @property
    def ok(self) -> bool:
        return self.agrees != bool(self.reason)

    @property
    def verdict(self) -> str:
        if self.agrees:
            return f"AGREES, although: {self.reason}" if self.reason else "agrees"
        return f"differs: {self.reason}" if self.reason else "DIFFERS"


@dataclass(frozen=True)
class Verification:
    """All checks of one network; `print` shows them as a table."""

    name: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            "checks": [{**asdict(check), "ok": check.ok} for check in self.checks],
        }

    def cells(self) -> list[list[str]]:
        """The checks as text, a cell per entry of HEADERS."""
        return [
            [
                c.what,
                c.where,
                "≈ " * (c.unit != 1) + figure(c.printed),
                figure(c.computed),
                c.verdict,
            ]
            for c in self.checks
        ]

    def __str__(self) -> str:
        return f"{plain(HEADERS, self.cells(), LEFT)}\n{self.summary()}"

    def summary(self) -> str:
        """One line: how many claims hold, and which do not."""
        if self.ok:
            return f"{self.name}: all {len(self.checks)} claims hold"
        failed = "; ".join(
            f"{c.what} ({c.where}): printed {figure(c.printed)}, computed {figure(c.computed)}"
            for c in self.failed
        )
        return f"{self.name}: {len(self.failed)} of {len(self.checks)} claims DO NOT HOLD: {failed}"


HEADERS = ("claim", "where", "printed", "computed", "verdict")
LEFT = ("claim", "where", "verdict")


def verify(profile: Profile, claims: Claims, model: nn.Module) -> Verification:
    """Hold a network to its claims. `profile` is of one example, `model` what the
    functions of the claims (`by`) are called with.

    Raises ZooError for a claim that cannot be computed, naming network and claim.
    """
    exact = [("params", claims.params, profile.params), ("macs", claims.macs, profile.macs)]
    checks = [
        Check(what, "exact", claimed, computed, claimed == computed)
        for what, claimed, computed in exact
    ]
    return Verification(profile.name, (*checks, *_printed(profile, claims, model)))


def _printed(profile: Profile, claims: Claims, model: nn.Module) -> Iterator[Check]:
    for claim in claims.printed:
        what = f"{claim.what} of {claim.module}" if claim.module else claim.what
        try:
            value = claim.by(model) if claim.by else computed(profile, claim)
            agrees = claim.agrees(value)
        except Exception as error:
            raise ZooError(
                f"{profile.name}: the claim {what!r} ({claim.where}) cannot be computed: {error!r}"
            ) from error
        yield Check(what, claim.where, claim.value, value, agrees, claim.reason, claim.unit)


def computed(profile: Profile, claim: Printed) -> Any:
    """The value that a claim is about, from the profile: of the whole network, or of
    the module that it names.
    """
    row = next((row for row in profile.rows if row.path == claim.module), None)
    if row is None:
        raise LookupError(f"there is no module {claim.module!r}")
    if claim.what == "depth" and not claim.module:
        return profile.depth
    if claim.what == "output":
        return (
            row.output[1:]
            if all(isinstance(side, int) for side in row.output)
            else tuple(shape[1:] for shape in row.output)
        )
    values = {
        "params": row.params,
        "macs": row.macs,
        "flops": row.flops,
        "bytes": FLOAT_BYTES * row.params,
    }
    if claim.what not in values:
        raise LookupError(f"{claim.what!r} is not in a profile: give the claim a function `by`")
    return values[claim.what]

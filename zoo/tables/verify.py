"""The claims of a paper against what its network computes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from zoo.count.profile import Profile
from zoo.errors import ZooError
from zoo.formatting import Printable, Section, Table, figure, markdown, reference
from zoo.spec import UNEXPLAINED, Claims, Paper, PrintedFigure
from zoo.tables.rows import FLOAT_BYTES

HEADERS = ("claim", "where", "printed", "computed", "verdict")
LEFT = ("claim", "where", "verdict")
SUMMARY = ("network", "paper", "parameters", "MACs", "claims", "verdict")  # of many networks
SUMMARY_LEFT = ("network", "paper", "verdict")


@dataclass(frozen=True)
class Check:
    """One figure: it holds when it agrees, or, where a `reason` says why it should not,
    when it does not.
    """

    quantity: str
    source: str  # section, table or figure of the paper
    printed: Any
    computed: Any
    agrees: bool  # at the printed precision
    reason: str = ""
    resolution: float = 1  # value of the last printed digit

    @property
    def ok(self) -> bool:
        return self.agrees != bool(self.reason)

    @property
    def explained(self) -> bool:
        """Whether a reason for a difference is stated."""
        return bool(self.reason) and not self.reason.startswith(UNEXPLAINED)

    @property
    def verdict(self) -> str:
        if self.agrees:
            return f"AGREES, although: {self.reason}" if self.reason else "agrees"
        if not self.reason:
            return "DIFFERS"
        return f"differs: {self.reason}" if self.explained else f"differs {self.reason}"


@dataclass(frozen=True)
class Tally:
    """How many figures agree, differ for a stated reason, and differ unexplained;
    `print` says it in words.
    """

    agree: int
    differ_for_a_reason: int
    differ_unexplained: int

    @classmethod
    def of(cls, checks: Collection[Check]) -> Tally:
        differing = [check.explained for check in checks if not check.agrees]
        explained = sum(differing)
        return cls(sum(check.agrees for check in checks), explained, len(differing) - explained)

    def __str__(self) -> str:
        total = self.agree + self.differ_for_a_reason + self.differ_unexplained
        if self.agree == total:
            return "all agree"
        parts = [f"{self.agree} agree{'s' if self.agree == 1 else ''}"]
        for count, how in (
            (self.differ_for_a_reason, "for a stated reason"),
            (self.differ_unexplained, "unexplained"),
        ):
            if count:
                parts.append(f"{count} differ{'s' if count == 1 else ''} {how}")
        return ", ".join(parts)


@dataclass(frozen=True, repr=False)
class Verification(Printable):
    """All checks of one network."""

    name: str
    checks: tuple[Check, ...]  # the first two are the exact parameters and MACs
    paper: Paper | None = None

    @property
    def ok(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def tally(self) -> Tally:
        return Tally.of(self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.ok)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "ok": self.ok,
            **asdict(self.tally),
            "checks": [{**asdict(check), "ok": check.ok} for check in self.checks],
        }

    def cells(self) -> list[list[str]]:
        """The checks as text, a cell per entry of HEADERS."""
        return [
            [
                check.quantity,
                check.source,
                ("" if check.resolution == 1 else "≈ ") + figure(check.printed),
                figure(check.computed),
                check.verdict,
            ]
            for check in self.checks
        ]

    def line(self) -> list[str]:
        """The network in one table with others, a cell per entry of SUMMARY."""
        params, macs = (figure(check.computed) for check in self.checks[:2])
        verdict = str(self.tally) if self.ok else self.summary().partition(": ")[2]
        cited = reference(self.paper) if self.paper else ""
        return [f"`{self.name}`", cited, params, macs, str(len(self.checks)), verdict]

    def sections(self) -> list[Section]:
        table = Table(HEADERS, self.cells(), LEFT, wrap="verdict", optional=("where",))
        return [table, self.summary()]

    def summary(self) -> str:
        """One line: how many claims agree and differ, and which do not hold."""
        if self.ok:
            return f"{self.name}: {len(self.checks)} claims: {self.tally}"
        failed = "; ".join(
            f"{check.quantity} ({check.source}): printed {figure(check.printed)}, "
            f"computed {figure(check.computed)}"
            for check in self.failed
        )
        return f"{self.name}: {len(self.failed)} of {len(self.checks)} claims DO NOT HOLD: {failed}"


@dataclass(frozen=True, repr=False)
class Verifications(Printable):
    """Those of several networks."""

    results: tuple[Verification, ...]

    @property
    def ok(self) -> bool:
        return all(result.ok for result in self.results)

    def summary(self) -> str:
        """One line: how many claims of all networks agree and differ."""
        checks = [check for result in self.results for check in result.checks]
        failed = sum(not check.ok for check in checks)
        text = f"{len(self.results)} networks, {len(checks)} claims: {Tally.of(checks)}"
        return f"{text}; {failed} DO NOT HOLD" if failed else text

    def to_dict(self) -> list[dict[str, Any]]:
        return [result.to_dict() for result in self.results]

    def sections(self) -> list[str]:
        """A line per network, and one of all."""
        return ["\n".join(result.summary() for result in self.results), self.summary()]

    def to_markdown(self) -> str:
        """A line per network, with its paper."""
        return markdown(SUMMARY, [result.line() for result in self.results], SUMMARY_LEFT)


def check_claims(
    profile: Profile, claims: Claims, model: nn.Module, paper: Paper | None = None
) -> Verification:
    """Hold a network to its claims. `profile` is of one example, `model` what the
    functions of the claims (`compute`) are called with.

    Raises ZooError for a claim that cannot be computed, naming network and claim.
    """
    exact = [("params", claims.params, profile.params), ("macs", claims.macs, profile.macs)]
    checks = [
        Check(what, "exact", printed=claimed, computed=counted, agrees=claimed == counted)
        for what, claimed, counted in exact
    ]
    return Verification(profile.name, (*checks, *_printed(profile, claims, model)), paper)


def _printed(profile: Profile, claims: Claims, model: nn.Module) -> Iterator[Check]:
    for claim in claims.printed:
        what = f"{claim.quantity} of {claim.module}" if claim.module else claim.quantity
        try:
            value = claim.compute(model) if claim.compute else computed(profile, claim)
            agrees = claim.agrees(value)
        except Exception as error:
            raise ZooError(
                f"{profile.name}: the claim {what!r} ({claim.source}) cannot be computed: {error!r}"
            ) from error
        yield Check(
            what,
            claim.source,
            printed=claim.value,
            computed=value,
            agrees=agrees,
            reason=claim.reason,
            resolution=claim.resolution,
        )


def computed(profile: Profile, claim: PrintedFigure) -> Any:
    """The value that a claim is about, from the profile: of the whole network, or of
    the module that it names.
    """
    row = next((row for row in profile.rows if row.path == claim.module), None)
    if row is None:
        raise LookupError(f"there is no module {claim.module!r}")
    if claim.quantity == "depth" and not claim.module:
        return profile.depth
    if claim.quantity == "output":
        several = any(isinstance(side, tuple) for side in row.output)
        return tuple(shape[1:] for shape in row.output) if several else row.output[1:]
    values = {
        "params": row.params,
        "macs": row.macs,
        "flops": row.flops,
        "bytes": FLOAT_BYTES * row.params,
    }
    if claim.quantity not in values:
        raise LookupError(
            f"{claim.quantity!r} is not in a profile: give the claim a function `compute`"
        )
    return values[claim.quantity]

"""What the checks before a run found, as data and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zoo.formatting import Printable, Section, Table


@dataclass(frozen=True)
class Finding:
    """`ok` is None where there is nothing to judge by, or no time was left."""

    check: str
    ok: bool | None
    text: str


@dataclass(frozen=True, repr=False)
class Checked(Printable):
    """What was found, check by check. `dead_relus`: the share of each ReLU module's
    units that gave 0 for all examples; those that are functions are not seen.
    """

    findings: tuple[Finding, ...]
    dead_relus: Mapping[str, float]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problems(self) -> list[str]:
        """What a user should know of before the run, a line each."""
        return [f"{each.check}: {each.text}" for each in self.findings if each.ok is False]

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}

    def sections(self) -> list[Section]:
        words = {True: "ok", False: "look", None: ""}
        rows = [[each.check, words[each.ok], each.text] for each in self.findings]
        found: list[Section] = [
            Table(["check", "", "found"], rows, ["check", "", "found"], "found")
        ]
        if self.dead_relus:
            shares = [[path or "(whole)", f"{dead:.1%}"] for path, dead in self.dead_relus.items()]
            found.append(Table(["ReLU", "dead"], shares, ["ReLU"]))
        return found

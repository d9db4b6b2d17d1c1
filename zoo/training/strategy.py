"""How much of a network is trained, as recipes and the command line name it."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import InputError, nearest

LAST = "last"
KINDS = {
    "auto": "chosen by the number of images and a quick probe",
    "probe": "a head fitted on the features of the frozen body",
    "probe-stages": "one such head per layer group",
    LAST: "the last N layer groups, the head among them",
    "full": "all of it",
}


@dataclass(frozen=True)
class Strategy:
    """`kind` is a key of KINDS; `last`: how many layer groups are trained, of that kind
    alone.
    """

    kind: str
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """Of "auto", "probe", "probe-stages", "last:N" or "full". Raises InputError."""
        kind, colon, count = text.partition(":") if isinstance(text, str) else ("", "", "")
        if kind == LAST:
            if not (count.isascii() and count.isdigit() and int(count)):
                raise InputError(
                    f"strategy={text!r}: needs a number of layer groups from 1 on, as in 'last:2'"
                )
            return cls(kind, int(count))
        if kind not in KINDS or colon:
            known = [f"{LAST}:2" if each == LAST else each for each in KINDS]
            near = nearest(str(text), known) or f": expected {', '.join(known)}"
            raise InputError(f"strategy={text!r} is not known{near}")
        return cls(kind)

    def __str__(self) -> str:
        return f"{self.kind}:{self.last}" if self.last else self.kind

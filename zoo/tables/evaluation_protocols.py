"""Which reported results may stand side by side: those of one metric, one data set and
split, and one way of testing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zoo.errors import UsageError
from zoo.spec import Result

METRIC = re.compile(r"(?P<kind>.+) (?P<what>error|accuracy) %")


@dataclass(frozen=True)
class Protocol:
    """What a result was measured with. An error and an accuracy of the same kind are
    the same measure.
    """

    kind: str  # top-1, top-5
    data: str
    words: str  # how it was tested

    @property
    def measure(self) -> str:
        """What was measured, however it was tested: figures of one axis."""
        return f"{self.kind} accuracy on {self.data}"

    def __str__(self) -> str:
        return f"{self.kind} ({self.data}; {self.words})"

    def has(self, words: str) -> bool:
        """Whether all these words are in its text, wherever they stand."""
        return _words(words) <= _words(str(self))


def _words(text: str) -> set[str]:
    return set(re.split(r"[\s(),;]+", text.lower())) - {""}


def protocol(result: Result) -> Protocol | None:
    """The protocol of an error rate or accuracy in per cent, which is the top-1 where
    it does not say so; None for another measure.
    """
    metric = METRIC.fullmatch(result.metric)
    if not metric:
        return None
    kind = "top-1" if metric["kind"] == "test" else metric["kind"]
    return Protocol(kind, result.data, result.protocol)


def accuracy(result: Result) -> float:
    """The accuracy in per cent of an error rate or accuracy."""
    return result.value if "accuracy" in result.metric else round(100 - result.value, 6)


def by_protocol(results: Mapping[str, Iterable[Result]]) -> dict[Protocol, dict[str, Result]]:
    """Per protocol the network's result, those that the most networks have first, top-1
    before top-5.

    Where a paper gives two figures for the same, it is the first.
    """
    found: dict[Protocol, dict[str, Result]] = {}
    for name, reported in results.items():
        for result in reported:
            if which := protocol(result):
                found.setdefault(which, {}).setdefault(name, result)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0].kind)))


def covering(results: Mapping[str, Iterable[Result]]) -> dict[Protocol, dict[str, Result]]:
    """A few protocols under which every network has a result that reports any, with
    all that have it: those of one measure in a row, and of these first the protocol
    that adds the most networks.

    The first measure is that of the most shared protocol; where several are, the one
    that the most networks report, and top-5 before top-1.
    """
    everything = by_protocol(results)
    chosen: dict[Protocol, dict[str, Result]] = {}
    left = set().union(*everything.values())
    while left:
        new = {which: found.keys() & left for which, found in everything.items()}
        reach: dict[str, set[str]] = {}
        for which, names in new.items():
            reach.setdefault(which.measure, set()).update(names)
        leading = max(
            everything,
            key=lambda which: (len(new[which]), len(reach[which.measure]), which.kind == "top-5"),
        )
        missing = reach[leading.measure]
        left -= missing
        own = [which for which in everything if which.measure == leading.measure]
        while missing:
            which = max(own, key=lambda which: len(everything[which].keys() & missing))
            chosen[which] = everything[which]
            missing = missing - everything[which].keys()
    return chosen


def choose(
    results: Mapping[str, Iterable[Result]], words: str = ""
) -> tuple[Protocol, dict[str, Result]]:
    """Of the protocols with these words the one that most of the networks share, and
    their results.

    Raises UsageError when no network has such a result.
    """
    known = by_protocol(results)
    for which, found in known.items():
        if which.has(words):
            return which, found
    if not known:
        raise UsageError("no error or accuracy is reported for these networks")
    most = " | ".join(map(str, list(known)[:5]))
    raise UsageError(
        f"no result of these networks has all the words {words!r}; of their {len(known)} "
        f"protocols the most shared: {most}"
    )

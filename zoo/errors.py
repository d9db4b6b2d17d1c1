"""What can go wrong, as one tree; every message is one line: what was wrong, where, and
what to do.

ZooError
├── UsageError            the request is wrong: the command line exits with code 2
│   ├── UnknownModelError     no such name (the nearest names are in the message)
│   └── InputError            an input, argument or option that is not taken
├── PluginError           a third party's entry point is broken (the message names it)
├── WeightsError          a weights file or its layout does not fit
└── DataError             a data set or an image file cannot be used

ZooWarning is a warning category: something was done that the user should know of, and
nothing is wrong.
"""

import difflib
import sys
import warnings
from collections.abc import Iterable
from types import FrameType

# Between the line that called this package and the place that has something to say:
# this package, what calls or wraps its functions, and what loads its files.
NOT_THE_CALLER = {"zoo", "torch", "accelerate", "contextlib", "functools", "importlib"}


class ZooError(Exception):
    """The root of all errors that this package raises on purpose."""


class UsageError(ZooError, ValueError):
    pass


class UnknownModelError(UsageError, LookupError):
    pass


class InputError(UsageError):
    pass


class PluginError(ZooError, ImportError):
    pass


class WeightsError(ZooError):
    pass


class DataError(ZooError):
    pass


class ZooWarning(UserWarning):
    details: object = None  # a result (zoo.formatting.Printable) that tells more


def warn(message: str, details: object = None) -> None:
    """Say something that the user should know of, as a warning at the line that called
    this package; the command line prints it to stderr as `note: …`, and the `details`
    below it.
    """
    frame = _caller(sys._getframe(1))
    warning = ZooWarning(message)
    warning.details = details
    warnings.warn_explicit(
        warning,
        ZooWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__", "<string>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _caller(frame: FrameType) -> FrameType:
    """The first frame from `frame` outwards that is the user's; the outermost one where
    none is.
    """
    while frame.f_back:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in NOT_THE_CALLER:
            break
        frame = frame.f_back
    return frame


def nearest(word: str, known: Iterable[str], more: str = "") -> str:
    """`: did you mean …?` with the nearest of the known words, or nothing when none is
    near; then `more`, where to look.
    """
    near = difflib.get_close_matches(word.lower(), known, n=3, cutoff=0.6)
    if not near:
        return f"; {more}" if more else ""
    question = f": did you mean {' or '.join(near)}?"
    return f"{question} {more[:1].upper()}{more[1:]}" if more else question


def check_choice(owner: str, argument: str, value: object, known: Iterable[object]) -> None:
    """Raise InputError when an `argument` of `owner`, a class or function, has a value
    that is not in `known`.
    """
    known = list(known)
    if value not in known:
        *others, last = map(repr, known)
        expected = f"{', '.join(others)} or {last}" if others else last
        raise InputError(f"{owner}: {argument}={value!r}: expected {expected}")

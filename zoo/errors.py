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
import warnings
from collections.abc import Iterable


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
    pass


def warn(message: str) -> None:
    """Say something that the user should know of; the command line prints it to stderr
    as `note: …`.
    """
    warnings.warn(message, ZooWarning, stacklevel=3)


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

"""What can go wrong, as one tree; every message is one line: what was wrong, where, and
what to do.

ZooError
├── UsageError            the request is wrong: the command line exits with code 2
│   ├── UnknownModelError     no such name (the nearest names are in the message)
│   └── InputError            an input, field or option that is not taken
├── PluginError           a third party's entry point is broken (the message names it)
├── WeightsError          a weights file or its layout does not fit
└── DataError             a data set or an image file cannot be used

Note is a warning category: something was done that the user should know of, and nothing
is wrong.
"""

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


class Note(UserWarning):
    pass


def note(message: str) -> None:
    """Say something that the user should know of; the command line prints it to stderr
    as `note: …`.
    """
    warnings.warn(message, Note, stacklevel=3)


def check_choice(network: str, field: str, value: str, known: Iterable[str]) -> None:
    """Raise InputError when a constructor's `field` has a value that is not in
    `known`.
    """
    known = list(known)
    if value not in known:
        raise InputError(f"{field}={value!r}: {network} knows {', '.join(map(repr, known))}")

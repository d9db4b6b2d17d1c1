"""What is known of a field of Recipe: enough to make an option of the command line from
it, and to check its values.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError, check_choice


@dataclass(frozen=True)
class Option:
    """What is known of a field: its `help`, what it may be, how it reads on the command
    line.
    """

    help: str
    kind: type = str  # of its values on the command line
    choices: tuple[str, ...] = ()  # the only values
    words: tuple[str, ...] = ()  # values besides numbers
    least: int | None = None  # of whole numbers
    between: tuple[float, float] | None = None  # numbers, the first included, the last not
    above: float | None = None  # which numbers must be
    many: bool = False  # a tuple of numbers may be given
    metavar: str | None = None
    default_words: str = ""  # where None stands for what depends on the rest


def option(default: Any, help: str, **known: Any) -> Any:
    """A field of Recipe."""
    return field(default=default, metadata={"option": Option(help, **known)})


def check(name: str, value: Any, known: Option, default: Any) -> None:
    """Raises InputError for a value that the option cannot have."""
    if (value is None and default is None) or value in known.words:
        return
    if known.choices:
        check_choice("recipe", name, value, known.choices)
    elif known.kind is bool:
        check_choice("recipe", name, value, (True, False))
    elif known.kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < (known.least or 0):
            other = "".join(f", or {word!r}" for word in known.words)
            raise InputError(f"{name}={value!r}: needs a whole number from {known.least} on{other}")
    elif known.kind is float:
        for number in value if known.many and isinstance(value, tuple) else (value,):
            _check_number(name, value, number, known)


def _check_number(name: str, value: Any, number: Any, known: Option) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise InputError(f"{name}={value!r}: needs a number{' or several' if known.many else ''}")
    if known.above is not None and not number > known.above:  # nan too
        raise InputError(f"{name}={value!r}: needs a number above {known.above:g}")
    if known.between and not known.between[0] <= number < known.between[1]:
        low, high = known.between
        raise InputError(f"{name}={value!r}: needs a number from {low:g} to below {high:g}")

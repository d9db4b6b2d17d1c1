"""What torch imports when it first runs an operator on the meta device, or a step of an
optimizer: its compiler and sympy, which take longer than torch itself, to ask whether a
number is a symbol, and to exempt functions of its own from compilation. In a pass of
the counters all numbers are plain and nothing is compiled, so that the answers are
known without them.

Private to torch as torch_internals.py is: tests/test_torch_internals.py holds the
answers to torch's own. A question that a newer torch asks, and that is not here, loads
the module, which takes a few seconds.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock, get_ident
from types import ModuleType
from typing import Any

from torch import Tensor


@contextmanager
def late_imports() -> Iterator[None]:
    """Inside, and in this thread, the modules of ANSWERS are loaded only when more is
    asked of them than is answered here. Those that are loaded already are left alone,
    and nothing is left behind.
    """
    thread = get_ident()
    with _lock:
        for name in ANSWERS:
            if name not in sys.modules and (made := _late_module(name)):
                sys.modules[name] = made
        modules = [sys.modules[name] for name in ANSWERS if name in sys.modules]
        late = [module for module in modules if isinstance(module, LateModule)]
        for module in late:
            module.threads[thread] += 1
    try:
        yield
    finally:
        with _lock:
            for module in late:
                if isinstance(module, LateModule):  # not loaded meanwhile
                    module.threads -= Counter([thread])
                    if not module.threads:
                        module.withdraw()


class LateModule(ModuleType):
    """A module that is not loaded yet. It becomes it in place when more is asked of it
    than its `answers`.
    """

    threads: Counter[int]  # that are inside of `late_imports`, and how often
    answers: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name in self.answers and get_ident() in self.threads:
            return self.answers[name]
        if name == "__path__":  # a package has it from the beginning
            raise AttributeError(name)
        return getattr(self.load(), name)

    def load(self) -> ModuleType:
        """The module itself: this one, or the one that was imported since it was
        withdrawn.
        """
        name, spec = self.__name__, self.__spec__
        with _lock:
            found = sys.modules.setdefault(name, self)
            if found is self and isinstance(self, LateModule):  # no other thread was first
                _forget_exempt()
                self.__class__ = ModuleType  # type: ignore[assignment]
                assert spec
                assert spec.loader
                try:
                    spec.loader.exec_module(self)
                except BaseException:
                    del sys.modules[name]
                    raise
                parent, _, attribute = name.rpartition(".")
                if parent:
                    setattr(import_module(parent), attribute, self)
        return found

    def withdraw(self) -> None:
        """Leave nothing behind; where a part of it is loaded, the whole."""
        if any(name.startswith(f"{self.__name__}.") for name in sys.modules):
            self.load()
        else:
            _forget_exempt()
            del sys.modules[self.__name__]


@cache
def _late_module(name: str) -> ModuleType | None:
    """None for a module that is not installed."""
    spec = find_spec(name)
    if spec is None:
        return None
    made = module_from_spec(spec)
    vars(made).update(threads=Counter(), answers=ANSWERS[name])
    made.__class__ = LateModule
    return made


def _loaded(name: str) -> ModuleType:
    module = import_module(name)
    return module.load() if isinstance(module, LateModule) else module


# ------------------------------------------------------------------------ torch._dynamo

_lock = RLock()
_exempt: list[Any] = []  # functions that torch takes as never to be compiled


def _disable(function: Any = None, *args: Any, **kwargs: Any) -> Any:
    """torch keeps the answer at the function, where `_forget_exempt` takes it away."""
    if function is None:
        return _loaded("torch._dynamo").disable(*args, **kwargs)
    _exempt.append(function)
    return function


def _forget_exempt() -> None:
    for function in _exempt:
        vars(function).pop("__dynamo_disable", None)
    _exempt.clear()


# -------------------------------------------------------------------- sympy and symbols

SYMBOLS = "torch.fx.experimental.symbolic_shapes"


class NoneYet(type):
    """The type of a class of a module that is not loaded: there are no instances."""

    def __instancecheck__(cls, instance: Any) -> bool:
        real = getattr(sys.modules.get("sympy"), cls.__name__, cls)
        return real is not cls and isinstance(instance, real)


def _of_numbers(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
    """A function of SYMBOLS, which is not needed where all arguments are numbers."""

    def function(*args: Any, **options: Any) -> Any:
        if not options and all(map(_is_number, args)):
            return answer(*args)
        return getattr(_loaded(SYMBOLS), name)(*args, **options)

    return function


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        value = value.shape
    if isinstance(value, (tuple, list)):
        return all(map(_is_number, value))
    return isinstance(value, int)  # bool, too


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, int) or isinstance(y, int):
        return bool(x == y)
    return len(x) == len(y) and all(map(_equal, x, y))


OF_NUMBERS: dict[str, Callable[..., Any]] = {
    "expect_true": lambda x: x,
    "guard_bool": lambda x: x,
    "guard_or_false": lambda x: x,
    "guard_or_true": lambda x: x,
    "guard_size_oblivious": lambda x: x,
    "guard_int": lambda x: x,
    "guarding_hint_or_throw": lambda x: x,
    "has_guarding_hint": lambda x: True,
    "statically_known_true": lambda x: x,
    "free_unbacked_symbols": lambda x: set(),
    "is_nested_int": lambda x: False,
    "sym_and": lambda *parts: all(parts),
    "sym_or": lambda *parts: any(parts),
    "sym_eq": _equal,
}
ANSWERS: dict[str, Mapping[str, Any]] = {
    "torch._dynamo": {"disable": _disable, "graph_break": lambda *_: None},
    "sympy": {"Basic": NoneYet("Basic", (), {})},
    SYMBOLS: {name: _of_numbers(name, answer) for name, answer in OF_NUMBERS.items()},
}

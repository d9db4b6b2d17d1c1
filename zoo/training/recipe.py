"""How to train: the one declaration of all options. The command line, the TOML files in
recipes/ and the entry in config.json are made from its fields.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypedDict

from zoo.errors import InputError, UsageError, check_choice, nearest
from zoo.optimizers import OPTIMIZERS, STEPWISE, check_rates
from zoo.paths import PACKAGE
from zoo.spec import image_shape

FOLDER = PACKAGE / "recipes"


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
    metavar: str | None = None
    default_words: str = ""  # where None stands for what depends on the rest


def option(default: Any, help: str, **known: Any) -> Any:
    """A field of Recipe."""
    return field(default=default, metadata={"option": Option(help, **known)})


def _per_optimizer(attribute: str) -> str:
    shown = (f"{getattr(OPTIMIZERS[name], attribute):g} {name}" for name in ("adamw", "nesterov"))
    return f"the optimizer's: {', '.join(shown)}, …"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; None is a default that depends on the rest. Raises InputError for
    impossible values.
    """

    epochs: int = option(30, "Passes over the training data.", kind=int, least=1)
    batch_size: int | str = option(
        32, "Examples per step; auto: what fits.", kind=int, least=1, words=("auto",),
        metavar="N|auto",
    )  # fmt: skip
    accumulation: int = option(1, "Batches whose gradients make one step.", kind=int, least=1)
    optimizer: str = option(
        "adamw", "momentum and nesterov are SGD with momentum 0.9.", choices=STEPWISE
    )
    lr: float | None = option(
        None, "Highest learning rate.", kind=float, default_words=_per_optimizer("lr")
    )
    weight_decay: float | None = option(
        None, "Of weights, not of biases and norms.", kind=float,
        default_words=_per_optimizer("weight_decay"),
    )  # fmt: skip
    clip: float | None = option(
        None, "Largest norm of the gradients.", kind=float, default_words="none"
    )
    ema: float | None = option(
        None, "Decay of the weights' moving average, which is evaluated.", kind=float,
        default_words="none",
    )  # fmt: skip
    patience: int | None = option(
        None, "Stop after so many epochs without a better one.", kind=int, least=1,
        default_words="never",
    )  # fmt: skip
    val_fraction: float | None = option(
        None, "Part for validation, of data that bring none.", kind=float, default_words="0.2"
    )
    test_fraction: float | None = option(
        None, "Part to report on, of data that bring none.", kind=float, default_words="none"
    )
    input_size: int | str | tuple[int, ...] | None = option(
        None, "Size of the images.", metavar="224|3x224x224", default_words="the network's own"
    )
    augment: str = option(
        "auto",
        "photo: random crops, mirrored; small: shifted and turned, not mirrored; auto: small up "
        "to 40 pixels.",
        choices=("auto", "photo", "small", "none"),
    )
    cache: str = option(
        "auto", "Hold the decoded images in memory; auto: in a quarter of what is free.",
        choices=("auto", "on", "off"),
    )  # fmt: skip
    workers: int | None = option(
        None, "Processes that read the data.", kind=int, least=0, default_words="by the cores"
    )
    cpu: bool = option(False, "Use no GPU.", kind=bool)
    mixed_precision: str | None = option(
        None, "Compute in a lower precision.", choices=("no", "bf16", "fp16"),
        default_words="accelerate's configuration",
    )  # fmt: skip

    def __post_init__(self) -> None:
        for each in fields(self):
            object.__setattr__(self, each.name, plain(getattr(self, each.name)))
            _check(each.name, getattr(self, each.name), each.metadata["option"], each.default)
        check_rates(self.optimizer, self.lr, self.weight_decay)
        if self.input_size is not None:
            image_shape(self.input_size)
        if self.clip is not None and not self.clip > 0:
            raise InputError(f"clip={self.clip}: needs a number above 0")
        if self.ema is not None and not 0 < self.ema < 1:
            raise InputError(f"ema={self.ema}: needs a number between 0 and 1, e.g. 0.999")
        for name in ("val_fraction", "test_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name}={value}: needs a number between 0 and 1")

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """The same with other values. Raises InputError for a key that it does not
        have.
        """
        known = [each.name for each in fields(self)]
        for key in changes:
            if key not in known:
                near = nearest(key, known) or f"; its options: {', '.join(known)}"
                raise InputError(f"a recipe has no option {key!r}{near}")
        lists = {key: tuple(value) for key, value in changes.items() if isinstance(value, list)}
        return replace(self, **{**changes, **lists})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plain(value: Any) -> Any:
    """A number or tuple of Python for a scalar or array of numpy or torch; anything
    else as it is.
    """
    if isinstance(value, (int, float, str, type(None))) and type(value).__module__ == "builtins":
        return value
    listed = getattr(value, "tolist", None)
    if not callable(listed):
        return value
    found = listed()
    return tuple(found) if isinstance(found, list) else found


class RecipeChanges(TypedDict, total=False):
    """The fields of Recipe as keyword arguments (a test holds them together)."""

    epochs: int
    batch_size: int | str
    accumulation: int
    optimizer: str
    lr: float | None
    weight_decay: float | None
    clip: float | None
    ema: float | None
    patience: int | None
    val_fraction: float | None
    test_fraction: float | None
    input_size: int | str | tuple[int, ...] | None
    augment: str
    cache: str
    workers: int | None
    cpu: bool
    mixed_precision: str | None


def load_recipe(name: str | os.PathLike[str] | Recipe = "finetune") -> Recipe:
    """The recipe of a name or of a TOML file; what it leaves out has Recipe's default.

    Raises UsageError for a name or file that there is not, InputError for what it says
    wrongly.
    """
    if isinstance(name, Recipe):
        return name
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if not path.is_file():
            known = sorted(file.stem for file in FOLDER.glob("*.toml"))
            near = nearest(str(name), known) or f": expected {', '.join(known)} or a TOML file"
            raise UsageError(f"there is no recipe {str(name)!r}{near}")
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # of TOML and of UTF-8
        raise InputError(f"{path} is no TOML file: {error}") from error
    try:
        return Recipe().changed(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check(name: str, value: Any, known: Option, default: Any) -> None:
    """The type of a value, and its bounds where they are whole numbers."""
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
    elif known.kind is float and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise InputError(f"{name}={value!r}: needs a number")

"""The recipes of this package, and those that users write: a TOML file each.

Beside the options of Recipe a file may name the `networks` whose paper's recipe it is
(patterns such as "densenet*_cifar10"), the set `data` that they are trained on, and in
a table `[model_args]` the arguments of their constructor that differ from the row's.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from zoo.errors import InputError, UsageError, nearest
from zoo.paths import PACKAGE
from zoo.training.recipe import Recipe

FOLDER = PACKAGE / "recipes"


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """A recipe with what its file says besides."""

    name: str
    recipe: Recipe
    networks: tuple[str, ...] = ()
    data: str | None = None
    model_args: Mapping[str, Any] = field(default_factory=dict)


def load_recipe(name: str | os.PathLike[str] | Recipe = "finetune") -> Recipe:
    """The recipe of a name or of a TOML file; what it leaves out has Recipe's default.

    Raises UsageError for a name or file that there is not, InputError for what it says
    wrongly.
    """
    return name if isinstance(name, Recipe) else open_recipe(name).recipe


def recipe_file(given: str | os.PathLike[str] | Recipe | RecipeFile) -> RecipeFile:
    """The same, of one that is open, or of a Recipe, which has no name."""
    if isinstance(given, RecipeFile):
        return given
    return RecipeFile(name="", recipe=given) if isinstance(given, Recipe) else open_recipe(given)


def open_recipe(name: str | os.PathLike[str]) -> RecipeFile:
    """The same with what the file says besides."""
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if not path.is_file():
            known = recipe_names()
            near = nearest(str(name), known) or f": expected {', '.join(known)} or a TOML file"
            raise UsageError(f"there is no recipe {str(name)!r}{near}")
    found = _read(path)
    networks, data = found.pop("networks", []), found.pop("data", None)
    model_args = found.pop("model_args", {})
    try:
        _check_about(networks, data, model_args)
        recipe = Recipe().changed(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return RecipeFile(
        name=path.stem, recipe=recipe, networks=tuple(networks), data=data, model_args=model_args
    )


def recipe_names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def recipe_of(architecture: str) -> RecipeFile | None:
    """The recipe of a network's paper; None where this package has none."""
    for name in recipe_names():
        patterns = _read(FOLDER / f"{name}.toml").get("networks", [])
        if any(fnmatchcase(architecture, pattern) for pattern in patterns):
            return open_recipe(name)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # of TOML and of UTF-8
        raise InputError(f"{path} is no TOML file: {error}") from error


def _check_about(networks: Any, data: Any, model_args: Any) -> None:
    if not isinstance(networks, list) or not all(isinstance(each, str) for each in networks):
        raise InputError(f"networks={networks!r}: needs a list of names")
    if data is not None and not isinstance(data, str):
        raise InputError(f"data={data!r}: needs the name of a data set, or a folder")
    if not isinstance(model_args, dict):
        raise InputError(f"model_args={model_args!r}: needs a table of arguments")

"""What others put into weights files: containers around a state dict, wrappers before
its keys, and several files for one network. The one place that recognises them.

Standard library only at import time.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import WeightsError, warn

if TYPE_CHECKING:
    from torch import Tensor

# where training scripts put the averaged weights (EMA) and the trained ones
AVERAGED = ("state_dict_ema", "ema_state_dict", "model_ema", "ema")
TRAINED = ("state_dict", "model_state_dict", "model", "network", "net", "module", "params")
LAST_BESIDE_AVERAGED = "current_model_state"  # of Lightning, whose state_dict is then averaged
DEPTH = 3  # containers in containers
# parts that torch.compile, FSDP and checkpoint wrappers put into keys, anywhere in them
WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
COUNTERS = ("n_averaged",)  # of torch's AveragedModel, beside the network


def listed(keys: Collection[Any], most: int = 3) -> str:
    """The first keys, with `…` where there are more."""
    shown = ", ".join(map(str, list(keys)[:most]))
    return f"{shown}, …" if len(keys) > most else shown


# ------------------------------------------------------------------------- containers


def state_dict_in(content: Any, source: str) -> dict[str, Tensor]:
    """The state dict that `content` is, or that lies in a container of a training
    script (`state_dict`, `model_state_dict`, …), under keys without the parts of
    torch's wrappers. Of averaged (EMA) and last weights the averaged ones, which is
    said.

    Raises WeightsError, with the keys that are there.
    """
    if _is_state(content):
        return _unwrapped(content, source)
    if not isinstance(content, Mapping):
        kind = type(content).__name__
        raise WeightsError(f"{source}: holds no state dict (name -> tensor) but a {kind}")
    found = dict(_contained(content, DEPTH))
    averaged = [key for key in AVERAGED if key in found]
    trained = [key for key in TRAINED if key in found]
    chosen = averaged or trained or list(found)
    if not chosen:
        raise WeightsError(
            f"{source}: holds no state dict (name -> tensor); its keys: {listed(content, 8)}"
        )
    if len(chosen) > 1:
        raise WeightsError(
            f"{source}: holds {len(chosen)} state dicts: {', '.join(chosen)}; "
            f"zoo.load_state_dict(model, torch.load(FILE)[{chosen[0]!r}]) loads one of them"
        )
    if not averaged and LAST_BESIDE_AVERAGED in found:
        averaged, trained = trained, [LAST_BESIDE_AVERAGED]
    if averaged and trained:
        warn(
            f"{source}: holds {trained[0]} and {averaged[0]}; the averaged weights "
            f"{averaged[0]} are taken"
        )
    return state_dict_in(found[chosen[0]], source)


def _is_state(content: Any) -> bool:
    import torch

    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(key, str) for key in content)
        and all(isinstance(value, torch.Tensor) for value in content.values())
    )


def _contained(content: Mapping[Any, Any], depth: int) -> Iterator[tuple[str, Any]]:
    """Key and value of each entry that is a state dict, or holds one."""
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping):
            deeper = depth > 1 and any(_contained(value, depth - 1))
            if _is_state(value) or deeper:
                yield key, value


# --------------------------------------------------------------------------- wrappers


def unwrapped_key(key: str) -> str:
    """A key without the parts that torch's own wrappers put into it (`_orig_mod.`)."""
    return WRAPPERS.sub("", key)


def _unwrapped(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    keys: dict[str, str] = {}
    for key in state:
        plain = unwrapped_key(key)
        if plain in keys:
            raise WeightsError(f"{source}: holds {plain} twice: as {keys[plain]} and {key}")
        keys[plain] = key
    return {plain: state[key] for plain, key in keys.items()}


def prefix_of(state: Mapping[str, Any], expected: Collection[str], source: str) -> str:
    """What stands before the `expected` keys in a state dict: `module.`
    (DataParallel), `model.` (Lightning), … or nothing.

    Raises WeightsError where they are found under two prefixes (a student and a
    teacher).
    """
    expected = frozenset(expected)
    found = Counter(
        key[:start]
        for key in state
        for start in [0, *(dot.end() for dot in re.finditer(r"\.", key))]
        if key[start:] in expected
    )
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if "" in best or 2 * most < len(expected):
        return ""
    if len(best) > 1:
        raise WeightsError(
            f"{source}: has the network's keys under {' and '.join(map(repr, best))}; pass the "
            "tensors of one of them, without that prefix, to zoo.load_state_dict"
        )
    return best[0]


def without_prefix(
    state: Mapping[str, Tensor], expected: Collection[str], source: str
) -> dict[str, Tensor]:
    """The tensors under the prefix that a wrapper put before the `expected` keys; what
    lies beside them is left out and named.
    """
    prefix = prefix_of(state, expected, source)
    others = [key for key in state if not key.startswith(prefix) and key not in COUNTERS]
    if others:
        warn(f"{source}: only the tensors under {prefix!r} are taken, not {listed(others)}")
    return {
        key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)
    }


# ------------------------------------------------------------------ folders and shards

INDEX = ".index.json"  # of a state dict in several files, as accelerate writes it
IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")
LARGEST_INDEX = 1 << 26  # bytes


def file_in(folder: Path) -> Path:
    """The weights file, or the index of several, in a folder as accelerate writes it.

    Raises WeightsError where there is none, or more than one network.
    """
    stems = {name.partition(".")[0]: name for name in IN_FOLDERS}
    others = [
        path.name
        for path in sorted(folder.iterdir())
        if re.fullmatch(rf"({'|'.join(stems)})_\d+\.(safetensors|bin)", path.name)
    ]
    for name in (each for plain in IN_FOLDERS for each in (f"{plain}{INDEX}", plain)):
        if (folder / name).is_file():
            if others:
                raise WeightsError(
                    f"{folder}: holds several networks, {listed([name, *others])}: name the file"
                )
            return folder / name
    names = [f"{plain}{INDEX}" for plain in IN_FOLDERS]
    raise WeightsError(
        f"{folder}: a folder without a weights file ({', '.join([*IN_FOLDERS, *names])})"
    )


def shards(index: Path) -> list[Path]:
    """The files that an index names, which lie beside it. Raises WeightsError."""
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise ValueError(f"it has {index.stat().st_size:,} bytes")
        names = set(json.loads(index.read_bytes())["weight_map"].values())
        if wrong := [name for name in names if not re.fullmatch(r"[\w-][\w.-]*", name)]:
            raise ValueError(f"{wrong[0]!r} is no file beside it")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{index}: not an index of weights files: {error!r}") from error
    found = [index.parent / name for name in sorted(names)]
    if missing := [path.name for path in found if not path.is_file()]:
        raise WeightsError(f"{index}: names files that are not beside it: {listed(missing)}")
    return found

"""What others put into weights files: containers around a state dict, wrappers before
its keys, and what is no state dict at all. The one place that recognises them.

Standard library only at import time.
"""

from __future__ import annotations

import re
import zipfile
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
        return {unwrapped_key(key): tensor for key, tensor in content.items()}
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


# ------------------------------------------------------------------ what is no weights

BEGINNINGS = {  # of files that are something else, in lower case
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; `git lfs pull` fetches it",
    b"\x89hdf": "an HDF5 file (Keras)",
    b"\x93numpy": "a NumPy array",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"bzh": "a bzip2 archive; unpack it first",
    b"\x89png": "a picture",
    b"\xff\xd8\xff": "a picture",
}
PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head")
SAVE = "save the tensors alone where it was made: torch.save(model.state_dict(), FILE)"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors files do: a length, then a JSON object."""
    head = _beginning(path, 9)
    return len(head) == 9 and head[8:] == b"{" and head[6:8] == b"\0\0"


def unreadable(path: Path, error: Exception) -> str:
    """What a file that torch or safetensors refuses holds, and what to do."""
    head = _beginning(path, 512)
    start = head.lstrip().lower()
    if not head:
        return "it is empty; fetch or copy it again"
    if start.startswith(PAGES):
        return "it is a web page, of a login or an error; download the file that the page offers"
    for magic, what in BEGINNINGS.items():
        if start.startswith(magic):
            return f"it is {what}"
    if is_safetensors(path):
        return _broken_safetensors(path, head, error)
    if head.startswith(b"PK"):
        return _broken_archive(path, error)
    if head.isascii() and b"\0" not in head and head[:1] != b"\x80":
        line = head.decode().splitlines()[0][:40]
        return f"it is text that begins {line!r}"
    return _refused(error) or "it is cut off, or neither torch.save nor safetensors wrote it"


def _beginning(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return file.read(size)


def _broken_safetensors(path: Path, head: bytes, error: Exception) -> str:
    end = 8 + int.from_bytes(head[:8], "little")
    offsets = re.findall(rb'"data_offsets":\[\d+,(\d+)\]', _beginning(path, end))
    size, needed = path.stat().st_size, end + max(map(int, offsets), default=0)
    if size < needed:
        return f"it is cut off: {size:,} of {needed:,} bytes or more; fetch or copy it again"
    return _first_line(error)


def _broken_archive(path: Path, error: Exception) -> str:
    """Of a file in the ZIP format, as torch.save writes them."""
    if not zipfile.is_zipfile(path):
        return "it is cut off: the end of the archive is missing; fetch or copy it again"
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    inside = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inside:
        return (
            "it is a TorchScript archive; torch.jit.load opens it, and zoo.load_state_dict takes "
            "its state_dict()"
        )
    if "data.pkl" not in inside:
        return f"it is a ZIP archive of {listed(names)}"
    return _refused(error) or _first_line(error)


def _refused(error: Exception) -> str:
    """What of a pickle torch refuses to make, by its message."""
    found = re.search(r"GLOBAL (\w[\w.]*\w)", str(error))
    if not found:
        return ""
    return f"it holds a pickled {found[1]}, which could run code when it is opened; {SAVE}"


def _first_line(error: Exception) -> str:
    """A library's message, without its colours and without the lines of advice."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error) or repr(error)).strip()
    return text.splitlines()[0] if "weights_only" not in text else f"torch cannot open it; {SAVE}"

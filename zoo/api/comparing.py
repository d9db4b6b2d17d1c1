"""Many networks in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.api.counting import profile
from zoo.api.networks import info, list_models
from zoo.errors import PluginError, UsageError, note

if TYPE_CHECKING:
    from torch import nn

    from zoo.tables.compare import Comparison


def compare(
    names: str | nn.Module | Iterable[str | nn.Module],
    *,
    input_size: int | tuple[int, ...] | None = None,
    progress: Callable[[list[Any]], Iterable[Any]] | None = None,
) -> Comparison:
    """Networks in one table, in the given order: year, depth, input, parameters, MACs, FLOPs and the reported error.

    `names` are names, shell patterns (`vgg*`) and modules. Each is counted for one image of its own size, or of `input_size`, which
    modules that zoo did not create need. `progress` wraps the list, as `tqdm.tqdm` or `rich.progress.track` do.
    Raises UsageError for a pattern that nothing matches.
    """
    from zoo.tables.compare import Comparison, row

    rows = []
    chosen = _chosen(names)
    for what in progress(chosen) if progress else chosen:
        counted = profile(what, input_size)
        if isinstance(what, str):
            known = info(what)
            rows.append(row(counted, known.paper.year, known.variant.results))
        else:
            rows.append(row(counted))
    return Comparison(tuple(rows))


def _chosen(names: str | nn.Module | Iterable[str | nn.Module]) -> list[str | nn.Module]:
    """Names and modules, each once; of a pattern's names a broken plug-in's are left out."""
    from torch import nn

    chosen: dict[str | nn.Module, None] = {}
    for what in [names] if isinstance(names, (str, nn.Module)) else names:
        if isinstance(what, str) and any(sign in what for sign in "*?["):
            matching = list_models(what)
            if not matching:
                raise UsageError(f"no network matches {what!r}; `zoo list` shows all")
            chosen |= dict.fromkeys(name for name in matching if _loads(name))
        else:
            chosen[what] = None
    if not chosen:
        raise UsageError("there is nothing to compare: give names, patterns or modules")
    return list(chosen)


def _loads(name: str) -> bool:
    try:
        registry.family(name)
    except PluginError as error:
        note(f"left out: {error}")
        return False
    return True

"""From a resolved source to what the counters take: the network and an example of its
input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.api.build import build, structure
from zoo.api.source import Source

if TYPE_CHECKING:
    import torch

    from zoo.count.workload import Workload


def meta_workload(
    source: Source,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    **model_args: Any,
) -> Workload:
    """A copy without numbers, which a counter may modify."""
    from zoo.count.workload import make_workload

    return make_workload(
        structure(source, **model_args),
        source.name,
        source.inputs,
        input_size=input_size,
        batch_size=batch_size,
        given=inputs,
        model_args={**source.model_args, **model_args},
    )


def real_workload(
    source: Source,
    input_size: int | str | tuple[int, ...] | None = None,
    batch_size: int = 1,
    *,
    inputs: Any = None,
    device: torch.device | str | None = None,
    **model_args: Any,
) -> Workload:
    """A copy with numbers, which may be run and modified: a module's own, else those of
    the weights file, else newly drawn; on `device`, by default where a module lies, or
    the CPU.
    """
    import torch

    from zoo.count.meta import copy_of_numbers
    from zoo.count.workload import make_workload

    own = source.module
    module = build(source, device, **model_args) if own is None else copy_of_numbers(own)
    held = next((each.device for each in (*module.parameters(), *module.buffers())), None)
    if device is not None and held is not None and held.type != "meta":
        module, held = module.to(device), torch.device(device)
    return make_workload(
        module,
        source.name,
        source.inputs,
        input_size=input_size,
        batch_size=batch_size,
        given=inputs,
        model_args={**source.model_args, **model_args},
        device=held or device or torch.device("cpu"),
    )

"""Networks made of stages, image to last feature map: what they offer of the maps
between, as timm does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.interfaces.network import BatchNorm, Network
from zoo.interfaces.pretrained_cfg import last_map_size


def stage_indices(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Stage numbers in ascending order: None is all, an int the last n, negative
    numbers count from the end. Raises InputError for stages that there are not.
    """
    if isinstance(indices, int):
        wanted = list(range(count - indices, count))
    else:
        given = range(count) if indices is None else indices
        wanted = sorted({index + count if index < 0 else index for index in given})
    if not wanted or wanted[0] < 0 or wanted[-1] >= count:
        shown = f"the last {indices}" if isinstance(indices, int) else list(indices or ())
        raise InputError(f"stage indices {shown}: this network has stages 0 to {count - 1}")
    return wanted


class StagedNetwork(Network):
    """A network of stages, `features`, and a `neck` behind them.

    `feature_info`: a dict with `num_chs`, `reduction` (input size over map size) and
    `module` per stage.
    """

    neck: nn.Module

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        self.in_chans = in_chans
        self.features = nn.Sequential()
        self.feature_info: list[dict[str, Any]] = []

    def add_stage(self, name: str, stage: nn.Module, channels: int, reduction: int) -> None:
        """Append a stage to `features`, which gives `channels` channels at
        1/`reduction` of the input's size.
        """
        self.features.add_module(name, stage)
        self.feature_info.append(
            {"num_chs": channels, "reduction": reduction, "module": f"features.{name}"}
        )

    def check_input(self, x: Tensor) -> Tensor:
        """`x`; raises InputError for a shape that the network does not take."""
        raise NotImplementedError

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """The last feature map and the maps (N, C, H, W) after the stages `indices` (an
        int: the last n; None: all), in stage order.

        `norm` puts the last map through the batch norm and ReLU with which a
        pre-activation network's neck begins; `stop_early` leaves out the stages after
        the last index; `intermediates_only` returns the list alone. Raises InputError
        for stages that there are not and another `output_fmt` than "NCHW".
        """
        check_choice(self.architecture, "output_fmt", output_fmt, ("NCHW",))
        wanted = stage_indices(indices, len(self.features))
        x = self.check_input(x)
        maps = []
        for index, stage in enumerate(self.features):
            if stop_early and index > max(wanted):
                break
            x = self.run_stage(stage, x)
            if index in wanted:
                maps.append(x)
        if norm and wanted[-1] == len(self.features) - 1:
            maps[-1] = nn.Sequential(self.final_norm())(maps[-1])
        return maps if intermediates_only else (x, maps)

    def final_norm(self) -> OrderedDict[str, nn.Module]:
        """The batch norm and ReLU with which a pre-activation network's neck begins."""
        norms = (BatchNorm, nn.ReLU)
        return OrderedDict(
            takewhile(lambda layer: isinstance(layer[1], norms), self.neck.named_children())
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass; do not save its activations."""
        self.grad_checkpointing = enable

    @property
    def num_features(self) -> int:
        """The channels of the last feature map."""
        last = len(self.features) - 1
        return int(self.feature_info[last]["num_chs"]) if self.feature_info else 0

    @cached_property
    def last_map_size(self) -> tuple[int, int] | None:
        return last_map_size(self.features, self.preprocessing)

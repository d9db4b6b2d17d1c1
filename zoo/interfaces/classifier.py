"""What every image classifier offers: timm's methods, over three parts that each
network fills.

features    named stages, image to last feature map; one entry of `feature_info` each
neck        what makes the feature map one vector: pooling, flattening, hidden layers
head        the last layer with weights

Some papers train with auxiliary heads too: `aux`, each on the output of one block
inside the features.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, warn
from zoo.interfaces import input_checks
from zoo.interfaces.network import Network, has_parameters


def stage_indices(indices: int | Sequence[int] | None, count: int) -> list[int]:
    """Stage numbers in ascending order: None is all, an int the last n, negative
    numbers count from the end.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        indices = range(count - indices, count)
    wanted = sorted({index + count if index < 0 else index for index in indices})
    if not wanted or wanted[0] < 0 or wanted[-1] >= count:
        raise InputError(f"stage indices {list(indices)}: this network has stages 0 to {count - 1}")
    return wanted


def linear_head(width: int, num_classes: int) -> nn.Module:
    """Logits of vectors (N, width); with `num_classes` 0 the vectors themselves."""
    return nn.Linear(width, num_classes) if num_classes else nn.Identity()


class AuxHead(nn.Module):
    """A classifier for training only: `body` makes a feature map one vector (N,
    head_hidden_size), `head` its logits (N, num_classes).

    Raises InputError for maps smaller than `smallest`.
    """

    def __init__(
        self, body: nn.Module, head_hidden_size: int, num_classes: int, *, smallest: int = 1
    ) -> None:
        super().__init__()
        self.head_hidden_size = head_hidden_size
        self.smallest = smallest
        self.body = body
        self.head = linear_head(head_hidden_size, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(input_checks.check_aux_map(x, self.smallest)))


class Classifier(Network):
    """Base of the image classifiers. A network adds its stages, sets `neck`,
    `head_hidden_size` and `head`, and initialises.

    Attributes: `num_classes`; `in_chans`; `head_hidden_size`, the width of the vector
    (N, head_hidden_size) before the head; `feature_info`, a dict with `num_chs`,
    `reduction` (input size over map size) and `module` per stage.
    """

    neck: nn.Module
    head: nn.Module
    new_head_note = ""  # said where a new head differs from the paper's

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        if num_classes < 0 or in_chans < 1:
            raise InputError(
                f"num_classes={num_classes}, in_chans={in_chans}: "
                "needs num_classes >= 0 and in_chans >= 1"
            )
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.head_hidden_size = 0
        self.features = nn.Sequential()
        self.aux: nn.ModuleDict | None = None
        self.feature_info: list[dict[str, Any]] = []

    # ------------------------------------------------------------------------- building

    def add_stage(self, name: str, stage: nn.Module, channels: int, reduction: int) -> None:
        """Append a stage to `features`, which gives `channels` channels at
        1/`reduction` of the input's size.
        """
        self.features.add_module(name, stage)
        self.feature_info.append(
            {"num_chs": channels, "reduction": reduction, "module": f"features.{name}"}
        )

    def make_head(self, num_classes: int) -> nn.Module:
        """A new last layer, not yet initialised."""
        return linear_head(self.head_hidden_size, num_classes)

    def set_aux(self, heads: nn.ModuleDict) -> None:
        """Give the network auxiliary heads, by the name of the block, a child of a
        stage, whose output they take. Stages must be sequences: training goes through
        them block by block.
        """
        for name, stage in self.features.named_children():
            if not isinstance(stage, nn.Sequential):
                raise TypeError(
                    f"{type(self).__name__}: with auxiliary heads {name} must be a Sequential"
                )
        blocks = {name for stage in self.features for name, _ in stage.named_children()}
        if missing := sorted(set(heads) - blocks):
            raise TypeError(
                f"{type(self).__name__} has no block {missing[0]!r} for an auxiliary head"
            )
        self.aux = heads

    # -------------------------------------------------------------------------- running

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits (N, num_classes) of images (N, in_chans, H, W), or with `num_classes`
        0 the vectors (N, head_hidden_size) before the head.

        In training mode, a network with auxiliary heads gives (logits, aux1, …).
        """
        if self.aux is None or not self.training:
            return self.forward_head(self.forward_features(x))
        x = self.check_input(x)
        auxiliary = []
        for stage in self.features:
            for name, block in stage.named_children():
                x = self.run_stage(block, x)
                if name in self.aux:
                    auxiliary.append(self.aux[name](x))
        return self.forward_head(x), *auxiliary

    def forward_features(self, x: Tensor) -> Tensor:
        """The last feature map (N, C, H', W'). Raises InputError for a shape that the
        network does not take.
        """
        x = self.check_input(x)
        for stage in self.features:
            x = self.run_stage(stage, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (N, num_classes) of the last feature map, or with `pre_logits` the
        vector (N, head_hidden_size) before the head.
        """
        x = self.neck(x)
        return x if pre_logits else self.head(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        *,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> Any:
        """The last feature map and the maps after the stages `indices` (an int: the
        last n; None: all), in stage order.

        `stop_early` leaves out the stages after the last index; `intermediates_only`
        returns the list alone.
        """
        wanted = stage_indices(indices, len(self.features))
        x = self.check_input(x)
        maps = []
        for index, stage in enumerate(self.features):
            if stop_early and index > max(wanted):
                break
            x = self.run_stage(stage, x)
            if index in wanted:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def check_input(self, x: Tensor) -> Tensor:
        """`x`; raises InputError for a shape that the network does not take."""
        exact = self.image.size[1:] if self.image and self.image.fixed else None
        return input_checks.check_images(
            x, self.architecture, self.in_chans, self.smallest_input(), exact
        )

    def smallest_input(self) -> int:
        """The smallest height and width of an image; 0 where that is not known."""
        return self.image.min_size if self.image else 0

    # ------------------------------------------------------------------------- changing

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one for `num_classes` (0: none), drawn as the paper
        draws it, on the same device and dtype.
        """
        like = next(self.parameters())
        self.num_classes = num_classes
        self.head = self.make_head(num_classes)
        for module in self._auxiliary():
            module.head = linear_head(module.head_hidden_size, num_classes)
        for name, module in self.named_modules():
            if "head" in name.split("."):
                self.init_module(name, module.to(like.device, like.dtype).train(self.training))
        if num_classes and self.new_head_note:
            warn(self.new_head_note)

    def layer_groups(self) -> dict[str, nn.Module]:
        """The named parts that hold parameters, in order from input to head; each
        parameter lies in exactly one.
        """
        auxiliary = {f"aux{number}": module for number, module in enumerate(self._auxiliary(), 1)}
        parts = {
            **dict(self.features.named_children()),
            **auxiliary,
            **dict(self.neck.named_children()),
            "head": self.head,
        }
        return {name: part for name, part in parts.items() if has_parameters(part)}

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """timm's layer groups from input to head, a regular expression per group: the
        blocks of the stages, or with `coarse` the stages.
        """
        units = [f"features.{name}" for name, _ in self.features.named_children()]
        if not coarse:
            units = [unit for stage in units for unit in self._blocks(stage)]
        units += [f"aux.{name}" for name in self.aux or ()]
        units += [f"neck.{name}" for name, _ in self.neck.named_children()]
        return {unit: rf"^{re.escape(unit)}\." for unit in units}

    def _auxiliary(self) -> list[Any]:
        return list(self.aux.values()) if self.aux else []

    def _blocks(self, stage: str) -> list[str]:
        children = self.get_submodule(stage).named_children()
        names = [name for name, child in children if has_parameters(child)]
        if names and all(map(str.isdigit, names)):
            return [f"{stage}.{name}" for name in names]
        return [stage]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass; do not save its activations."""
        self.grad_checkpointing = enable

    # ----------------------------------------------------------------------- describing

    @property
    def num_features(self) -> int:
        """The channels of the last feature map."""
        return int(self.feature_info[-1]["num_chs"]) if self.feature_info else 0

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's description of the input; {} where zoo.create did not make it."""
        if self.origin is None or self.image is None or self.preprocessing is None:
            return {}
        first = (name for name, each in self.named_modules() if isinstance(each, nn.Conv2d))
        smallest = self.image.min_size
        return {
            **self.preprocessing.to_dict(),
            "architecture": self.origin.architecture,
            "tag": self.origin.tag,
            "num_classes": self.num_classes,
            "min_input_size": (self.in_chans, smallest, smallest),
            "fixed_input_size": self.image.fixed,
            "first_conv": next(first, ""),
            "classifier": "head",
        }

    @property
    def default_cfg(self) -> dict[str, Any]:
        return self.pretrained_cfg


def auxiliary_loss(weight: float) -> Callable[[Any, Any, nn.Module], Tensor]:
    """The loss of a network with auxiliary heads: cross-entropy of (images, labels), in
    training plus `weight` times that of each auxiliary output.
    """

    def loss(outputs: Tensor | tuple[Tensor, ...], batch: Any, model: nn.Module) -> Tensor:
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        labels = batch[1]
        extra = sum(F.cross_entropy(output, labels) for output in auxiliary)
        return F.cross_entropy(logits, labels) + weight * extra

    return loss

"""The interface that every image classifier offers: timm's methods, over three parts
that each network fills.

features    named stages, image to last feature map; one entry of `feature_info` each
neck        what makes the feature map one vector: pooling, flattening, hidden layers
head        the last layer with weights

Some papers train with auxiliary heads too: `aux`, each on the output of one block
inside the features.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zoo.errors import InputError, note
from zoo.layers import init

BatchNorm = nn.modules.batchnorm._BatchNorm


def linear_head(num_features: int, num_classes: int) -> nn.Module:
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


class AuxHead(nn.Module):
    """A classifier for training only: `body` makes a feature map one vector (N,
    num_features), `head` its logits (N, num_classes).

    Raises InputError for maps smaller than `smallest`.
    """

    def __init__(
        self, body: nn.Module, num_features: int, num_classes: int, smallest: int = 1
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.smallest = smallest
        self.body = body
        self.head = linear_head(num_features, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if min(height, width) < self.smallest:
            needed = f"{self.smallest}x{self.smallest}"
            raise InputError(
                f"an auxiliary head takes maps of {needed} or larger, not {height}x{width}: use larger images, or aux=False"
            )
        return self.head(self.body(x))


class Classifier(nn.Module):
    """Base of the image classifiers. A network adds its stages, sets `neck`,
    `num_features` and `head`, and initialises.

    Attributes: `num_classes`; `in_chans`; `num_features`, the head's input channels;
    `feature_info`, a dict with `num_chs`, `reduction` (input size over map size) and
    `module` per stage; `pretrained_cfg`, the input that belongs to the network and its
    weights.
    """

    neck: nn.Module
    head: nn.Module
    no_relu_head = ""  # a note for networks whose new head differs from the paper's

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__()
        if num_classes < 0 or in_chans < 1:
            raise InputError(
                f"num_classes={num_classes}, in_chans={in_chans}: needs num_classes >= 0 and in_chans >= 1"
            )
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = 0
        self.features = nn.Sequential()
        self.aux: nn.ModuleDict | None = (
            None  # AuxHeads, by the name of the block (a stage's child) whose output they see
        )
        self.feature_info: list[dict[str, Any]] = []
        self.pretrained_cfg: dict[str, Any] = {}
        self.grad_checkpointing = False

    # ------------------------------------------------------------------------- building

    def add_stage(self, name: str, stage: nn.Module, channels: int, reduction: int) -> None:
        """Append a stage to `features`; its output has `channels` maps of 1/`reduction`
        of the input's size.
        """
        self.features.add_module(name, stage)
        self.feature_info.append(
            {"num_chs": channels, "reduction": reduction, "module": f"features.{name}"}
        )

    def make_head(self, num_classes: int) -> nn.Module:
        """A new last layer, not yet initialised."""
        return linear_head(self.num_features, num_classes)

    def init_module(self, name: str, module: nn.Module) -> None:
        """Draw the parameters that `module` itself holds, as the paper says; networks
        override it.
        """
        raise TypeError(
            f"{type(self).__name__} has no initialisation: define init_module(name, module)"
        )

    def init_weights(self) -> None:
        """Draw every parameter anew and reset every buffer; nothing that a constructor
        makes is left out.
        """
        for name, module in self.named_modules():
            if isinstance(module, BatchNorm):
                init.reset_norm_(module)
            else:
                self.init_module(name, module)

    # -------------------------------------------------------------------------- running

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits (N, num_classes) of images (N, in_chans, H, W); pooled features (N,
        num_features) when num_classes is 0.

        In training mode, a network with auxiliary heads gives (logits, aux1, …).
        """
        if self.aux is None or not self.training:
            return self.forward_head(self.forward_features(x))
        self.check_input(x)
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
        self.check_input(x)
        for stage in self.features:
            x = self.run_stage(stage, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits from the last feature map, or with `pre_logits` the pooled (N,
        num_features) vector before the head.
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
        self.check_input(x)
        maps = []
        for index, stage in enumerate(self.features):
            if stop_early and index > max(wanted):
                break
            x = self.run_stage(stage, x)
            if index in wanted:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def run_stage(self, stage: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(
                stage,
                x,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), frozen_statistics(stage)),
            )
        return stage(x)

    def check_input(self, x: Tensor) -> None:
        name = self.pretrained_cfg.get("architecture", type(self).__name__)
        if x.ndim != 4 or x.shape[1] != self.in_chans:
            raise InputError(
                f"{name} takes images of shape (N, {self.in_chans}, H, W), not {tuple(x.shape)}"
            )
        height, width = self.pretrained_cfg.get("input_size", (0, 0, 0))[1:]
        if self.pretrained_cfg.get("fixed_input_size") and (
            x.shape[2] != height or x.shape[3] != width
        ):
            raise InputError(
                f"{name} takes images of {height}x{width} only, not {x.shape[2]}x{x.shape[3]}: resize them"
            )
        smallest = self.pretrained_cfg.get("min_input_size", (0, 1, 1))[1]
        if x.shape[2] < smallest or x.shape[3] < smallest:
            raise InputError(
                f"{name} takes images of {smallest}x{smallest} or larger, not {x.shape[2]}x{x.shape[3]}: resize them"
            )

    # ------------------------------------------------------------------------- changing

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one for `num_classes` (0: none), drawn as the paper
        draws it, on the same device and dtype.
        """
        like = next(self.parameters())
        self.num_classes = num_classes
        if self.pretrained_cfg:
            self.pretrained_cfg = {**self.pretrained_cfg, "num_classes": num_classes}
        self.head = self.make_head(num_classes)
        for module in self._auxiliary():
            module.head = linear_head(module.num_features, num_classes)
        for name, module in self.named_modules():
            if "head" in name.split("."):
                self.init_module(name, module.to(like.device, like.dtype).train(self.training))
        if num_classes and self.no_relu_head:
            note(self.no_relu_head)

    def stages(self) -> dict[str, nn.Module]:
        """The ordered named parts from input to head that hold parameters: each
        parameter lies in exactly one.
        """
        auxiliary = {f"aux{number}": module for number, module in enumerate(self._auxiliary(), 1)}
        parts = {
            **dict(self.features.named_children()),
            **auxiliary,
            **dict(self.neck.named_children()),
            "head": self.head,
        }
        return {
            name: part for name, part in parts.items() if next(part.parameters(), None) is not None
        }

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """timm's layer groups from input to head, a regular expression per group: the
        stages, or finer their blocks.
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
        children = [
            name
            for name, child in self.get_submodule(stage).named_children()
            if next(child.parameters(), None) is not None
        ]
        return (
            [f"{stage}.{name}" for name in children]
            if children and all(map(str.isdigit, children))
            else [stage]
        )

    def no_weight_decay(self) -> set[str]:
        """Parameters that the paper spares from weight decay: none in most of them."""
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass instead of keeping its
        activations.
        """
        self.grad_checkpointing = enable

    @property
    def head_hidden_size(self) -> int:
        return self.num_features

    @property
    def default_cfg(self) -> dict[str, Any]:
        return self.pretrained_cfg


class FeatureInfo(list[dict[str, Any]]):
    """The chosen entries of a network's `feature_info`, with timm's accessors."""

    def __init__(self, entries: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        super().__init__({**entries[index], "index": index} for index in out_indices)
        self.out_indices = tuple(out_indices)

    def channels(self) -> list[int]:
        return [entry["num_chs"] for entry in self]

    def reduction(self) -> list[int]:
        return [entry["reduction"] for entry in self]

    def module_name(self) -> list[str]:
        return [entry["module"] for entry in self]


class FeatureNet(nn.Module):
    """The stages of a classifier up to the last wanted one; forward gives the list of
    wanted feature maps.
    """

    def __init__(self, model: Classifier, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__()
        wanted = stage_indices(out_indices, len(model.features))
        model.features = model.features[: max(wanted) + 1]
        model.neck = model.head = nn.Identity()
        model.aux = None
        self.model = model
        self.feature_info = FeatureInfo(model.feature_info, wanted)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, self.feature_info.out_indices, intermediates_only=True
        )
        return maps


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


@contextmanager
def frozen_statistics(stage: nn.Module) -> Iterator[None]:
    """Recomputing a stage must not count its batch a second time in the batch norms'
    statistics.
    """
    norms = [module for module in stage.modules() if isinstance(module, BatchNorm)]
    before = [
        (norm, norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms
    ]
    for norm in norms:
        norm.momentum = (
            0.0  # the means stay; leaving them out altogether would change what autograd saves
        )
    try:
        yield
    finally:
        for norm, momentum, buffers in before:
            norm.momentum = momentum
            for buffer, value in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(value)

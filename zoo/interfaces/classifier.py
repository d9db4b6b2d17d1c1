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
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, check_choice, warn
from zoo.interfaces import input_checks
from zoo.interfaces.network import has_parameters
from zoo.interfaces.pretrained_cfg import pretrained_cfg
from zoo.interfaces.stages import StagedNetwork, stage_indices
from zoo.layers.neck import averages_channels, global_pool, set_pooling


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


class Classifier(StagedNetwork):
    """Base of the image classifiers. A network adds its stages, sets `neck`,
    `head_hidden_size` and `head`, and initialises.

    Attributes: `num_classes`; `in_chans`; `head_hidden_size`, the width of the vector
    (N, head_hidden_size) before the head; `feature_info`.
    """

    head: nn.Module
    new_head_note = ""  # said where a new head differs from the paper's
    own_pool = ""  # "avg" or "max" where `forward_head` pools, behind a head of convolutions
    unpooled = False  # forward ends with a map

    def __init__(self, num_classes: int, in_chans: int) -> None:
        super().__init__(in_chans)
        if num_classes < 0 or in_chans < 1:
            raise InputError(
                f"num_classes={num_classes}, in_chans={in_chans}: "
                "needs num_classes >= 0 and in_chans >= 1"
            )
        self.num_classes = num_classes
        self.head_hidden_size = 0
        self.aux: nn.ModuleDict | None = None

    # ------------------------------------------------------------------------- building

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
        0 the vectors (N, head_hidden_size) before the head; with `global_pool` "" the
        map (N, head_hidden_size, H', W') that they are the means of.

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

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head by a new one for `num_classes` (0: none), drawn as the paper
        draws it, on the same device and dtype. `global_pool`: see `set_global_pool`.
        """
        if global_pool is not None or self.unpooled:
            self.set_global_pool(global_pool or "", num_classes)
        like = next(self.parameters())
        self.num_classes = num_classes
        self.before_new_head()
        self.head = self.make_head(num_classes)
        for module in self._auxiliary():
            module.head = linear_head(module.head_hidden_size, num_classes)
        for name, module in self.named_modules():
            if "head" in name.split("."):
                self.init_module(name, module.to(like.device, like.dtype).train(self.training))
        if num_classes and self.new_head_note:
            warn(self.new_head_note)

    def before_new_head(self) -> None:
        """Forget what belongs to the paper's head alone: nothing in most networks."""

    def set_global_pool(self, global_pool: str, num_classes: int) -> None:
        """How the last map becomes a vector in front of a head for `num_classes`: "avg"
        (OverFeat: "max") as in the paper, or "", not at all, which needs 0 classes.

        Raises InputError for another value, and for a network whose hidden layers take
        a map of fixed size.
        """
        pooling = self.own_pool or ("avg" if averages_channels(self.neck) else "")
        if not pooling:
            raise InputError(
                f"{self.architecture} has no global pooling: leave out global_pool (its last map "
                "is in forward_features and features_only=True)"
            )
        check_choice(self.architecture, "global_pool", global_pool, (pooling, ""))
        if num_classes and not global_pool:
            raise InputError(
                f"{self.architecture}: global_pool='' gives a map, which no head takes: it needs "
                f"num_classes=0 (or {num_classes} classes need global_pool={pooling!r})"
            )
        self.unpooled = not global_pool
        if not self.own_pool:
            set_pooling(self.neck, bool(global_pool))

    def prune_intermediate_layers(
        self,
        indices: int | Sequence[int] | None = 1,
        prune_norm: bool = False,
        prune_head: bool = True,
    ) -> list[int]:
        """Take away what the maps after the stages `indices` do not need, and return
        their numbers: all later stages, and the head where `prune_head` says so or a
        stage went. forward then gives the last map that is left.

        `prune_norm`: also the batch norm and ReLU between the last stage and the pool.
        """
        wanted = stage_indices(indices, len(self.features))
        shortened = wanted[-1] + 1 < len(self.features)
        norm = None if prune_norm or shortened else self.final_norm()
        self.features = self.features[: wanted[-1] + 1]
        self.__dict__.pop("last_map_size", None)
        if prune_head or shortened:
            self.aux = None
            self.num_classes, self.head = 0, nn.Identity()
            self.head_hidden_size = self.num_features
            self.neck = nn.Identity() if self.own_pool else global_pool(norm)
            self.set_global_pool("", 0)
        elif prune_norm:
            layers = list(self.neck.named_children())[len(self.final_norm()) :]
            self.neck = nn.Sequential(OrderedDict(layers))
        return wanted

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

    # ----------------------------------------------------------------------- describing

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's description of input and head; {} where zoo.create did not make it."""
        return pretrained_cfg(self)

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

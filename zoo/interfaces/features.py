"""Parts of a classifier as networks of their own: its feature maps, or its output up to
a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.interfaces.classifier import Classifier, stage_indices
from zoo.interfaces.network import Network


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


class Part(Network):
    """A classifier, `model`, of which what is not needed has been taken away."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        model.aux = None
        self.model = model
        self.origin = model.origin

    def init_module(self, name: str, module: nn.Module) -> None:
        """Nothing: the classifier inside draws all its parameters itself."""

    def layer_groups(self) -> dict[str, nn.Module]:
        return self.model.layer_groups()

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        groups = self.model.group_matcher(coarse)
        return {f"model.{unit}": rf"^model\.{rule[1:]}" for unit, rule in groups.items()}

    def no_weight_decay(self) -> set[str]:
        return {f"model.{name}" for name in self.model.no_weight_decay()}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.model.set_grad_checkpointing(enable)

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        return self.model.pretrained_cfg


class FeatureNet(Part):
    """The stages of a classifier up to the last wanted one; forward gives the list of
    wanted feature maps.
    """

    def __init__(self, model: Classifier, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__(model)
        wanted = stage_indices(out_indices, len(model.features))
        model.features = model.features[: max(wanted) + 1]
        model.neck = model.head = nn.Identity()
        self.feature_info = FeatureInfo(model.feature_info, wanted)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, self.feature_info.out_indices, intermediates_only=True
        )
        return maps


class Encoder(Part):
    """A classifier up to one output: that of a module in its features or neck (a path),
    "features" (the last map), "pre_logits" or "logits". What lies behind is removed.

    Raises InputError for a path that does not lie on the network's one way through.
    """

    def __init__(self, model: Classifier, output: str = "pre_logits") -> None:
        super().__init__(model)
        self.output = output
        if output == "logits":
            return
        model.num_classes = 0
        model.head = nn.Identity()
        if output == "pre_logits":
            return
        part, _, path = output.partition(".")
        if part not in ("features", "neck") or output == "neck":
            raise InputError(
                f"{model.architecture} has no output {output!r}: expected 'logits', 'pre_logits', "
                "'features', or the path of a module in features or neck"
            )
        if part == "features":
            model.neck = nn.Identity()
        if path:
            setattr(model, part, _up_to(getattr(model, part), path, output, model.architecture))

    @property
    def num_features(self) -> int:
        """The channels of the output, or its width where it is a vector."""
        if self.output == "logits":
            return self.model.num_classes
        if self.output == "pre_logits":
            return self.model.head_hidden_size
        stages = [f"features.{name}" for name, _ in self.model.features.named_children()]
        if self.output in ("features", *stages):
            return int(self.model.feature_info[len(stages) - 1]["num_chs"])
        image, like = self.model.image, next(self.parameters())
        assert image is not None
        size = image.size[1:] if image.fixed else (image.min_size, image.min_size)
        x = torch.zeros(2, self.model.in_chans, *size, device=like.device, dtype=like.dtype)
        training = self.training
        with torch.no_grad():
            shape = self.eval()(x).shape
        self.train(training)
        return int(shape[1])

    def forward(self, x: Tensor) -> Tensor:
        if self.output == "logits":
            logits: Tensor = self.model(x)
            return logits
        x = self.model.forward_features(x)
        if self.output == "pre_logits":
            return self.model.forward_head(x, pre_logits=True)
        output: Tensor = self.model.neck(x)  # Identity where the output is of a stage
        return output


def _up_to(sequence: nn.Module, path: str, output: str, architecture: str) -> nn.Sequential:
    """The modules of a sequence up to the one at `path`."""
    name, _, inner = path.partition(".")
    names = [key for key, _ in sequence.named_children()]
    if not isinstance(sequence, nn.Sequential) or name not in names:
        known = ", ".join(names) if isinstance(sequence, nn.Sequential) else "no sequence"
        raise InputError(f"{architecture}: no {name!r} on the way to {output!r} (there: {known})")
    kept = sequence[: names.index(name) + 1]
    if inner:
        setattr(kept, name, _up_to(kept.get_submodule(name), inner, output, architecture))
    return kept

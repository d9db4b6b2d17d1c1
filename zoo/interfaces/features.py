"""Parts of a classifier as networks of their own: its feature maps, or its output up to
a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.interfaces.classifier import Classifier
from zoo.interfaces.network import Network
from zoo.interfaces.stages import stage_indices


class FeatureInfo:
    """What is known of the feature maps, with timm's accessors: of those in
    `out_indices`, or with `idx` (a stage number or several) of any stage.

    `info` has a dict per stage of the whole network: `num_chs`, `reduction` (input size
    over map size), `module`, `index`.
    """

    def __init__(self, entries: Sequence[dict[str, Any]], out_indices: Sequence[int]) -> None:
        self.info = [{**entry, "index": index} for index, entry in enumerate(entries)]
        self.out_indices = tuple(out_indices)

    def from_other(self, out_indices: int | Sequence[int]) -> FeatureInfo:
        """The same with other `out_indices`."""
        return FeatureInfo(self.info, stage_indices(out_indices, len(self.info)))

    def get_dicts(
        self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None
    ) -> Any:
        """The dicts, or of each the entries `keys`; one dict where `idx` is a number.

        Raises InputError for a key or a stage that there is not.
        """
        if isinstance(idx, int):
            return self._dict(idx, keys)
        return [self._dict(index, keys) for index in (self.out_indices if idx is None else idx)]

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """The values of one key; one value where `idx` is a number."""
        found = self.get_dicts([key], idx)
        return found[key] if isinstance(idx, int) else [entry[key] for entry in found]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        return self.get("module", idx)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.info[index]

    def __len__(self) -> int:
        return len(self.info)

    def _dict(self, index: int, keys: Sequence[str] | None) -> dict[str, Any]:
        (stage,) = stage_indices([index], len(self.info))
        entry = self.info[stage]
        for key in keys or ():
            check_choice("feature_info", "key", key, entry)
        return entry if keys is None else {key: entry[key] for key in keys}


class Part(Network):
    """A classifier, `model`, of which what is not needed has been taken away."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        model.aux = None
        self.model = model
        self.origin = model.origin
        self.image = model.image
        self.preprocessing = model.preprocessing

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
    def in_chans(self) -> int:
        return self.model.in_chans

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's description of the input; as in timm, that of the head is left out."""
        whole = self.model.pretrained_cfg
        if whole.get("first_conv"):
            whole["first_conv"] = f"model.{whole['first_conv']}"
        return {key: whole[key] for key in whole if key not in ("num_classes", "classifier")}

    @property
    def default_cfg(self) -> dict[str, Any]:
        return self.pretrained_cfg


class FeatureNet(Part):
    """The stages of a classifier up to the last wanted one; forward gives the list of
    wanted feature maps. `feature_info` says what they are.
    """

    def __init__(self, model: Classifier, out_indices: int | Sequence[int] | None = None) -> None:
        super().__init__(model)
        wanted = model.prune_intermediate_layers(out_indices)
        model.neck = nn.Identity()
        self.feature_info = FeatureInfo(model.feature_info, wanted)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, self.feature_info.out_indices, intermediates_only=True
        )
        return maps

    def extra_repr(self) -> str:
        return f"architecture={self.architecture!r}, out_indices={self.feature_info.out_indices}"


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
            return self.model.num_features
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

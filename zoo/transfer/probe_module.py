"""A fitted head as a network that predicts like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.training.environment import seeded
from zoo.transfer.head_options import head_config, head_from_config
from zoo.transfer.heads import fit_head
from zoo.transfer.stages import PRE_LOGITS, evaluating, head_of, stage_features


class Probe(nn.Module):
    """Images (N, C, H, W) to the logits (N, classes) that `head` gives of the stages of
    a frozen network, `mirrored`: of their mean over the image and its mirror image.

    The body gets no gradients and stays in evaluation mode.
    """

    def __init__(
        self, body: nn.Module, stages: Sequence[str], head: nn.Module, mirrored: bool = False
    ) -> None:
        super().__init__()
        self.body, self.head = body.requires_grad_(False).eval(), head
        self.stages, self.mirrored = tuple(stages), mirrored
        self.preprocessing = getattr(body, "preprocessing", None)

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            found = stage_features(self.body, images, self.stages, mirrored=self.mirrored)
        logits: Tensor = self.head(torch.cat(list(found.values()), 1))
        return logits

    def train(self, mode: bool = True) -> Probe:
        super().train(mode)
        self.body.eval()
        return self

    def to_config(self) -> dict[str, Any]:
        """What, with the body, rebuilds it, but for the numbers."""
        return {
            "stages": list(self.stages),
            "mirrored": self.mirrored,
            "head": head_config(self.head),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], body: nn.Module) -> Probe:
        """A probe of this shape, whose state dict is to be loaded. Raises InputError
        for an incomplete entry.
        """
        try:
            return cls(body, config["stages"], head_from_config(config["head"]), config["mirrored"])
        except (KeyError, TypeError) as error:
            raise InputError(f"the entry head of config.json lacks {error}") from error

    def extra_repr(self) -> str:
        return f"stages={self.stages}, mirrored={self.mirrored}"


def with_fitted_head(
    model: nn.Module,
    stages: Sequence[str],
    head: nn.Module,
    images: Tensor,
    *,
    mirrored: bool = False,
    seed: int = 0,
) -> nn.Module:
    """The network with the fitted head, which predicts what was measured: where the
    head is linear and takes what the network's own takes, that one gets its numbers;
    else a Probe.

    `images` (N, C, H, W) are those that it is tried on. The network is changed in
    place: its own head is one for these classes in any case.
    """
    with evaluating(model):
        images = images.to(next(model.parameters(), images).device)
        rows = stage_features(model, images, stages, mirrored=mirrored)
        wanted = head.eval()(torch.cat(list(rows.values()), 1))
        with seeded(seed):
            if hasattr(model, "reset_classifier"):  # also one that fits, but has a ReLU
                model.reset_classifier(wanted.shape[1])  # type: ignore[operator]
            model = fit_head(model, wanted.shape[1], images)
        same_input = tuple(stages) == (PRE_LOGITS,) and not mirrored
        if same_input and isinstance(head, nn.Linear) and _take_over(model, head):
            found = model(images)
            if (found - wanted).abs().max() <= 1e-3 * wanted.abs().max():
                return model
    return Probe(model, stages, head, mirrored)


def _take_over(model: nn.Module, linear: nn.Linear) -> bool:
    """Give the network's own last layer the numbers; False where it is of another
    kind.
    """
    layers = [layer for layer in head_of(model).modules() if list(layer.parameters(False))]
    if len(layers) != 1 or not isinstance(layer := layers[0], (nn.Linear, nn.Conv2d)):
        return False
    if layer.bias is None or layer.weight.numel() != linear.weight.numel():
        return False
    layer.weight.copy_(linear.weight.view_as(layer.weight))
    layer.bias.copy_(linear.bias)
    return True

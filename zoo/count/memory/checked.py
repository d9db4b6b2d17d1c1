"""What predictions for a GPU have been held against (tests/gpu)."""

from __future__ import annotations

import torch

GPUS = ("NVIDIA H200",)
NETWORKS = (
    "alexnet",
    "vgg16",
    "googlenet",
    "resnet50",
    "densenet121",
    "squeezenet1_1",
    "inception_v4",
    "resnet20_cifar10",
    "ciresan_mlp4",
)


def unchecked(architecture: str, device: str) -> str:
    """What of a prediction was never held against a GPU, in one line; "" for nothing.
    `architecture` is "" for a module of the user's own.
    """
    if device != "cuda":
        return ""
    here = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    parts = [] if architecture in NETWORKS else [architecture or "this module"]
    parts += [here] if here and here not in GPUS else []
    if not parts:
        return ""
    return f"not checked on a GPU: {', '.join(parts)}; checked: {', '.join(NETWORKS)}, on {GPUS[0]}"

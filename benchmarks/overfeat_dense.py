"""OverFeat's dense evaluation (section 3.3) against running every window as a crop:
what it costs, and what the border of zeros changes.

The figures of docs/overfeat_dense.md. `--time` measures one scale too.
"""

import sys

import torch
from pairs import compare, report
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

import zoo
from zoo.models.overfeat import OverFeat

SCALES = ((245, 245), (281, 317), (317, 389), (389, 461), (425, 497), (461, 569))  # Table 5


class Dense(nn.Module):
    """The fine map as a module, to be counted."""

    def __init__(self, model: OverFeat) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model.forward_map(x, fine=True)


def each_crop(model: OverFeat, x: Tensor) -> Tensor:
    """The fine map (1, num_classes, H', W'), a crop at a time."""
    window, step = model.window, model.step // model.pool
    rows, columns = (range(0, side - window + 1, step) for side in x.shape[2:])
    scores = [
        model(x[:, :, top : top + window, left : left + window]) for top in rows for left in columns
    ]
    return torch.stack(scores, -1).unflatten(-1, (len(rows), len(columns)))


def costs() -> None:
    with torch.device("meta"):
        model = zoo.create("overfeat_accurate").eval()
    crop = zoo.profile(model, input_size=(3, model.window, model.window)).macs
    print(
        "| image | windows | dense, GMACs | crops, GMACs | crops / dense |\n|---|---|---|---|---|"
    )
    for height, width in SCALES:
        windows = (
            model.forward_map(torch.empty(1, 3, height, width, device="meta"), fine=True)
            .shape[2:]
            .numel()
        )
        dense = zoo.profile(Dense(model), input_size=(3, height, width)).macs
        print(
            f"| {height}x{width} | {windows} | {dense / 1e9:.1f} | {windows * crop / 1e9:.1f} "
            f"| {windows * crop / dense:.1f} |"
        )


def photo(model: OverFeat, height: int, width: int) -> Tensor:
    """scikit-learn's picture of a flower (1, 3, height, width), in the network's
    preprocessing.
    """
    image = functional.to_dtype(
        torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1),
        torch.float32,
        scale=True,
    )
    image = functional.resize(image, [height, width], antialias=True)
    return functional.normalize(image, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])[
        None
    ]


@torch.inference_mode()
def differences() -> None:
    print(
        "| padding | window | image | windows | rms difference | largest | best class the same |\n"
        "|---|---|---|---|---|---|---|"
    )
    for padding, (height, width) in ((1, (281, 317)), (0, (353, 389))):
        torch.manual_seed(0)
        model = zoo.create("overfeat_accurate", padding=padding).eval()
        x = photo(model, height, width)
        dense, crops = model.forward_map(x, fine=True), each_crop(model, x)
        difference = (dense - crops) / crops.std()
        same = (dense.argmax(1) == crops.argmax(1)).sum().item()
        windows = dense.shape[2:].numel()
        print(
            f"| {padding} | {model.window} | {height}x{width} | {windows} "
            f"| {difference.square().mean().sqrt():.1e} | {difference.abs().max():.1e} | {same} |"
        )


@torch.inference_mode()
def times() -> None:
    model = zoo.create("overfeat_accurate").eval()
    x = photo(model, 281, 317)
    result = compare(lambda: model.forward_map(x, fine=True), lambda: each_crop(model, x), rounds=3)
    report("fine map of 281x317 / its 54 crops", result, "below 1")


costs()
differences()
if "--time" in sys.argv:
    times()

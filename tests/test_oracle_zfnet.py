"""ZFNet against a plain second implementation, at its own size and at one where the
last map is averaged.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error
from torch import nn

import zoo
from zoo.models.zfnet import renormalise_filters


def windows(x, starts, ends, reduce):
    """`reduce` over the rows and columns start to end, cut off at the border."""
    rows = [
        torch.stack([reduce(x[:, :, a:b, c:d]) for c, d in zip(starts, ends, strict=True)], -1)
        for a, b in zip(starts, ends, strict=True)
    ]
    return torch.stack(rows, -2)


def pool(x):
    """3x3, stride 2, no padding, rounded up."""
    starts = [2 * i for i in range(math.ceil((x.shape[2] - 3) / 2) + 1)]
    return windows(x, starts, [start + 3 for start in starts], lambda part: part.amax((2, 3)))


def average_to_6(x):
    side = x.shape[2]
    return windows(
        x,
        [i * side // 6 for i in range(6)],
        [-(-(i + 1) * side // 6) for i in range(6)],
        lambda part: part.mean((2, 3)),
    )


def normalise(x):
    squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
    return x / (2 + 1e-4 * sum(squares[:, n : n + x.shape[1]] for n in range(5))) ** 0.75


def plain_zfnet(state, training):
    """Fig. 3 from the sheet."""

    def conv(x, number, stride, padding):
        weight, bias = (state[f"features.stage{number}.conv.{part}"] for part in ("weight", "bias"))
        return F.conv2d(x, weight, bias, stride, padding).clamp(min=0)

    def forward(x):
        x = normalise(pool(conv(x, 1, 2, 1)))
        x = normalise(pool(conv(x, 2, 2, 0)))
        x = pool(conv(conv(conv(x, 3, 1, 1), 4, 1, 1), 5, 1, 1))
        x = average_to_6(x).flatten(1)  # (N, 9216)
        for layer in ("neck.fc6", "neck.fc7"):
            x = (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
        return x @ state["head.weight"].T + state["head.bias"]

    return forward


NARROW = {"channels": (24, 64, 96, 96, 64), "num_classes": 50}
WHOLE = Case("zfnet", plain_zfnet, batch=1)
OWN = Case("zfnet", plain_zfnet, model_args=NARROW)
LARGER = Case("zfnet", plain_zfnet, size=288, model_args=NARROW)  # its last map has 8x8 pixels
CASES = {
    "whole": (WHOLE, False),
    "eval": (OWN, False),
    "train": (OWN, True),
    "larger": (LARGER, False),
}


@pytest.mark.parametrize(("case", "training"), CASES.values(), ids=CASES.keys())
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def norm_before_pool(model):
    stage = model.features.stage1
    stage.pool, stage.norm = stage.norm, stage.pool


def lose_lrn(model):
    model.features.stage2.norm.alpha = 1e-4  # torch's reading of the paper's constant


def pad_pool(model):
    model.features.stage1.pool = nn.MaxPool2d(3, 2, padding=1)  # gives 55 too


@pytest.mark.parametrize("mutate", [norm_before_pool, lose_lrn, pad_pool])
def test_the_oracle_sees_mistakes(mutate):
    assert error(OWN, mutate=mutate) > 10 * TOLERANCE


def test_maps_of_the_wide_network():
    with torch.device("meta"):
        maps = zoo.create("zfnet512", features_only=True)(
            torch.empty(1, 3, 224, 224, device="meta")
        )
    assert [tuple(m.shape[1:]) for m in maps] == [
        (96, 55, 55),
        (256, 13, 13),
        (512, 13, 13),
        (1024, 13, 13),
        (512, 6, 6),
    ]


def test_renormalise_filters():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].weight[:2] *= 10  # U(±0.19) times 10
        net[0].weight[2:] *= 0.1
        net[2].weight.fill_(7)
    before = net[0].weight.detach().clone()
    renormalise_filters(net)
    after = net[0].weight.detach()
    torch.testing.assert_close(after[:2].square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.1))
    torch.testing.assert_close(
        after[:2] / after[:2].norm(),
        F.normalize(before[:2].flatten(1)).view_as(after[:2]) / math.sqrt(2),
    )
    assert torch.equal(after[2:], before[2:])
    assert (net[2].weight == 7).all()

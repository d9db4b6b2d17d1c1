"""BN-Inception (reading A) against a plain second implementation: no peer has its
channels, its padding and its means at once.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error
from torch import nn

from zoo.models.bn_inception import HalvingPool

MODULES = {  # sheet, table of section 2A: stage, stride, pool, whether it is projected
    "3a": (3, 1, "avg", True),
    "3b": (3, 1, "avg", True),
    "3c": (4, 2, "max", False),
    "4a": (4, 1, "avg", True),
    "4b": (4, 1, "avg", True),
    "4c": (4, 1, "avg", True),
    "4d": (4, 1, "avg", True),
    "4e": (5, 2, "max", False),
    "5a": (5, 1, "avg", True),
    "5b": (5, 1, "max", True),
}


def plain_bn_inception(state, training):
    def unit(x, name, kernel=1, stride=1):
        weight = state[f"{name}.conv.weight"]
        assert weight.shape[2:] == (kernel, kernel)
        x = F.conv2d(x, weight, stride=stride, padding=(kernel - 1) // 2)
        mean, var = state[f"{name}.bn.running_mean"], state[f"{name}.bn.running_var"]
        if training:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        scale = state[f"{name}.bn.weight"] / (var + 1e-3).sqrt()
        return (
            x * scale[:, None, None] + (state[f"{name}.bn.bias"] - mean * scale)[:, None, None]
        ).clamp(min=0)

    def mean_3x3(x):
        inside = F.avg_pool2d(
            torch.ones_like(x), 3, 1, 1
        )  # the share of the window that is not padding
        return F.avg_pool2d(x, 3, 1, 1) / inside

    def maxima(x, stride):
        if stride == 1 or x.shape[2] % 2:
            return F.max_pool2d(x, 3, stride, 1)
        return F.max_pool2d(x, 3, stride, ceil_mode=True)  # as Caffe has it

    def module(x, row):
        stage, stride, pool, projected = MODULES[row]
        name = f"features.stage{stage}.inception{row}"
        three = unit(unit(x, f"{name}.branch3x3.0"), f"{name}.branch3x3.1", 3, stride)
        double = unit(unit(x, f"{name}.branch_double.0"), f"{name}.branch_double.1", 3)
        double = unit(double, f"{name}.branch_double.2", 3, stride)
        pooled = mean_3x3(x) if pool == "avg" else maxima(x, stride)
        pooled = unit(pooled, f"{name}.branch_pool.1") if projected else pooled
        return torch.cat(
            [*([unit(x, f"{name}.branch1x1")] if stride == 1 else []), three, double, pooled], 1
        )

    def forward(x):
        x = F.max_pool2d(unit(x, "features.stage1.conv1", 7, 2), 3, 2, ceil_mode=True)
        x = unit(unit(x, "features.stage2.conv2_reduce"), "features.stage2.conv2", 3)
        x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        for row in MODULES:
            x = module(x, row)
        return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]

    return forward


CASE = Case("bn_inception", plain_bn_inception, size=160, batch=3)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "case", [CASE, Case("bn_inception", plain_bn_inception, size=117, batch=3)], ids=["160", "117"]
)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def test_the_halving_pool_at_each_size():
    """Maxima of the cells that are there: it begins one cell before the map at odd
    sizes only.
    """
    for height in range(4, 8):
        for width in range(4, 8):
            x = torch.randn(2, 3, height, width)
            expected = [
                [
                    x[:, :, max(0, top) : top + 3, max(0, left) : left + 3].amax((2, 3))
                    for left in range(-(width % 2), width - 1, 2)
                ]
                for top in range(-(height % 2), height - 1, 2)
            ]
            rows = torch.stack([torch.stack(row, -1) for row in expected], -2)
            assert torch.equal(HalvingPool()(x), rows)


def drop_relu(model):
    model.features.stage4.inception4b.branch_double[1].relu = nn.Identity()


def swap_norms(model):
    branch = model.features.stage5.inception5a.branch_double
    branch[1].bn, branch[2].bn = branch[2].bn, branch[1].bn


def count_padding(model):
    model.features.stage4.inception4c.branch_pool[0].count_include_pad = True


def mean_in_5b(model):
    model.features.stage5.inception5b.branch_pool[0] = nn.AvgPool2d(3, 1, padding=1)


def pad_before(model):
    model.features.stage4.inception3c.branch_pool = nn.MaxPool2d(3, 2, padding=1)


def move_stride(model):
    branch = model.features.stage4.inception3c.branch_double
    branch[1].conv.stride, branch[2].conv.stride = (2, 2), (1, 1)


@pytest.mark.parametrize(
    "mutate", [drop_relu, swap_norms, count_padding, mean_in_5b, move_stride, pad_before]
)
def test_the_oracle_sees_mistakes(mutate):
    assert error(CASE, mutate=mutate) > 10 * TOLERANCE

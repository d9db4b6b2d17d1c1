"""Network in Network against a plain second implementation: its only public peer pools
over other windows.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error
from torch import nn

import zoo
from zoo.errors import InputError

BLOCKS = {  # sheet: kernel, stride and padding of the first convolution of each block
    "nin": ((11, 4, 0), (5, 1, 2), (3, 1, 1), (3, 1, 1)),
    "nin_cifar10": ((5, 1, 2), (5, 1, 2), (3, 1, 1)),
}


def pool(x, reduce):
    """3x3, stride 2, no padding, rounded up; windows end at the border."""
    starts = [2 * i for i in range(math.ceil((x.shape[2] - 3) / 2) + 1)]
    rows = [
        torch.stack([reduce(x[:, :, i : i + 3, j : j + 3]) for j in starts], -1) for i in starts
    ]
    return torch.stack(rows, -2)


def plain_nin(name, last_pool="amax", head_relu=True):
    """The tables of the sheet."""

    def peer(state, training):
        def conv(x, layer, stride=1, padding=0):
            return F.conv2d(x, state[f"{layer}.weight"], state[f"{layer}.bias"], stride, padding)

        def forward(x):
            count = len(BLOCKS[name])
            for n, (kernel, stride, padding) in enumerate(BLOCKS[name], 1):
                if n > 1:
                    x = pool(
                        x,
                        lambda part, n=n: getattr(part, last_pool if n == count else "amax")(
                            (2, 3)
                        ),
                    )
                layer = f"features.stage{n}.conv{n}"
                assert state[f"{layer}.weight"].shape[2:] == (kernel, kernel)
                x = conv(x, layer, stride, padding).clamp(min=0)
                x = conv(x, f"features.stage{n}.cccp{2 * n - 1}").clamp(min=0)
                if n < count:
                    x = conv(x, f"features.stage{n}.cccp{2 * n}").clamp(min=0)
            x = conv(x, "head")
            return (x.clamp(min=0) if head_relu else x).mean((2, 3))

        return forward

    return peer


IMAGENET = Case("nin", plain_nin("nin"), size=131)
CIFAR = Case("nin_cifar10", plain_nin("nin_cifar10"))
CAFFE = Case(
    "nin_cifar10", plain_nin("nin_cifar10", last_pool="mean"), model_args={"pools": ("max", "avg")}
)
LINEAR = Case(
    "nin_cifar10",
    plain_nin("nin_cifar10", head_relu=False),
    size=20,
    model_args={"head_relu": False},
)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", [IMAGENET, CIFAR, CAFFE, LINEAR], ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def drop_relu(model):
    model.features.stage2.relu_cccp3 = nn.Identity()


def drop_head_relu(model):
    model.head_relu = False


def pad_pool(model):
    model.features.stage2.pool = nn.MaxPool2d(3, 2, padding=1)  # gives 16 too


def count_the_border(model):
    model.features.stage3.pool = nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.AvgPool2d(3, 2)
    )  # divides by 9 there


MUTATIONS = [
    (CIFAR, drop_relu),
    (CIFAR, drop_head_relu),
    (CIFAR, pad_pool),
    (CAFFE, count_the_border),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


MAPS = {
    ("nin", 224): [(96, 54), (256, 27), (384, 13), (1024, 6)],
    ("nin", 227): [(96, 55), (256, 27), (384, 13), (1024, 6)],
    ("nin_cifar100", 32): [(96, 32), (192, 16), (192, 8)],
}


@pytest.mark.parametrize(("name", "size"), MAPS)
def test_map_sizes(name, size):
    with torch.device("meta"):
        maps = zoo.create(name, features_only=True)(torch.empty(1, 3, size, size, device="meta"))
    assert [m.shape[1:3] for m in maps] == MAPS[name, size]


def test_wrong_pools():
    with pytest.raises(InputError, match=r"NiN: pools=\('max',\): expected 2 of them"):
        zoo.create("nin_cifar10", pools=("max",))
    with pytest.raises(InputError, match="NiN: pools='mean': expected 'max' or 'avg'"):
        zoo.create("nin_cifar10", pools=("max", "mean"))

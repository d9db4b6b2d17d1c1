"""VGG against torchvision; A-LRN and C, which torchvision lacks, against a plain second
implementation.
"""

import pytest
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error, slow, torchvision_peer
from torch import nn

import zoo
from zoo.errors import InputError

STAGES = {  # sheet: configurations A and C
    "vgg11_lrn": (1, 1, 2, 2, 2),
    "vgg16_1x1": (2, 2, 3, 3, 3),
}


def plain_vgg(name):
    def peer(state, training):
        def forward(x):
            for stage, count in enumerate(STAGES[name], 1):
                for i in range(1, count + 1):
                    weight, bias = (
                        state[f"features.stage{stage}.conv{i}.weight"],
                        state[f"features.stage{stage}.conv{i}.bias"],
                    )
                    one_by_one = name == "vgg16_1x1" and stage >= 3 and i == 3
                    assert weight.shape[2:] == ((1, 1) if one_by_one else (3, 3))
                    x = F.conv2d(x, weight, bias, padding=0 if one_by_one else 1).clamp(min=0)
                    if name == "vgg11_lrn" and stage == 1:
                        squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
                        total = sum(squares[:, n : n + x.shape[1]] for n in range(5))
                        x = x / (2 + 1e-4 * total) ** 0.75
                x = F.max_pool2d(x, 2)
            x = x.reshape(len(x), 512 * 7 * 7)
            for layer in ("neck.fc6", "neck.fc7"):
                x = (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
            return x @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


VGG16_BN = Case("vgg16_bn", torchvision_peer("vgg16_bn"), size=96)
NARROW = {"hidden": 256}
LRN, ONE_BY_ONE = (Case(name, plain_vgg(name), batch=1, model_args=NARROW) for name in STAGES)
OTHERS = [
    Case("vgg16", torchvision_peer("vgg16")),
    *(Case(name, plain_vgg(name)) for name in STAGES),
    *(
        Case(name, torchvision_peer(name), size=64)
        for name in ("vgg11", "vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "vgg19_bn")
    ),
]


@pytest.mark.parametrize("case", [*map(slow, OTHERS), ONE_BY_ONE, LRN, VGG16_BN], ids=str)
def test_full_logits(case):
    assert error(case) < TOLERANCE


@pytest.mark.parametrize("case", [VGG16_BN, *map(slow, OTHERS)], ids=str)
def test_full_logits_in_training(case):
    assert error(case, training=True) < TOLERANCE


def drop_relu(model):
    model.features.stage3.relu2 = nn.Identity()


def swap_norms(model):
    stage = model.features.stage4
    stage.norm2, stage.norm3 = stage.norm3, stage.norm2


def lose_lrn(model):
    model.features.stage1.lrn.alpha = 1e-4  # torch's reading of the paper's constant


@pytest.mark.parametrize(
    ("case", "mutate"), [(VGG16_BN, drop_relu), (VGG16_BN, swap_norms), (LRN, lose_lrn)]
)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


def test_unknown_choices_are_named():
    with pytest.raises(InputError, match="VGG: init='he': expected 'glorot' or 'paper'"):
        zoo.create("vgg11", init="he", device="meta")

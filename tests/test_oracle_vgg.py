"""VGG against torchvision; A-LRN and C, which torchvision lacks, against a plain second
implementation.
"""

import pytest
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error, torchvision_peer
from torch import nn

STAGES = {
    "vgg11_lrn": (1, 1, 2, 2, 2),
    "vgg16_1x1": (2, 2, 3, 3, 3),
}  # sheet: configurations A and C


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


CASES = [
    *(
        Case(name, torchvision_peer(name), size=64)
        for name in ("vgg11", "vgg13", "vgg19", "vgg11_bn", "vgg13_bn", "vgg19_bn")
    ),
    Case("vgg16", torchvision_peer("vgg16")),
    Case("vgg16_bn", torchvision_peer("vgg16_bn"), size=96),
    *(Case(name, plain_vgg(name)) for name in STAGES),
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def drop_relu(model):
    model.features.stage3.relu2 = nn.Identity()


def swap_norms(model):
    stage = model.features.stage4
    stage.norm2, stage.norm3 = stage.norm3, stage.norm2


def lose_lrn(model):
    model.features.stage1.lrn.alpha = 1e-4  # torch's reading of the paper's constant


@pytest.mark.parametrize(
    ("case", "mutate"), [(CASES[7], drop_relu), (CASES[7], swap_norms), (CASES[8], lose_lrn)]
)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE

"""ResNet against torchvision (v1.5) and pytorchcv (v1); the readings that no peer has,
against a plain second implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, error, slow, torchvision_peer
from torch import nn

import zoo
from zoo.layers.residual import PadShortcut


def pytorchcv_peer(state, training):
    """pytorchcv's resnet50: the stride in the first 1x1."""
    from pytorchcv.models.resnet import resnet50

    names = {"features.conv1.": "features.init_block.conv.", "head": "output"}
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            ours, theirs = (
                f"features.conv{stage + 1}_x.{block}",
                f"features.stage{stage}.unit{block + 1}",
            )
            names |= {f"{ours}.conv{i}": f"{theirs}.body.conv{i}.conv" for i in (1, 2, 3)}
            names |= {f"{ours}.bn{i}": f"{theirs}.body.conv{i}.bn" for i in (1, 2, 3)}
            names |= {
                f"{ours}.downsample.0": f"{theirs}.identity_conv.conv",
                f"{ours}.downsample.1": f"{theirs}.identity_conv.bn",
            }
    with torch.device("meta"):
        theirs = resnet50()
    theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # theirs takes 224 only
    prefixes = {key: next(prefix for prefix in names if key.startswith(prefix)) for key in state}
    theirs.load_state_dict(
        {names[p] + key.removeprefix(p): state[key] for key, p in prefixes.items()}, assign=True
    )
    return theirs.train(training)


def plain_resnet(stages, option, pad="after"):
    """Section 3.3 and Table 1 (or section 4.2) from the sheet; `stages` names the
    stages, from the first without a stride on.
    """

    def peer(state, training):
        def conv(x, name, stride=1):
            weight = state[f"{name}.weight"]
            return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

        def norm(x, name):
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
            if training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
            return x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]

        def shortcut(x, out, name, stride):
            if not option:
                return torch.zeros_like(out)
            if option == "C" or (option == "B" and x.shape != out.shape):
                return norm(conv(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
            x = x[:, :, ::stride, ::stride]
            missing = out.shape[1] - x.shape[1]
            before = torch.zeros_like(out[:, : missing // 2 if pad == "both" else 0])
            after = torch.zeros_like(out[:, : missing - before.shape[1]])
            return torch.cat([before, x, after], 1)

        def block(x, name, stride):
            count = 3 if f"{name}.conv3.weight" in state else 2
            out = x
            for i in range(1, count + 1):
                out = norm(conv(out, f"{name}.conv{i}", stride if i == 1 else 1), f"{name}.bn{i}")
                out = out.clamp(min=0) if i < count else out
            return (out + shortcut(x, out, name, stride)).clamp(min=0)

        def forward(x):
            imagenet = state["features.conv1.conv.weight"].shape[2] == 7
            x = norm(
                conv(x, "features.conv1.conv", 2 if imagenet else 1), "features.conv1.bn"
            ).clamp(min=0)
            if imagenet:
                x = F.max_pool2d(x, 3, 2, 1)
            for stage in stages:
                i = 0
                while f"features.{stage}.{i}.conv1.weight" in state:
                    x = block(x, f"features.{stage}.{i}", 2 if i == 0 and stage != stages[0] else 1)
                    i += 1
            return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


IMAGENET = ("conv2_x", "conv3_x", "conv4_x", "conv5_x")
CIFAR = ("stage1", "stage2", "stage3")
OPTION_A = {
    pad: Case(
        "resnet20_cifar10", plain_resnet(CIFAR, "A", pad), batch=4, model_args={"shortcut_pad": pad}
    )
    for pad in ("after", "both")
}
V1 = Case("resnet50", pytorchcv_peer, size=96)
V1_5 = Case("resnet50_v1_5", torchvision_peer("resnet50_v1_5", "resnet50"), size=96)
PLAIN = Case("plain18", plain_resnet(IMAGENET, ""), size=64)
RESNET18 = Case("resnet18", torchvision_peer("resnet18"), size=64)
CASES = [
    Case("resnet18", torchvision_peer("resnet18")),
    slow(Case("resnet34", torchvision_peer("resnet34"), size=64)),
    V1,
    V1_5,
    PLAIN,
    Case("resnet18", plain_resnet(IMAGENET, "A"), size=64, model_args={"shortcut": "A"}),
    Case("resnet18", plain_resnet(IMAGENET, "C"), size=64, model_args={"shortcut": "C"}),
    Case(
        "resnet50",
        plain_resnet(IMAGENET, "A", "both"),
        size=64,
        model_args={"shortcut": "A", "shortcut_pad": "both"},
    ),
    *OPTION_A.values(),
    Case("resnet20_cifar10", plain_resnet(CIFAR, "B"), batch=4, model_args={"shortcut": "B"}),
    slow(Case("resnet56_cifar10", plain_resnet(CIFAR, "A"), batch=4)),
    Case("plain20_cifar10", plain_resnet(CIFAR, ""), batch=4),
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def test_statistics_after_training():
    """A training pass moves the running statistics as torchvision's do."""
    ours, x = build(RESNET18)
    before = {
        key: value.clone() for key, value in zoo.export_state_dict(ours, "torchvision").items()
    }
    theirs = RESNET18.peer({key: value.clone() for key, value in ours.state_dict().items()}, True)
    with torch.no_grad():
        ours.train()(x)
        theirs(x)
    after = zoo.export_state_dict(ours, "torchvision")
    for key, value in theirs.named_buffers():
        assert not torch.equal(before[key], value)
        torch.testing.assert_close(after[key], value, rtol=1e-4, atol=1e-5)


def drop_relu(model):
    model.features.conv3_x[1].relu1 = nn.Identity()


def drop_last_relu(model):
    model.features.conv5_x[1].relu = nn.Identity()


def swap_norms(model):
    block = model.features.conv4_x[1]
    block.bn1, block.bn2 = block.bn2, block.bn1


def move_stride_to_3x3(model):
    block = model.features.conv4_x[0]
    block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)


def move_stride_to_1x1(model):
    block = model.features.conv4_x[0]
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def move_zeros(model):
    shortcut = model.features.stage2[0].downsample
    shortcut.before, shortcut.after = (8, 8) if shortcut.before == 0 else (0, 16)


def add_shortcut(model):
    model.features.conv3_x[1].downsample = nn.Identity()


MUTATIONS = [
    (RESNET18, drop_relu),
    (RESNET18, drop_last_relu),
    (RESNET18, swap_norms),
    (V1, move_stride_to_3x3),
    (V1_5, move_stride_to_1x1),
    (OPTION_A["after"], move_zeros),
    (OPTION_A["both"], move_zeros),
    (PLAIN, add_shortcut),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


def test_gradients_of_the_padded_shortcut():
    x = torch.randn(2, 2, 3, 4, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(PadShortcut(2, 1, 2), (x,))

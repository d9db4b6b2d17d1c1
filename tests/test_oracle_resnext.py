"""ResNeXt against torchvision (ImageNet) and pytorchcv (CIFAR), and the three forms of
its block against one another.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, error, torchvision_peer
from torch import nn

import zoo


def pytorchcv_peer(state, training):
    """pytorchcv's CIFARResNeXt, cardinality 8, width 64, one block per stage."""
    from pytorchcv.models.resnext_cifar import CIFARResNeXt

    names = {"features.conv1.": "features.init_block.", "head.": "output."}
    for stage in (1, 2, 3):
        ours, theirs = f"features.stage{stage}.0", f"features.stage{stage}.unit1"
        names |= {f"{ours}.conv{i}.": f"{theirs}.body.conv{i}.conv." for i in (1, 2, 3)}
        names |= {f"{ours}.bn{i}.": f"{theirs}.body.conv{i}.bn." for i in (1, 2, 3)}
        names |= {
            f"{ours}.downsample.0.": f"{theirs}.identity_conv.conv.",
            f"{ours}.downsample.1.": f"{theirs}.identity_conv.bn.",
        }
    with torch.device("meta"):
        theirs = CIFARResNeXt(
            [[256], [512], [1024]], init_block_channels=64, cardinality=8, bottleneck_width=64
        )
    keys = {key: next(prefix for prefix in names if key.startswith(prefix)) for key in state}
    theirs.load_state_dict(
        {names[p] + key.removeprefix(p): state[key] for key, p in keys.items()}, assign=True
    )
    return theirs.train(training)


IMAGENET = Case("resnext50_32x4d", torchvision_peer("resnext50_32x4d"), size=64)
CIFAR = Case("resnext29_8x64d_cifar10", pytorchcv_peer, model_args={"blocks": (1, 1, 1)})


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", [IMAGENET, CIFAR], ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def move_stride(model):
    block = model.features.conv4_x[0]
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def other_groups(model):
    """Each branch gets the input maps of another."""
    block = model.features.conv3_x[1]
    block.conv2.weight.data = block.conv2.weight.data.roll(4, 0)


def drop_last_relu(model):
    model.features.stage3[0].relu = nn.Identity()


@pytest.mark.parametrize(
    ("case", "mutate"), [(IMAGENET, move_stride), (IMAGENET, other_groups), (CIFAR, drop_last_relu)]
)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


def normed(x, norm, training, maps=slice(None)):
    """The batch norm of some maps only: it works on each map by itself."""
    mean, var = norm.running_mean[maps], norm.running_var[maps]
    return F.batch_norm(
        x, mean.clone(), var.clone(), norm.weight[maps], norm.bias[maps], training, eps=norm.eps
    )


def branches(block, x, training):
    """Forms (a) and (b): per branch a 1x1 and a 3x3 convolution of its own; (N, d, H,
    W) each.
    """
    width = block.conv2.weight.shape[1]
    for c in range(block.conv2.groups):
        maps = slice(c * width, (c + 1) * width)
        y = F.conv2d(x, block.conv1.weight[maps])
        y = normed(y, block.bn1, training, maps).relu()
        y = F.conv2d(y, block.conv2.weight[maps], stride=block.conv2.stride, padding=1)
        yield maps, normed(y, block.bn2, training, maps).relu()


def form_a(block, x, training):
    """Split, transform, merge: the sum of the branches, each with a last 1x1
    convolution of its own.
    """
    total = sum(
        F.conv2d(y, block.conv3.weight[:, maps]) for maps, y in branches(block, x, training)
    )
    return (normed(total, block.bn3, training) + block.downsample(x)).relu()


def form_b(block, x, training):
    """Early concatenation: one last 1x1 convolution of all branches."""
    joined = torch.cat([y for _, y in branches(block, x, training)], 1)
    return (
        normed(F.conv2d(joined, block.conv3.weight), block.bn3, training) + block.downsample(x)
    ).relu()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("form", [form_a, form_b])
@pytest.mark.parametrize("index", [0, 1])
def test_the_three_forms_of_a_block_are_equal(form, index, training):
    """Figure 3: the network's blocks have form (c)."""
    model, _ = build(Case("resnext50_32x4d", IMAGENET.peer, size=32))
    block = model.features.conv3_x[index].double().train(training)
    x = torch.rand(2, block.conv1.in_channels, 8, 8, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(form(block, x, training), block(x))


@pytest.mark.parametrize(
    ("name", "fields", "params", "macs"),
    [  # the other settings of Tables 3 and 4 and of section 5.3
        ("resnext50_32x4d", (1, 64), 25_557_032, 4_089_184_256),
        ("resnext50_32x4d", (2, 40), 25_425_000, 4_124_508_160),
        ("resnext50_32x4d", (4, 24), 25_292_968, 4_159_832_064),
        ("resnext50_32x4d", (8, 14), 25_603_016, 4_267_409_408),
        ("resnext101_32x4d", (2, 40), 44_456_296, 7_843_553_280),
        ("resnext101_32x4d", (4, 24), 44_363_432, 7_885_701_120),
        ("resnext101_32x4d", (8, 14), 45_104_328, 8_076_871_680),
        ("resnext101_32x4d", (1, 100), 85_611_336, 15_272_862_720),
        ("resnext101_32x4d", (2, 64), 84_198_184, 15_123_087_360),
        ("resnext29_8x64d_cifar10", (1, 64), 4_914_250, 748_365_824),
        ("resnext29_8x64d_cifar10", (2, 64), 9_130_314, 1_411_065_856),
        ("resnext29_8x64d_cifar10", (4, 64), 17_562_442, 2_736_465_920),
    ],
)
def test_counts_of_other_settings(name, fields, params, macs):
    cardinality, width = fields
    profile = zoo.profile(name, cardinality=cardinality, width=width)
    assert (profile.params, profile.macs) == (params, macs)

"""Wide ResNet against pytorchcv (CIFAR) and torchvision (ImageNet); other block types
against a plain second implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, build, error, torchvision_peer
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.models.wide_resnet import WideBlock

STAGES = ("stage1", "stage2", "stage3")


def pytorchcv_peer(state, training):
    """pytorchcv's CIFARWRN with two blocks per group and k = 4: WRN-16-4."""
    from pytorchcv.models.wrn_cifar import CIFARWRN

    names = {
        "features.conv1.conv": "features.init_block",
        "neck.bn": "features.post_activ.bn",
        "head": "output",
    }
    for stage in (1, 2, 3):
        for block in (0, 1):
            ours, theirs = (
                f"features.stage{stage}.{block}",
                f"features.stage{stage}.unit{block + 1}",
            )
            names |= {
                f"{ours}.bn1": f"{theirs}.body.conv1.bn",
                f"{ours}.branch.bn2": f"{theirs}.body.conv2.bn",
            }
            names |= {f"{ours}.branch.conv{i}": f"{theirs}.body.conv{i}.conv" for i in (1, 2)}
            names[f"{ours}.shortcut"] = f"{theirs}.identity_conv"
    with torch.device("meta"):
        theirs = CIFARWRN([[64, 64], [128, 128], [256, 256]], init_block_channels=16)
    keys = {key: next(prefix for prefix in names if key.startswith(f"{prefix}.")) for key in state}
    theirs.load_state_dict(
        {names[p] + key.removeprefix(p): state[key] for key, p in keys.items()}, assign=True
    )
    return theirs.train(training)


def plain_wide(kernels):
    """B(kernels) from the sheet: BN-ReLU-convolution, shared with the projection where
    the width changes.
    """

    def peer(state, training):
        def conv(x, name, stride=1):
            weight = state[f"{name}.weight"]
            return F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)

        def active(x, name):
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
            if training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            scale = state[f"{name}.weight"] / (var + 1e-5).sqrt()
            return (
                x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]
            ).clamp(min=0)

        def forward(x):
            x = conv(x, "features.conv1.conv")
            for stage in STAGES:
                for i in (0, 1):
                    name = f"features.{stage}.{i}"
                    stride = 2 if i == 0 and stage != "stage1" else 1
                    out = before = active(x, f"{name}.bn1")
                    for n, kernel in enumerate(kernels, 1):
                        out = active(out, f"{name}.branch.bn{n}") if n > 1 else out
                        assert state[f"{name}.branch.conv{n}.weight"].shape[2:] == (kernel, kernel)
                        out = conv(out, f"{name}.branch.conv{n}", stride if n == 1 else 1)
                    x = out + (conv(before, f"{name}.shortcut", stride) if i == 0 else x)
            return active(x, "neck.bn").mean((2, 3)) @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


SMALL = {"blocks": (2, 2, 2)}
CIFAR = Case("wrn40_4_cifar10", pytorchcv_peer, batch=4, model_args=SMALL)
WIDE_50 = Case("wide_resnet50_2", torchvision_peer("wide_resnet50_2"), size=64)
TYPES = ((1, 3, 1), (3, 1), (1, 3), (3, 1, 1), (3, 1, 3))
CASES = [
    CIFAR,
    WIDE_50,
    *(
        Case(
            "wrn40_4_cifar10",
            plain_wide(kernels),
            batch=4,
            model_args={**SMALL, "widen": 2, "kernels": kernels},
        )
        for kernels in TYPES
    ),
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def share_everywhere(model):
    model.features.stage2[1].shared = True


def drop_relu(model):
    model.features.stage3[0].branch.relu2 = nn.Identity()


def lose_last_activation(model):
    model.neck.bn, model.neck.relu = nn.Identity(), nn.Identity()


def move_stride(model):
    block = model.features.conv4_x[0]
    block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


@pytest.mark.parametrize(
    ("case", "mutate"),
    [
        (CIFAR, share_everywhere),
        (CIFAR, drop_relu),
        (CIFAR, lose_last_activation),
        (WIDE_50, move_stride),
    ],
)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("kernels", "n", "params", "printed"),
    [  # Table 2, k = 2
        ((1, 3, 1), 6, 1_429_082, 1.4),
        ((3, 1), 6, 1_211_354, 1.2),
        ((1, 3), 6, 1_297_370, 1.3),
        ((3, 1, 1), 6, 1_343_066, 1.3),
        ((3, 3), 4, 1_467_610, 1.5),
        ((3, 1, 3), 3, 1_145_498, 1.1),
    ],
)
def test_parameters_of_block_types(kernels, n, params, printed):
    model = zoo.create("wrn40_4_cifar10", device="meta", blocks=(n, n, n), widen=2, kernels=kernels)
    assert sum(parameter.numel() for parameter in model.parameters()) == params
    assert round(params / 1e6, 1) == printed


@pytest.mark.parametrize(
    ("blocks", "widen", "params", "macs"),
    [  # WRN-18-k and WRN-34-k
        ((2, 2, 2, 2), 1, 11_689_512, 1_814_073_344),
        ((2, 2, 2, 2), 1.5, 25_875_816, 3_866_327_040),
        ((2, 2, 2, 2), 2, 45_618_216, 6_695_706_624),
        ((2, 2, 2, 2), 3, 101_783_976, 14_724_378_624),
        ((3, 4, 6, 3), 1.5, 48_613_608, 8_028_125_184),
        ((3, 4, 6, 3), 2, 86_036_008, 14_094_458_880),
    ],
)
def test_counts_of_wide_basic_blocks(blocks, widen, params, macs):
    profile = zoo.profile(
        zoo.create("wide_resnet50_2", device="meta", blocks=blocks, widen=widen, kernels=(3, 3)),
        input_size=(3, 224, 224),
    )
    assert (profile.params, profile.macs) == (params, macs)


@pytest.mark.parametrize(("name", "drop"), [("wrn28_10_cifar10", 0.0), ("wrn40_10_cifar10", 0.3)])
def test_dropout_between_the_convolutions(name, drop):
    model = zoo.create(name, device="meta")
    layers = [
        list(dict(block.branch.named_children()))
        for block in model.modules()
        if isinstance(block, WideBlock)
    ]
    assert all(names == ["conv1", "bn2", "relu2", "drop2", "conv2"] for names in layers)
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {drop}


def test_dropout_is_reproducible_and_for_training_only():
    model, x = build(Case("wrn40_4_cifar10", pytorchcv_peer, model_args={**SMALL, "widen": 1}))
    plain = model.eval()(x)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.3
    assert torch.equal(model(x), plain)
    model.train()
    passes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        passes.append(model(x))
    assert torch.equal(passes[0], passes[1])
    assert not torch.equal(passes[0], passes[2])


def test_initialisation_has_fan_in():
    weight = (
        zoo.create("wrn40_4_cifar10", **SMALL).features.stage3[0].branch.conv1.weight
    )  # 128 to 256 maps
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("fields", [{"kernels": (3, 1)}, {"drop_rate": 0.3}])
def test_what_the_imagenet_nets_do_not_have(fields):
    with pytest.raises(
        InputError, match=r"WideResNet: kernels=.*: expected \(3, 3\) or .* no dropout, on ImageNet"
    ):
        zoo.create("wide_resnet50_2", **fields)

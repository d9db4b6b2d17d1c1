"""Pre-activation ResNet: bottleneck nets against pytorchcv, all orders, shortcuts and
joins against a plain second implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.models.preact_resnet import Gated, Scaled, Unit


def pytorchcv_peer(blocks, stages):
    """pytorchcv's network of bottlenecks; its ImageNet nets have the stride in the
    first 1x1, its CIFAR nets in the 3x3.
    """

    def peer(state, training):
        from pytorchcv.models.preresnet import preresnet50
        from pytorchcv.models.preresnet_cifar import CIFARPreResNet

        stem = "features.init_block.conv" if stages == IMAGENET else "features.init_block"
        names = {"features.conv1.conv": stem, "features.conv1.bn": "features.init_block.bn"}
        names |= {"neck.bn": "features.post_activ.bn", "head": "output"}
        for stage, count in enumerate(blocks, 1):
            for block in range(count):
                ours, theirs = (
                    f"features.{stages[stage - 1]}.{block}",
                    f"features.stage{stage}.unit{block + 1}",
                )
                names |= {
                    f"{ours}.branch.conv{i}": f"{theirs}.body.conv{i}.conv" for i in (1, 2, 3)
                }
                norms = {f"{ours}.before.bn": 1, f"{ours}.branch.bn1": 2, f"{ours}.branch.bn2": 3}
                names |= {norm: f"{theirs}.body.conv{i}.bn" for norm, i in norms.items()}
                names[f"{ours}.shortcut"] = f"{theirs}.identity_conv"
        with torch.device("meta"):
            channels = [[maps] * count for maps, count in zip((64, 128, 256), blocks, strict=False)]
            theirs = (
                preresnet50()
                if stages == IMAGENET
                else CIFARPreResNet(channels, init_block_channels=16, bottleneck=True)
            )
        theirs.features.final_pool = nn.AdaptiveAvgPool2d(1)  # its own has a fixed size
        keys = {
            key: next(prefix for prefix in names if key.startswith(f"{prefix}.")) for key in state
        }
        theirs.load_state_dict(
            {names[p] + key.removeprefix(p): state[key] for key, p in keys.items()}, assign=True
        )
        return theirs.train(training)

    return peer


def plain_preact(stages, order="full", option="B", join="add", scale=(0.5, 0.5)):
    """Figures 2 and 4 from the sheet, layer by layer; `stages` names the stages, from
    the first without a stride on.
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

        def branch(x, name, count, stride):
            """Everything of Figure 4 that stands on the branch, without the first
            activation of (d) and (e).
            """
            for i in range(1, count + 1):
                x = conv(x, f"{name}.branch.conv{i}", stride if i == 1 else 1)
                if i < count or order in ("original", "relu_before_addition", "relu_only"):
                    x = norm(x, f"{name}.branch.bn{i}")
                if i < count or order == "relu_before_addition":
                    x = x.clamp(min=0)
            return x

        def shortcut(x, out, name, stride):
            if option == "C" or x.shape != out.shape:
                if option == "A":
                    x = x[:, :, ::stride, ::stride]
                    return torch.cat([x, torch.zeros_like(out[:, x.shape[1] :])], 1)
                normed = order in ("original", "relu_before_addition", "relu_only")
                x = conv(x, f"{name}.shortcut.0" if normed else f"{name}.shortcut", stride)
                return norm(x, f"{name}.shortcut.1") if normed else x
            return x

        def unit(x, name, stride, first):
            count = max(i for i in (1, 2, 3) if f"{name}.branch.conv{i}.weight" in state)
            changes = (
                stride > 1 or state[f"{name}.branch.conv{count}.weight"].shape[0] != x.shape[1]
            )
            active = (
                norm(x, f"{name}.before.bn").clamp(min=0)
                if order == "full"
                else x.clamp(min=0)
                if order == "relu_only"
                else x
            )
            if first or changes:
                x = active
            f = branch(active, name, count, stride)
            h = shortcut(x, f, name, stride)
            if join in ("exclusive", "shortcut"):
                gate = 1 / (
                    1
                    + torch.exp(
                        -conv(x, f"{name}.join.gate", stride)
                        - state[f"{name}.join.gate.bias"][:, None, None]
                    )
                )
                h = h * (1 - gate)
                f = f * gate if join == "exclusive" else f
            if join == "dropout":
                h = h * 0.5
            if join == "scaled":
                h, f = scale[0] * h, scale[1] * f
            x = h + f
            if order == "bn_after_addition":
                x = norm(x, f"{name}.after.bn")
            return x.clamp(min=0) if order in ("original", "bn_after_addition") else x

        def forward(x):
            imagenet = state["features.conv1.conv.weight"].shape[2] == 7
            x = conv(x, "features.conv1.conv", 2 if imagenet else 1)
            if imagenet or order != "full":
                x = norm(x, "features.conv1.bn")
            if imagenet or order not in ("full", "relu_only"):
                x = x.clamp(min=0)
            if imagenet:
                x = F.max_pool2d(x, 3, 2, 1)
            for stage in stages:
                i = 0
                while f"features.{stage}.{i}.branch.conv1.weight" in state:
                    x = unit(
                        x,
                        f"features.{stage}.{i}",
                        2 if i == 0 and stage != stages[0] else 1,
                        i == 0 and stage == stages[0],
                    )
                    i += 1
            if order == "full":
                x = norm(x, "neck.bn")
            if order in ("full", "relu_only"):
                x = x.clamp(min=0)
            return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


IMAGENET = ("conv2_x", "conv3_x", "conv4_x", "conv5_x")
CIFAR = ("stage1", "stage2", "stage3")
SMALL = {"blocks": (2, 2, 2)}


def small(unit="basic", order="full", shortcut="A", join="add", **fields):
    """The CIFAR net with two units per stage."""
    given = {"unit": unit, "order": order, "shortcut": shortcut, "join": join, **fields}
    changed = {
        key: value
        for key, value in given.items()
        if value != {"unit": "basic", "shortcut": "A"}.get(key)
    }
    return Case(
        "preresnet110_cifar10",
        plain_preact(CIFAR, order, shortcut, join),
        batch=4,
        model_args=SMALL | changed,
    )


IMAGENET_50 = Case("preresnet50", pytorchcv_peer((3, 4, 6, 3), IMAGENET), size=64)
CIFAR_164 = Case(
    "preresnet164_cifar10",
    pytorchcv_peer((2, 2, 2), CIFAR),
    batch=4,
    model_args={"stride_in": "3x3", **SMALL},
)
PLAIN_18 = Case("preresnet18", plain_preact(IMAGENET), size=64)
ORDERS = {
    order: small("bottleneck", order, "B")
    for order in ("original", "bn_after_addition", "relu_before_addition", "relu_only", "full")
}
JOINS = [
    small(order="original", join="scaled"),
    small(order="original", join="exclusive", gate_bias=0.0),
    small(order="original", join="shortcut"),
    small(order="original", shortcut="C"),
    small(order="original", join="dropout"),
    small(join="exclusive"),
]
CASES = [
    IMAGENET_50,
    CIFAR_164,
    PLAIN_18,
    *ORDERS.values(),
    *(small(order=order) for order in ("original", "relu_only", "full")),
    small("single"),
    small("single", "original"),
    *JOINS,
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def lose_last_activation(model):
    model.neck.bn, model.neck.relu = nn.Identity(), nn.Identity()


def share_everywhere(model):
    model.features.stage2[1].shared = True


def never_share(model):
    model.features.conv2_x.get_submodule("0").shared = False


def move_stride(model):
    branch = model.features.conv4_x[0].branch
    branch.conv1.stride, branch.conv2.stride = (1, 1), (2, 2)


def swap_gate(model):
    model.features.stage2[1].join.exclusive = False


MUTATIONS = [
    (CIFAR_164, lose_last_activation),
    (CIFAR_164, share_everywhere),
    (PLAIN_18, never_share),
    (IMAGENET_50, move_stride),
    (JOINS[1], swap_gate),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


@pytest.mark.parametrize(
    ("name", "fields", "params"),
    [
        ("preresnet110_cifar10", {"shortcut": "B"}, 1_730_522),
        ("preresnet164_cifar10", {"order": "original"}, 1_704_154),
        ("preresnet1001_cifar10", {"order": "original"}, 10_328_602),
        ("preresnet200", {"order": "original"}, 64_673_832),
        ("preresnet164_cifar10", {"num_classes": 100}, 1_726_388),
        ("preresnet1001_cifar10", {"num_classes": 100}, 10_350_836),
    ],
)
def test_parameters_of_other_fields(name, fields, params):
    assert (
        sum(
            parameter.numel()
            for parameter in zoo.create(name, device="meta", **fields).parameters()
        )
        == params
    )


def test_dropped_shortcuts():
    """Half of the values are kept as they are in training; in evaluation all are
    halved.
    """
    layer = Scaled(0.5, 1, drop_rate=0.5)
    x, zero = torch.ones(1000), torch.zeros(1000)
    kept = layer.train()(x, x, zero)
    assert set(kept.tolist()) == {0.0, 1.0}
    assert 400 < kept.sum() < 600
    assert torch.equal(layer.eval()(x, x, zero), 0.5 * x)


def test_gates_start_closed():
    """With the paper's bias of -6 a gated net starts as one whose shortcuts are almost
    the identity.
    """
    gates = [
        module.gate
        for module in zoo.create("preresnet110_cifar10", **SMALL, join="exclusive").modules()
        if isinstance(module, Gated)
    ]
    assert len(gates) == 6
    assert all(
        torch.equal(gate.bias, torch.full_like(gate.bias, -6)) and gate.weight.std() > 0
        for gate in gates
    )


@pytest.mark.parametrize(
    "layer",
    [Gated(3, 4, 2, exclusive=False), Gated(3, 4, 2, exclusive=True), Scaled(0.5, 0.3)],
    ids=["shortcut", "exclusive", "scaled"],
)
def test_gradients_of_joins(layer):
    layer = layer.double()
    x, shortcut, branch = (
        torch.randn(2, *size, dtype=torch.double, requires_grad=True)
        for size in ((3, 4, 4), (4, 2, 2), (4, 2, 2))
    )
    assert torch.autograd.gradcheck(lambda *inputs: layer(*inputs), (x, shortcut, branch))


def test_identity_units_pass_on_what_they_get():
    """Section 3: with branches of zeros the signal goes through unchanged, in every
    unit but those that share their activation.
    """
    unit = next(
        module
        for module in zoo.create("preresnet110_cifar10").features.stage2[1:]
        if isinstance(module, Unit)
    )
    nn.init.zeros_(unit.branch.conv2.weight)
    x = torch.randn(2, 32, 8, 8)
    assert torch.equal(unit(x.clone()), x)


@pytest.mark.parametrize("argument", ["unit", "order", "shortcut", "join", "stride_in", "stem"])
def test_unknown_values(argument):
    with pytest.raises(InputError, match=f"PreActResNet: {argument}='other': expected '"):
        zoo.create("preresnet18", **{argument: "other"})

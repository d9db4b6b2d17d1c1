"""Inception-ResNet-v2 as released against timm; the networks of the figures, which no
peer has, against a plain second implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, disable_drop_path, error, slow
from torch import nn

import zoo
from zoo.models.inception_resnet import Residual, inception


def timm_peer(state, training):
    import timm

    with torch.device("meta"):
        ours, theirs = (
            zoo.create("inception_resnet_v2_tf"),
            timm.create_model("inception_resnet_v2"),
        )
    ours.load_state_dict(state, assign=True)
    theirs.load_state_dict(zoo.export_state_dict(ours, "timm"), assign=True)
    disable_drop_path(theirs)
    return theirs.train(training)


def plain(version):
    """Sections 2D and 2E of the sheet, the networks of the figures."""

    def peer(state, training):
        def norm(x, name):
            mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
            if training:
                mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
            scale = state[f"{name}.weight"] / (var + 1e-3).sqrt()
            return x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]

        def unit(x, name, maps, height, width, stride=1, valid=False):
            weight = state[f"{name}.conv.weight"]
            assert weight.shape == (maps, x.shape[1], height, width)
            padding = 0 if valid or stride == 2 else (height // 2, width // 2)
            return norm(F.conv2d(x, weight, stride=stride, padding=padding), f"{name}.bn").clamp(
                min=0
            )

        def pool(x):
            return F.max_pool2d(x, 3, 2)

        def row(x, name, *units):
            """Units one after the other; the first has no number when it is alone."""
            for i, (maps, height, width, *stride) in enumerate(units):
                x = unit(x, f"{name}.{i}" if len(units) > 1 else name, maps, height, width, *stride)
            return x

        def stem_v1(x):
            x = unit(pool(x), "features.stem2.1", 80, 1, 1)
            x = unit(x, "features.stem2.2", 192, 3, 3, 1, True)
            return unit(x, "features.inception_a.0", 256, 3, 3, 2)

        def stem_v4(x):
            x = torch.cat([pool(x), unit(x, "features.stem2.0.branch1", 96, 3, 3, 2)], 1)
            left = unit(x, "features.stem2.1.branch0.0", 64, 1, 1)
            left = unit(left, "features.stem2.1.branch0.1", 96, 3, 3, 1, True)
            right = row(
                x,
                "features.stem2.1.branch1",
                (64, 1, 1),
                (64, 1, 7),
                (64, 7, 1),
                (96, 3, 3, 1, True),
            )
            x = torch.cat([left, right], 1)
            return torch.cat([unit(x, "features.inception_a.0.branch0", 192, 3, 3, 2), pool(x)], 1)

        def residual(x, name, scale, *rows):
            out = torch.cat(
                [row(x, f"{name}.branches.branch{i}", *units) for i, units in enumerate(rows)], 1
            )
            weight = state[f"{name}.conv2d.weight"]
            assert f"{name}.conv2d.bias" not in state
            return (x + scale * norm(F.conv2d(out, weight), f"{name}.bn")).clamp(min=0)

        def forward(x):
            x = unit(x, "features.stem1.0", 32, 3, 3, 2)
            x = unit(x, "features.stem1.1", 32, 3, 3, 1, True)
            x = unit(x, "features.stem1.2", 64, 3, 3)
            v1 = version == "v1"
            x = stem_v1(x) if v1 else stem_v4(x)
            for i in range(1, 6):
                double = (
                    ((32, 1, 1), (32, 3, 3), (32, 3, 3))
                    if v1
                    else ((32, 1, 1), (48, 3, 3), (64, 3, 3))
                )
                x = residual(
                    x,
                    f"features.inception_a.{i}",
                    0.17,
                    ((32, 1, 1),),
                    ((32, 1, 1), (32, 3, 3)),
                    double,
                )
            k, l, m, n = (192, 192, 256, 384) if v1 else (256, 256, 384, 384)
            name = "features.inception_b.0"
            one, double = (
                row(x, f"{name}.branch0", (n, 3, 3, 2)),
                row(x, f"{name}.branch1", (k, 1, 1), (l, 3, 3), (m, 3, 3, 2)),
            )
            x = torch.cat([one, double, pool(x)], 1)
            for i in range(1, 11):
                rows = (
                    [((128, 1, 1),), ((128, 1, 1), (128, 1, 7), (128, 7, 1))]
                    if v1
                    else [((192, 1, 1),), ((128, 1, 1), (160, 1, 7), (192, 7, 1))]
                )
                x = residual(x, f"features.inception_b.{i}", 0.10, *rows)
            name, (a, b, c) = "features.inception_c.0", (256, 256, 256) if v1 else (288, 288, 320)
            first = row(x, f"{name}.branch0", (256, 1, 1), (384, 3, 3, 2))
            second = row(x, f"{name}.branch1", (256, 1, 1), (a, 3, 3, 2))
            third = row(x, f"{name}.branch2", (256, 1, 1), (b, 3, 3), (c, 3, 3, 2))
            x = torch.cat([first, second, third, pool(x)], 1)
            for i in range(1, 6):
                b, c = (192, 192) if v1 else (224, 256)
                x = residual(
                    x,
                    f"features.inception_c.{i}",
                    0.20,
                    ((192, 1, 1),),
                    ((192, 1, 1), (b, 1, 3), (c, 3, 1)),
                )
            return x.mean((2, 3)) @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


RELEASED = Case("inception_resnet_v2_tf", timm_peer, size=107)
V1 = Case("inception_resnet_v1", plain("v1"), size=139)
V2 = Case("inception_resnet_v2", plain("v2"), size=139)


@pytest.mark.parametrize("case", [RELEASED, V1, V2], ids=str)
def test_full_logits(case):
    assert error(case) < TOLERANCE


@pytest.mark.parametrize("case", [V1, slow(RELEASED), slow(V2)], ids=str)
def test_full_logits_in_training(case):
    assert error(case, training=True) < TOLERANCE


def drop_relu(model):
    model.features.inception_b[5].relu = nn.Identity()


def rectify_the_residual(model):
    model.features.inception_a[3].bn = nn.Sequential(model.features.inception_a[3].bn, nn.ReLU())


def swap_norms(model):
    first, second = model.features.inception_b[2], model.features.inception_b[3]
    first.bn, second.bn = second.bn, first.bn


def scale_more(model):
    model.features.inception_c[4].scale = 0.17


def rectify_the_last_block(model):
    model.features.inception_c[10].relu = nn.ReLU()


def scale_the_last_block(model):
    model.features.inception_c[10].scale = 0.2


MUTATIONS = [
    (V1, drop_relu),
    (V1, rectify_the_residual),
    (V1, swap_norms),
    (V1, scale_more),
    (RELEASED, rectify_the_last_block),
    (RELEASED, scale_the_last_block),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_of_a_block(batch_norm):
    torch.manual_seed(0)
    branches = inception(3, ((2,), (2, 2)), ((1,), (1, 3)))
    block = Residual(3, branches, 4, scale=0.2, batch_norm=batch_norm).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, (x,))

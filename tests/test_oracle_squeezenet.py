"""SqueezeNet against torchvision and pytorchcv (simple bypass); the rest against a
plain second implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, disable_drop_path, error, torchvision_peer
from torch import nn

import zoo

STAGES = {
    "stage2": (2, 3, 4),
    "stage3": (5, 6, 7, 8),
    "stage4": (9,),
}  # sheet: the fire modules between version 1.0's pools


def pytorchcv_peer(state, training):
    """pytorchcv's squeezeresnet_v1_0: an addition around every second fire module."""
    from pytorchcv.models.squeezenet import squeezeresnet_v1_0

    names = {"features.stage1.conv1": "features.init_block.conv", "head": "output.final_conv"}
    for number, (stage, layers) in enumerate(STAGES.items(), 1):
        for unit, layer in enumerate(layers, 1):
            ours, theirs = f"features.{stage}.fire{layer}", f"features.stage{number}.unit{unit}"
            names |= {
                f"{ours}.{part}": f"{theirs}.{part}.conv"
                for part in ("squeeze", "expand1x1", "expand3x3")
            }
    with torch.device("meta"):
        theirs = squeezeresnet_v1_0()
    theirs.load_state_dict(
        {
            f"{names[name]}.{kind}": state[f"{name}.{kind}"]
            for name in names
            for kind in ("weight", "bias")
        },
        assign=True,
    )
    disable_drop_path(theirs)
    return theirs.train(training)


def plain_squeezenet(complex_bypass=False, padding=0):
    """Table 1 and section 6 from the sheet."""

    def peer(state, training):
        def conv(x, name, padding=0, stride=1):
            return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride, padding)

        def forward(x):
            x = conv(x, "features.stage1.conv1", stride=2).clamp(min=0)
            for stage, layers in STAGES.items():
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
                for layer in layers:
                    name = f"features.{stage}.fire{layer}"
                    s = conv(x, f"{name}.squeeze").clamp(min=0)
                    out = torch.cat(
                        [conv(s, f"{name}.expand1x1"), conv(s, f"{name}.expand3x3", 1)], 1
                    ).clamp(min=0)
                    if complex_bypass:
                        out = out + (x if layer % 2 else conv(x, f"{name}.bypass"))
                    x = out
            return conv(x, "head", padding).clamp(min=0).mean((2, 3))

        return forward

    return peer


V1_0 = Case("squeezenet1_0", torchvision_peer("squeezenet1_0"), size=224)
SIMPLE = Case("squeezenet1_0_bypass", pytorchcv_peer)
COMPLEX = Case("squeezenet1_0_complex_bypass", plain_squeezenet(complex_bypass=True), size=96)
PADDED = Case("squeezenet1_0", plain_squeezenet(padding=1), size=96, model_args={"head_padding": 1})
CASES = [
    V1_0,
    Case("squeezenet1_0", torchvision_peer("squeezenet1_0")),
    Case("squeezenet1_1", torchvision_peer("squeezenet1_1")),
    SIMPLE,
    COMPLEX,
    PADDED,
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case):
    assert error(case) < TOLERANCE


@pytest.mark.slow  # nothing but dropout tells the modes apart
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits_in_training(case):
    assert error(case, training=True) < TOLERANCE


def drop_relu(model):
    model.features.stage3.fire6.squeeze_relu = nn.Identity()


def drop_head_relu(model):
    model.head_relu = False


def lose_head_padding(model):
    model.head.padding = (0, 0)


def floor_pools(model):
    model.features.stage3.pool4.ceil_mode = False


def lose_simple_bypass(model):
    model.features.stage4.fire9.bypass = None


def rectify_the_sum(model):
    model.features.stage3.fire6.register_forward_hook(lambda module, inputs, output: output.relu())


MUTATIONS = [
    (V1_0, drop_relu),
    (V1_0, drop_head_relu),
    (V1_0, floor_pools),
    (PADDED, lose_head_padding),
    (SIMPLE, lose_simple_bypass),
    (COMPLEX, lose_simple_bypass),
    (COMPLEX, rectify_the_sum),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


def test_a_new_head_is_linear():
    """Its logits are a linear function of the pooled features."""
    model = zoo.create("squeezenet1_0", head_padding=1).eval()
    model.reset_classifier(3)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = model(x)
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        assert (logits < 0).any()
        torch.testing.assert_close(
            logits, pooled @ model.head.weight.flatten(1).T + model.head.bias
        )

"""AlexNet: the single tower against torchvision, the two-tower networks against a plain
second implementation.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error, slow, torchvision_peer
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.layers.norm import alexnet_lrn


def two_towers(order, k, alpha_of_sum):
    """AlexNet with each tower's convolutions written out; `order` is that of
    normalisation (n) and pooling (p).
    """

    def normalise(x):
        squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
        return (
            x / (k + alpha_of_sum * sum(squares[:, i : i + x.shape[1]] for i in range(5))) ** 0.75
        )

    def pool(x):
        height, width = x.shape[2:]
        border = [
            (height - 1) % 2 == 1,
            (width - 1) % 2 == 1,
        ]  # rounding up: one more row where the last window does not end at the border
        x = F.pad(x, (0, int(border[1]), 0, int(border[0])), value=-torch.inf)
        return x.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))

    def average(x):  # to 6x6
        rows, columns = (
            [slice(i * n // 6, -(-(i + 1) * n // 6)) for i in range(6)] for n in x.shape[2:]
        )
        return torch.stack(
            [
                torch.stack([x[:, :, row, column].mean((2, 3)) for column in columns], -1)
                for row in rows
            ],
            -2,
        )

    def peer(state, training):
        def conv(x, i, **options):
            return F.conv2d(
                x,
                state[f"features.stage{i}.conv.weight"],
                state[f"features.stage{i}.conv.bias"],
                **options,
            ).clamp(min=0)

        def tower_conv(x, i, padding):
            weight, bias = (
                state[f"features.stage{i}.conv.weight"],
                state[f"features.stage{i}.conv.bias"],
            )
            towers = zip(x.chunk(2, 1), weight.chunk(2), bias.chunk(2), strict=True)
            return torch.cat([F.conv2d(*tower, padding=padding) for tower in towers], 1).clamp(
                min=0
            )

        def between(x):
            for step in order:
                x = normalise(x) if step == "n" else pool(x)
            return x

        def forward(x):
            x = between(conv(x, 1, stride=4))
            x = between(tower_conv(x, 2, padding=2))
            x = conv(x, 3, padding=1)
            x = tower_conv(x, 4, padding=1)
            x = pool(tower_conv(x, 5, padding=1))
            x = average(x).reshape(len(x), 256 * 6 * 6)
            for layer in ("neck.fc6", "neck.fc7"):
                x = (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
            return x @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


NARROW = {"hidden": 256}
CAFFE_LRN = {"lrn_k": 1.0, "lrn_alpha": 1e-4 / 5}
# Inputs as of pixels 0..255: normalisation shows.
ALEXNET = Case("alexnet", two_towers("np", k=2, alpha_of_sum=1e-4), scale=64)
ROUNDING_UP = Case("alexnet", ALEXNET.peer, size=224, scale=64, model_args=NARROW)
OTHER_LRN = Case(
    "alexnet",
    two_towers("np", k=1, alpha_of_sum=1e-4 / 5),
    size=99,
    scale=64,
    model_args={**CAFFE_LRN, **NARROW},
)
CAFFENET = Case(
    "caffenet", two_towers("pn", k=1, alpha_of_sum=1e-4 / 5), scale=64, model_args=NARROW
)
OWT = Case("alexnet_owt", torchvision_peer("alexnet_owt", "alexnet"), size=90)
WHOLE_OWT = Case("alexnet_owt", OWT.peer)
CASES = [ALEXNET, ROUNDING_UP, OTHER_LRN, CAFFENET, OWT]


@pytest.mark.parametrize("case", [*CASES, slow(WHOLE_OWT)], ids=str)
def test_full_logits(case):
    assert error(case) < TOLERANCE


@pytest.mark.slow  # nothing but dropout tells the modes apart
@pytest.mark.parametrize("case", [*CASES, WHOLE_OWT], ids=str)
def test_full_logits_in_training(case):
    assert error(case, training=True) < TOLERANCE


def torch_alpha(model):
    model.features.stage1.norm.alpha = 1e-4  # torch's reading of the paper's constant


def other_order(model):
    stage = model.features.stage2
    model.features.stage2 = nn.Sequential(
        stage.conv,
        stage.relu,
        *([stage.pool, stage.norm] if stage[2] is stage.norm else [stage.norm, stage.pool]),
    )


def floor_pools(model):
    model.features.stage1.pool.ceil_mode = False


def swap_towers(model):
    with torch.no_grad():
        for parameter in model.features.stage4.conv.parameters():
            parameter.copy_(torch.cat(parameter.chunk(2)[::-1]))


def drop_relu(model):
    model.features.stage3.relu = nn.Identity()


MUTATIONS = [
    (ALEXNET, torch_alpha),
    (ALEXNET, other_order),
    (ALEXNET, swap_towers),
    (ROUNDING_UP, floor_pools),
    (CAFFENET, other_order),
    (OWT, drop_relu),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "alexnet_owt"])
def test_exact_parameters(name):
    with torch.device("meta"):
        model = zoo.create(name)
    claims = zoo.info(name).variant.claims
    assert sum(p.numel() for p in model.parameters()) == claims.params
    for figure in claims.printed:
        if figure.compute:
            assert figure.agrees(figure.compute(model)) != bool(figure.reason), figure


@pytest.mark.parametrize("name", ["alexnet", "caffenet", "alexnet_owt"])
def test_smallest_input(name):
    model, smallest = zoo.create(name, num_classes=3).eval(), zoo.info(name).variant.image.min_size
    assert model(torch.zeros(1, 3, smallest, smallest)).shape == (1, 3)
    with pytest.raises(InputError, match=f"{smallest}x{smallest} or larger"):
        model(torch.zeros(1, 3, smallest - 1, smallest))
    with pytest.raises(RuntimeError, match="too small"):
        model.features(torch.zeros(1, 3, smallest - 1, smallest))


def test_gradients_of_the_normalisation():
    """With a constant so large that the neighbours count, and at the border, where
    there are fewer of them.
    """
    norm = alexnet_lrn(k=2.0, alpha=0.3)
    x = torch.randn(2, 7, 2, 1, dtype=torch.double, requires_grad=True)
    squares = [(x[:, max(i - 2, 0) : i + 3] ** 2).sum(1) for i in range(7)]
    assert torch.allclose(norm(x), x / (2 + 0.3 * torch.stack(squares, 1)) ** 0.75)
    assert torch.autograd.gradcheck(norm, (x,))


@pytest.mark.parametrize(("name", "hidden"), [("alexnet", 0.01), ("caffenet", 0.005)])
def test_initialisation(name, hidden):
    model = zoo.create(name)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    ones = {
        "features.stage2.conv",
        "features.stage4.conv",
        "features.stage5.conv",
        "neck.fc6",
        "neck.fc7",
    }  # section 5
    assert ones < set(layers)
    for path, layer in layers.items():
        assert layer.weight.std().item() == pytest.approx(
            hidden if path.startswith("neck") else 0.01, rel=0.03
        )
        assert layer.weight.mean().abs().item() < 3e-4
        assert layer.bias.unique().tolist() == [float(path in ones)]


@pytest.mark.parametrize(
    ("name", "first"), [("alexnet", False), ("caffenet", False), ("alexnet_owt", True)]
)
def test_where_the_dropout_is(name, first):
    model = zoo.create(name, num_classes=4, drop_rate=1.0).train()
    nn.init.normal_(model.neck.fc7.bias)
    features = model.neck.fc7.bias.relu() if first else torch.zeros(4096)  # with every unit dropped
    assert torch.allclose(model(torch.randn(2, 3, 99, 99)), model.head(features).expand(2, 4))


@pytest.mark.parametrize(("argument", "value"), [("order", "norm"), ("init", "he")])
def test_unknown_choices_are_named(argument, value):
    with pytest.raises(InputError, match=f"AlexNet: {argument}='{value}': expected '"):
        zoo.create("alexnet", **{argument: value})

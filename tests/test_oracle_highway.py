"""Highway networks, which no peer has, against a plain second implementation; the
layer, its gate, and what it is for.
"""

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.models.highway import HighwayLayer

ACT = {"relu": lambda x: x.clamp(min=0), "tanh": torch.tanh}


def plain_highway(pools, mean, act="relu"):
    """The layers in the order of the state dict; `pools`: kernel after each stage, all
    with stride 2 and rounded up.
    """

    def peer(state, training):
        def conv(x, name):
            weight = state[f"{name}.weight"]
            padding = (
                0
                if name == "features.stage1.plain.conv" and weight.shape[2] != 3
                else weight.shape[2] // 2
            )
            return F.conv2d(x, weight, state[f"{name}.bias"], padding=padding)

        def pool(x, kernel):
            right = (x.shape[3] - kernel) % 2  # a window that begins inside and ends outside
            return F.max_pool2d(F.pad(x, (0, right, 0, right), value=-torch.inf), kernel, 2)

        def forward(x):
            for stage, kernel in enumerate(pools, 1):
                names = dict.fromkeys(
                    ".".join(key.split(".")[:3])
                    for key in state
                    if key.startswith(f"features.stage{stage}.")
                )
                for name in names:
                    if f"{name}.gate.weight" in state:
                        gate = 1 / (1 + torch.exp(-conv(x, f"{name}.gate")))
                        x = gate * ACT[act](conv(x, f"{name}.transform")) + (1 - gate) * x
                    else:
                        x = ACT[act](conv(x, f"{name}.conv"))
                x = pool(x, kernel) if kernel else x
            if "neck.last.conv.weight" in state:
                x = ACT[act](conv(x, "neck.last.conv"))
            x = x.mean((2, 3)) if mean else x.reshape(len(x), -1)
            return x @ state["head.weight"].T + state["head.bias"]

        return forward

    return peer


MNIST = Case("highway_mnist16", plain_highway((3, 3, 2), mean=False))
CIFAR = Case("highway19_cifar10", plain_highway((2, 2, 0), mean=True))
FC = Case("highway_fc", plain_highway((0,), mean=False))
CASES = [
    MNIST,
    CIFAR,
    FC,
    Case(
        "highway_fc",
        plain_highway((0,), mean=False, act="tanh"),
        model_args={"activation": "tanh", "highways": (19,)},
    ),
    Case(
        "highway_fc", plain_highway((0,), mean=False), model_args={"widths": (71,), "gated": False}
    ),
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def exchange(model):
    layer = model.features.stage1.layer2
    layer.transform, layer.gate = layer.gate, layer.transform


def lose_activation(model):
    model.features.stage1.layer1.act = nn.Identity()


def round_pool_down(model):
    model.features.stage1.pool.ceil_mode = False


def lose_last_activation(model):
    model.neck.last.act = nn.Identity()


@pytest.mark.parametrize(
    ("case", "mutate"),
    [
        (MNIST, exchange),
        (MNIST, round_pool_down),
        (CIFAR, lose_last_activation),
        (FC, lose_activation),
    ],
)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_gradients_of_the_layer(activation):
    layer = HighwayLayer(1, 3, activation).double()
    x = torch.randn(1, 1, 3, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *layer.parameters()))


def test_a_closed_gate_carries_and_an_open_one_transforms():
    layer = HighwayLayer(4, 3, "relu")
    x = torch.randn(2, 4, 5, 5)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(-torch.inf)
        assert torch.equal(layer(x), x)
        layer.gate.bias.fill_(torch.inf)
        assert torch.equal(layer(x), layer.transform(x).relu())


@pytest.mark.parametrize(("name", "start"), [("highway_mnist16", -1), ("highway19_cifar10", -2)])
def test_gates_start_closed(name, start):
    model = zoo.create(name)
    gates = [module.gate for module in model.modules() if isinstance(module, HighwayLayer)]
    assert len(gates) == {"highway_mnist16": 8, "highway19_cifar10": 14}[name]
    assert all((gate.bias == start).all() for gate in gates)
    assert all(
        (layer.transform.bias == 0).all()
        for layer in model.modules()
        if isinstance(layer, HighwayLayer)
    )


@pytest.mark.parametrize("depth", [10, 20, 50, 100])
def test_the_depth_study(depth):
    """Section 3.1: highway layers 50 wide cost what plain ones 71 wide cost, within a
    per cent.
    """
    with torch.device("meta"):
        highway = zoo.create("highway_fc", highways=(depth - 1,))
        plain = zoo.create("highway_fc", highways=(depth - 1,), widths=(71,), gated=False)
    count = [
        sum(parameter.numel() for parameter in model.features.parameters())
        for model in (highway, plain)
    ]
    assert count == [39_250 + 5_100 * (depth - 1), 55_735 + 5_112 * (depth - 1)]


def test_a_deep_highway_learns_where_a_plain_network_does_not():
    """50 layers, 32 images, 25 steps: the paper's finding in small."""
    images, labels = torch.randn(32, 1, 28, 28), torch.arange(32) % 10
    accuracy = {}
    for gated, width in ((True, 50), (False, 71)):
        torch.manual_seed(0)
        model = zoo.create("highway_fc", highways=(49,), widths=(width,), gated=gated)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(25):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
        accuracy[gated] = (model(images).argmax(1) == labels).float().mean()
    assert accuracy[True] == 1
    assert accuracy[False] < 0.5


def test_wrong_arguments():
    with pytest.raises(InputError, match="Highway: activation='gelu': expected 'relu' or 'tanh'"):
        zoo.create("highway_fc", activation="gelu")
    with pytest.raises(InputError, match="expected 4 rates for 3 stages"):
        zoo.create("highway_mnist16", drop_rate=(0.5, 0.5))
    rates = [
        module.p
        for module in zoo.create("highway_mnist16", drop_rate=0.1).modules()
        if isinstance(module, nn.Dropout)
    ]
    assert rates == [0.1] * 4

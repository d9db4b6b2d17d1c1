"""LeNet-5 against a plain second implementation, its parts against their formulas, and
its loss on real digits.
"""

from itertools import chain

import pytest
import torch
import torch.nn.functional as F
from oracle import TOLERANCE, Case, error
from sklearn.datasets import load_digits
from torch import nn

import zoo
from zoo.errors import InputError, ZooWarning
from zoo.models.lenet import (
    FAMILY,
    RBF,
    J,
    LeNet5,
    Subsampling,
    TableConv2d,
    connections,
    discriminative_loss,
)

WIRES = [  # Table I by its rule: the maps of S2 that each map of C3 sees
    *(sorted((i + n) % 6 for n in range(3)) for i in range(6)),
    *(sorted((i + n) % 6 for n in range(4)) for i in range(6)),
    [0, 1, 3, 4],
    [1, 2, 4, 5],
    [0, 2, 3, 5],
    [0, 1, 2, 3, 4, 5],
]
DIGITS = """
.#####.  ...##..  .#####.  #######  .#####.  .#####.  ..####.  #######  .#####.  .#####.
.......  ..###..  .......  .....##  .......  .......  .##....  .....##  ##...##  ##..###
..###..  .####..  .#####.  ....##.  .......  #######  ##.....  .....##  ##...##  ##...##
.##.##.  ...##..  ##...##  ...##..  .##..##  ##.....  ##.....  ....##.  ##...##  ##...##
##...##  ...##..  #....##  ..####.  .##..##  ##.....  ######.  ...##..  .#####.  ##..###
##...##  ...##..  ....##.  .....##  ###..##  .####..  ###..##  ...##..  ##...##  .######
##...##  ...##..  ..###..  .....##  ##...##  ..####.  ##...##  ..##...  ##...##  .....##
##...##  ...##..  .##....  .....##  ##...##  .....##  ##...##  ..##...  ##...##  .....##
.##.##.  ...##..  ##.....  ##...##  ##..###  ##...##  ###..##  ..##...  ##...##  ....##.
..###..  .######  #######  .#####.  .######  .#####.  .#####.  ..##...  .#####.  .####..
.......  .......  .......  .......  .....##  .......  .......  .......  .......  .......
.......  .......  .......  .......  .....##  .......  .......  .......  .......  .......
"""


def lenet_1998(state, training):
    """C3 as a dense convolution whose absent connections are zero, each output map with
    its inputs in ascending order.
    """

    def squash(x):
        return 1.7159 * ((e := torch.exp(4 / 3 * x)) - 1) / (e + 1)

    def subsample(x, layer):
        blocks = x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
        return torch.stack(
            [
                c * blocks[:, i] + b
                for i, (c, b) in enumerate(zip(*pair(layer, "coefficient"), strict=True))
            ],
            1,
        )

    def pair(layer, weight="weight"):
        return state[f"{layer}.{weight}"], state[f"{layer}.bias"]

    def forward(x):
        x = squash(F.conv2d(x, *pair("features.c1.conv")))
        x = squash(subsample(x, "features.s2.pool"))
        groups = [pair(f"features.c3.conv.convs.{i}") for i in range(3)]
        dense = torch.zeros(16, 6, 5, 5)
        for out, kernels in enumerate(kernels for weight, _ in groups for kernels in weight):
            dense[out, WIRES[out]] = kernels
        x = squash(F.conv2d(x, dense, torch.cat([bias for _, bias in groups])))
        x = squash(subsample(x, "features.s4.pool"))
        x = squash(F.conv2d(x, *pair("features.c5.conv"))).reshape(len(x), 120)
        x = squash(F.linear(x, *pair("neck.f6")))
        return torch.stack(
            [-sum((x[:, j] - code[j]) ** 2 for j in range(84)) for code in state["head.codes"]], 1
        )

    return forward


def lenet_of_courses(state, training):
    def forward(x):
        for layer, padding in (("features.c1.conv", 2), ("features.c3.conv", 0)):
            x = F.conv2d(
                x, state[f"{layer}.weight"], state[f"{layer}.bias"], padding=padding
            ).clamp(min=0)
            x = torch.stack(
                [x[:, :, ::2, ::2], x[:, :, 1::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, 1::2]]
            ).amax(0)
        x = x.reshape(len(x), 400)
        for layer in ("neck.c5", "neck.f6"):
            x = (x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
        return x @ state["head.weight"].T + state["head.bias"]

    return forward


CASES = [Case("lenet5", lenet_1998, batch=8), Case("lenet5_modern", lenet_of_courses, batch=8)]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_full_logits(case, training):
    assert error(case, training) < TOLERANCE


def move_a_connection(model):
    assert model.features.c3.conv.wires[2][-1] == 5
    model.features.c3.conv.wires[1][-1] = 4


def mean_for_sum(model):
    with torch.no_grad():
        model.features.s2.pool.coefficient /= 4


def plain_tanh(model):
    model.features.c5.act = nn.Tanh()


def swap_codes(model):
    model.head.codes = model.head.codes[[1, 0, *range(2, 10)]]


def mean_pool(model):
    model.features.s2 = nn.AvgPool2d(2)


def drop_relu(model):
    model.neck.act5 = nn.Identity()


MUTATIONS = [
    *((CASES[0], mutate) for mutate in (move_a_connection, mean_for_sum, plain_tanh, swap_codes)),
    *((CASES[1], mutate) for mutate in (mean_pool, drop_relu)),
]


@pytest.mark.parametrize(("case", "mutate"), MUTATIONS)
def test_the_oracle_sees_mistakes(case, mutate):
    assert error(case, mutate=mutate) > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["lenet5", "lenet5_modern"])
def test_exact_parameters(name):
    with torch.device("meta"):
        model = zoo.create(name)
    claims = zoo.info(name).variant.claims
    assert sum(p.numel() for p in model.parameters()) == claims.params
    for figure in claims.printed:
        if figure.quantity == "params":
            assert (
                sum(p.numel() for p in model.get_submodule(figure.module).parameters())
                == figure.value
            )
        elif figure.compute:
            assert figure.compute(model) == figure.value


def test_connections_are_counted_from_the_network():
    modern = zoo.create("lenet5_modern", padding=0)
    assert connections("c3")(modern) == 2_416 * 100
    assert connections("f6", "head")(modern) == 10_164 + 850
    assert connections("s2")(modern) == 0  # nothing trainable in it


def test_c3_has_no_masked_weights():
    conv = zoo.create("lenet5").features.c3.conv
    assert [tuple(part.weight.shape) for part in conv.convs] == [
        (6, 3, 5, 5),
        (9, 4, 5, 5),
        (1, 6, 5, 5),
    ]
    assert sum(part.weight.numel() for part in conv.convs) == 1_500
    assert not list(conv.buffers())
    assert list(chain(*conv.wires)) == list(chain(*WIRES))


def test_any_table_can_be_wired():
    conv = TableConv2d(["X X", "XX "], 3)
    assert conv.wires == [[0, 1], [1, 0]]
    assert conv(torch.randn(2, 2, 5, 4)).shape == (2, 3, 3, 2)


def test_codes():
    pixels = torch.tensor(
        [[c == "#" for c in row.replace(" ", "")] for row in DIGITS.split("\n")[1:-1]]
    )
    assert torch.equal(
        pixels.view(12, 10, 7).transpose(0, 1).reshape(10, 84) * 2.0 - 1, RBF().codes
    )
    with torch.device("meta"):
        model = zoo.create("lenet5")
    model.to_empty(device="cpu").init_weights()
    assert torch.equal(model.head.codes, RBF().codes)


def test_the_largest_logit_is_the_nearest_code():
    rbf = RBF()
    logits = rbf(rbf.codes + 0.3)
    assert torch.equal(logits.argmax(1), torch.arange(10))
    assert torch.allclose(logits, -(torch.cdist(rbf.codes + 0.3, rbf.codes) ** 2), atol=1e-3)


def test_gradients():
    generator = torch.Generator().manual_seed(0)
    rbf, pool = RBF().double(), Subsampling(3).double()
    nn.init.normal_(pool.coefficient, generator=generator)
    nn.init.normal_(pool.bias, generator=generator)
    x = torch.randn(2, 84, dtype=torch.double, generator=generator, requires_grad=True)
    maps = torch.randn(2, 3, 4, 6, dtype=torch.double, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(rbf, (x,))
    assert torch.autograd.gradcheck(lambda x, *_: pool(x), (maps, pool.coefficient, pool.bias))
    table = TableConv2d(("X XX", "XX X", " XXX"), 2).double()
    assert torch.autograd.gradcheck(lambda x, *_: table(x), (maps, *table.parameters()))


def test_the_balls_of_the_loss_touch():
    assert torch.pdist(RBF().codes).square().min().item() / 4 == pytest.approx(J)


@pytest.mark.parametrize("j", [1.0, J, 100.0])
def test_loss_is_equation_9(j):
    generator = torch.Generator().manual_seed(0)
    penalties = 20 * torch.rand(7, 10, dtype=torch.double, generator=generator)
    labels = torch.randint(10, (7,), generator=generator)
    naive = [
        y[d] + torch.log(torch.exp(torch.tensor(-j, dtype=torch.double)) + torch.exp(-y).sum())
        for y, d in zip(penalties, labels, strict=True)
    ]
    assert discriminative_loss(-penalties, labels, j).item() == pytest.approx(
        sum(naive).item() / 7, rel=1e-12
    )


def test_initialisation():
    torch.manual_seed(0)
    model = zoo.create("lenet5")
    c3 = "features.c3.conv.convs"
    inputs = {
        "features.c1.conv": 25,
        f"{c3}.0": 75,
        f"{c3}.1": 100,
        f"{c3}.2": 150,
        "features.c5.conv": 400,
        "neck.f6": 120,
    }
    inputs |= {"features.s2.pool": 4, "features.s4.pool": 4}
    seen = set()
    for path, count in inputs.items():
        for name, parameter in model.get_submodule(path).named_parameters(path):
            seen.add(name)
            largest = parameter.abs().max().item()
            assert largest <= 2.4 / count
            assert parameter.numel() < 100 or largest > 0.95 * 2.4 / count
    assert seen == {name for name, _ in model.named_parameters()}


def test_initialisation_of_the_modern_network():
    torch.manual_seed(0)
    model = zoo.create("lenet5_modern")
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            inputs, outputs = (
                module.weight[0].numel(),
                module.weight.shape[0] * module.weight[0, 0].numel(),
            )
            bound = (6 / (inputs + outputs)) ** 0.5
            assert 0.95 * bound < module.weight.abs().max().item() <= bound
            assert not module.bias.any()


def test_other_numbers_of_classes_get_a_linear_output():
    model = zoo.create("lenet5")
    with pytest.warns(ZooWarning, match="codes for 10 classes"):
        model.reset_classifier(37)
    assert isinstance(model.head, nn.Linear)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 37)
    assert 0 < model.head.weight.abs().max().item() <= 2.4 / 84
    model.reset_classifier(10)
    assert torch.equal(model.head.codes, RBF().codes)
    with pytest.warns(ZooWarning, match="codes for 10 classes"):
        assert isinstance(zoo.create("lenet5", num_classes=3).head, nn.Linear)


def test_unknown_choices_are_named():
    expected = "LeNet5: pool='sum': expected 'trainable', 'mean' or 'max'"
    with pytest.raises(InputError, match=expected):
        zoo.create("lenet5", pool="sum")


def test_tutorial_variants():
    model = zoo.create("lenet5_modern", pool="mean", activation="tanh", padding=0)
    assert isinstance(model, LeNet5)
    assert sum(p.numel() for p in model.parameters()) == 61_706
    assert model.features(torch.zeros(1, 1, 32, 32)).shape == (1, 16, 5, 5)


def test_background_and_ink():
    variant = zoo.info("lenet5").variant
    assert [
        (value - variant.image.mean[0]) / variant.image.std[0] for value in (0, 1)
    ] == pytest.approx([-0.1, 1.175])


@pytest.fixture
def one_thread():  # quickest for networks of this size, above all on a busy machine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["lenet5", "lenet5_modern"])
def test_the_loss_learns_digits(name):
    digits, variant = load_digits(), zoo.info(name).variant
    images = (
        torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    )  # (1797, 1, 8, 8), ink 1
    images = (
        F.interpolate(images, variant.image.size[1:], mode="bilinear") - variant.image.mean[0]
    ) / variant.image.std[0]
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    model = zoo.create(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(150):
        picked = torch.randint(len(images), (32,))
        batch = (images[picked], labels[picked])
        loss = FAMILY.loss(model(batch[0]), batch, model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        predicted = model.eval()(images).argmax(1)
    assert (predicted == labels).float().mean() > 0.9

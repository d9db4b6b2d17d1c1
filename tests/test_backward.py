"""Training steps and other operations: against counts by hand, and against naive loops
that count what they compute.
"""

import math
from collections import Counter
from itertools import product
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import zoo


class Do(nn.Module):
    """A module that applies a function to a product with a parameter, so that the
    function's input has a gradient, too.
    """

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x, *args):
        return self.function(x * self.one, *args)


def step(function, x, *args):
    """The profile of a training step, whose other operations lack those of the product
    with the parameter.
    """
    profile = zoo.profile(Do(function), inputs=(x, *args), mode="train")
    assert profile.uncounted == {}
    return profile


class Number:
    """A number that counts what is done with it."""

    done: ClassVar = Counter()

    def __init__(self, value=0.0):
        self.value = float(value)

    def _made(self, what, value):
        Number.done[what] += 1
        return Number(value)

    def __add__(self, other):
        return self._made("+", self.value + float(other))

    def __sub__(self, other):
        return self._made("-", self.value - float(other))

    def __mul__(self, other):
        return self._made("*", self.value * float(other))

    def __truediv__(self, other):
        return self._made("/", self.value / float(other))

    def exp(self):
        return self._made("exp", math.exp(self.value))

    def larger(self, other):
        return self._made("max", max(self.value, float(other)))

    def __float__(self):
        return self.value


def numbers(tensor):
    """A dictionary from positions to numbers."""
    return {place: Number(tensor[place]) for place in product(*map(range, tensor.shape))}


def zeros(shape):
    return {place: Number() for place in product(*map(range, shape))}


def back(found, shape):
    return torch.tensor(
        [float(found[place]) for place in product(*map(range, shape))], dtype=torch.float64
    ).reshape(shape)


def counted(function):
    """What a function returns, and the operations that its numbers went through."""
    Number.done = Counter()
    return function(), Number.done


# --------------------------------------------------------------------- training by hand


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("vgg16", {}, 185_296_355_328),
        ("googlenet", {"aux_logits": False, "init_weights": False}, 17_508_458_496),
        ("densenet121", {}, 33_537_884_160),
        ("resnet50", {}, 48_598_155_264),
    ],
)
def test_a_training_step_of_torchvisions_networks(name, options, expected):
    from torchvision import models

    with torch.device("meta"):
        model = models.get_model(name, **options)
    profile = zoo.profile(model, (3, 224, 224), 2, mode="train")
    assert profile.flops + profile.backward_flops == expected
    assert (profile.flops, profile.backward_flops) == (2 * profile.macs, 2 * profile.backward_macs)
    first = next(row for row in profile.rows if row.kind == "Conv2d")
    assert (
        profile.backward_macs == 2 * profile.macs - first.macs
    )  # but for the image, every layer has two gradients
    assert first.backward_macs == first.macs
    assert profile.uncounted == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16", 185_296_355_328),
        ("densenet121", 33_537_884_160),
        ("resnet50_v1_5", 48_598_155_264),
    ],
)
def test_a_training_step_of_our_networks(name, expected):
    profile = zoo.profile(name, batch_size=2, mode="train")
    assert profile.flops + profile.backward_flops == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("densenet121", 2_834_161_664),
        ("resnet50_v1_5", 4_089_184_256),
        ("googlenet_bn", 1_498_376_192),
    ],
)
def test_a_forward_pass_of_our_networks(name, expected):
    assert zoo.profile(name).macs == zoo.profile(name, mode="train").macs == expected


def test_frozen_layers_have_no_gradient_of_their_weights():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.Linear(6, 7))
    x = torch.empty(3, 4)
    assert zoo.profile(model, inputs=x, mode="train").backward_macs == 3 * (
        4 * 5 + 2 * 5 * 6 + 2 * 6 * 7
    )
    model[1].requires_grad_(False)
    assert zoo.profile(model, inputs=x, mode="train").backward_macs == 3 * (
        4 * 5 + 5 * 6 + 2 * 6 * 7
    )
    model[0].requires_grad_(False)
    assert zoo.profile(model, inputs=x, mode="train").backward_macs == 3 * 6 * 7
    model.requires_grad_(False)
    profile = zoo.profile(model, inputs=x, mode="train")
    assert (profile.backward_macs, profile.backward_other, profile.macs) == (
        0,
        {},
        3 * (4 * 5 + 5 * 6 + 6 * 7),
    )


# ------------------------------------------------------------------------- convolutions

convolutions = st.fixed_dictionaries(
    {
        "size": st.lists(st.integers(2, 4), min_size=1, max_size=2),
        "kernel": st.integers(1, 3),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 1),
        "dilation": st.integers(1, 2),
        "groups": st.integers(1, 2),
        "into": st.integers(1, 2),
        "out": st.integers(1, 2),
        "batch": st.integers(1, 2),
    }
)


def convolve(x, weight, gradient, c):
    """Output, and the gradients of input and weight, of a convolution by a naive loop
    over the padded input.
    """
    into, out, edge = c["into"], c["out"], c["padding"]
    padded = F.pad(x, (edge, edge) * len(c["size"]))
    numbered, w, g = numbers(padded), numbers(weight), numbers(gradient)
    y, gx, gw = zeros(gradient.shape), zeros(padded.shape), zeros(weight.shape)
    for n, group, o, i in product(range(c["batch"]), range(c["groups"]), range(out), range(into)):
        for place in product(*map(range, gradient.shape[2:])):
            for tap in product(range(c["kernel"]), repeat=len(place)):
                where = tuple(
                    p * c["stride"] + t * c["dilation"] for p, t in zip(place, tap, strict=True)
                )
                a, b, d = (
                    (n, group * into + i, *where),
                    (group * out + o, i, *tap),
                    (n, group * out + o, *place),
                )
                y[d] = y[d] + numbered[a] * w[b]
                gx[a] = gx[a] + g[d] * w[b]
                gw[b] = gw[b] + g[d] * numbered[a]
    inside = (..., *[slice(edge, edge + side) for side in c["size"]])
    return back(y, gradient.shape), back(gx, padded.shape)[inside], back(gw, weight.shape)


@settings(max_examples=40, deadline=None)
@given(convolutions)
def test_convolution_backward_against_a_naive_loop(c):
    assume(all(side + 2 * c["padding"] > c["dilation"] * (c["kernel"] - 1) for side in c["size"]))
    layer = (nn.Conv1d, nn.Conv2d)[len(c["size"]) - 1]
    conv = layer(
        c["groups"] * c["into"],
        c["groups"] * c["out"],
        c["kernel"],
        c["stride"],
        c["padding"],
        c["dilation"],
        c["groups"],
        bias=False,
    )
    conv = conv.double()
    x = torch.randn(
        c["batch"], c["groups"] * c["into"], *c["size"], dtype=torch.float64, requires_grad=True
    )
    expected = conv(x)
    gradient = torch.randn_like(expected)
    (y, gx, gw), done = counted(lambda: convolve(x.detach(), conv.weight.detach(), gradient, c))
    expected.backward(gradient)
    torch.testing.assert_close((y, gx, gw), (expected.detach(), x.grad, conv.weight.grad))
    profile = step(conv, x)
    assert (profile.macs, profile.backward_macs) == (done["*"] // 3, 2 * done["*"] // 3)
    assert profile.macs + profile.backward_macs == done["+"]
    conv.weight.requires_grad_(False)
    assert step(conv, x).backward_macs == profile.macs
    alone = zoo.profile(conv.requires_grad_(), inputs=x.detach(), mode="train")
    assert alone.backward_macs == profile.macs
    both = zoo.profile(conv, inputs=x, mode="train")  # the input wants a gradient, too
    assert both.backward_macs == profile.backward_macs


@settings(max_examples=30, deadline=None)
@given(convolutions)
def test_transposed_convolution_backward_against_a_naive_loop(c):
    """It is a convolution whose output and input's gradient have changed places."""
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d)[len(c["size"]) - 1]
    options = {key: c[key] for key in ("stride", "dilation", "groups")}
    conv = layer(
        c["groups"] * c["out"], c["groups"] * c["into"], c["kernel"], bias=False, **options
    ).double()
    x = torch.randn(
        c["batch"], c["groups"] * c["out"], *c["size"], dtype=torch.float64, requires_grad=True
    )
    expected = conv(x)
    gradient = torch.randn_like(expected)
    swapped = {**c, "size": expected.shape[2:], "padding": 0}
    (gx, y, gw), done = counted(
        lambda: convolve(gradient, conv.weight.detach(), x.detach(), swapped)
    )
    expected.backward(gradient)
    torch.testing.assert_close((y, gx, gw), (expected.detach(), x.grad, conv.weight.grad))
    profile = step(conv, x)
    assert (profile.macs, profile.backward_macs) == (done["*"] // 3, 2 * done["*"] // 3)


# ----------------------------------------------------------------------------- products

sides = st.integers(1, 4)


def multiply(a, b, gradient):
    """(B, n, m) @ (B, m, p) and the gradients of both."""
    x, y, g = numbers(a), numbers(b), numbers(gradient)
    found, ga, gb = zeros(gradient.shape), zeros(a.shape), zeros(b.shape)
    for i, n, m, p in product(*map(range, (*a.shape, b.shape[2]))):
        found[i, n, p] = found[i, n, p] + x[i, n, m] * y[i, m, p]
        ga[i, n, m] = ga[i, n, m] + g[i, n, p] * y[i, m, p]
        gb[i, m, p] = gb[i, m, p] + g[i, n, p] * x[i, n, m]
    return back(found, gradient.shape), back(ga, a.shape), back(gb, b.shape)


@settings(max_examples=25, deadline=None)
@given(sides, sides, sides, sides)
def test_products_backward_against_a_naive_loop(i, n, m, p):
    a = torch.randn(i, n, m, dtype=torch.float64, requires_grad=True)
    b = torch.randn(i, m, p, dtype=torch.float64, requires_grad=True)
    expected = torch.bmm(a, b)
    gradient = torch.randn_like(expected)
    found, done = counted(lambda: multiply(a.detach(), b.detach(), gradient))
    expected.backward(gradient)
    torch.testing.assert_close(found, (expected.detach(), a.grad, b.grad))
    one = done["*"] // 3
    constant = torch.empty_like(b, device="meta")
    profile = step(lambda x: torch.bmm(x, constant), a)
    assert (profile.macs, profile.backward_macs) == (one, one)  # a constant has no gradient
    layer = nn.Linear(m, p)
    assert (
        [step(layer, a).macs, step(layer, a).backward_macs]
        == [i * n * m * p, 2 * i * n * m * p]
        == [one, 2 * one]
    )
    assert step(lambda x: x @ x.transpose(1, 2), a).backward_macs == 2 * i * n * m * n
    if min(i, n, m) > 1:  # else torch multiplies elementwise
        assert (
            step(lambda x: torch.einsum("bnm,bkm->bnk", x, x), a).backward_macs
            == 2 * step(lambda x: torch.bmm(x, x.mT), a).macs
        )


def test_attention_backward():
    q, k, v = torch.empty(2, 3, 5, 8), torch.empty(2, 3, 7, 8), torch.empty(2, 3, 7, 4)
    everything = nn.ParameterList([q, k, v])

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = everything

        def forward(self, x):
            return F.scaled_dot_product_attention(*self.parts) + x

    profile = zoo.profile(Attention(), inputs=torch.empty(1), mode="train")
    assert profile.macs == 2 * 3 * 5 * 7 * (8 + 4)
    assert profile.backward_macs == 2 * profile.macs  # two gradients of each of the two products


# --------------------------------------------------------------------- recurrent layers


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)]),
    st.integers(1, 4),
    sides,
    sides,
    sides,
    st.integers(1, 2),
    st.booleans(),
    st.booleans(),
)
def test_recurrent_layers_against_a_naive_count(
    kind, steps, batch, inputs, hidden, layers, both, batch_first
):
    layer, gates = kind
    expected = 0
    for number in range(layers):
        width = inputs if number == 0 else hidden * (1 + both)
        for _direction, _step, _example, _gate, _unit in product(
            *map(range, (1 + both, steps, batch, gates, hidden))
        ):
            expected += width + hidden
    model = layer(inputs, hidden, layers, bidirectional=both, batch_first=batch_first)
    x = torch.empty(*((batch, steps) if batch_first else (steps, batch)), inputs)
    profile = zoo.profile(model, inputs=x)
    assert (profile.macs, profile.uncounted) == (expected, {})
    assert zoo.profile(model, inputs=x, mode="train").macs == expected


def test_cells_and_a_sequence():
    cell = nn.LSTMCell(512, 512)
    assert 20 * zoo.profile(cell, inputs=torch.empty(1, 512)).macs == 41_943_040
    profile = zoo.profile(nn.LSTM(512, 512), inputs=torch.empty(20, 1, 512), mode="train")
    weights = 4 * 512 * 512
    # the inputs and the first state have no gradient; all weights and the other 19
    # states do
    assert (profile.macs, profile.backward_macs) == (
        20 * 2 * weights,
        20 * 2 * weights + 19 * weights,
    )


# --------------------------------------------------------------------- other operations

windows = st.fixed_dictionaries(
    {
        "size": st.integers(3, 6),
        "kernel": st.integers(1, 3),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 1),
        "ceil": st.booleans(),
    }
)


@settings(max_examples=30, deadline=None)
@given(windows)
def test_pooling_against_a_naive_loop(c):
    assume(c["padding"] <= c["kernel"] // 2)
    x = torch.randn(2, 3, c["size"], c["size"] + 1, requires_grad=True)
    options = {
        "kernel_size": c["kernel"],
        "stride": c["stride"],
        "padding": c["padding"],
        "ceil_mode": c["ceil"],
    }
    output = F.max_pool2d(x, **options)
    inside = sum(
        1 for _ in product(*map(range, (*output.shape, c["kernel"], c["kernel"])))
    )  # the padding's values, too
    most = step(lambda x: F.max_pool2d(x, **options), x)
    assert (most.other["pooling"], most.backward_other["pooling"]) == (inside, output.numel())
    mean = step(lambda x: F.avg_pool2d(x, **options), x)
    assert (mean.other["pooling"], mean.backward_other["pooling"]) == (inside, inside)
    whole = step(lambda x: F.adaptive_avg_pool2d(x, 2), x)
    assert whole.other["pooling"] == x.numel()


def normalised(x, weight, bias, gradient, eps=1e-5):
    """Batch norm of (N, C) in training and the input's gradient; what is done once per
    channel is done in plain numbers.
    """
    v, g = numbers(x), numbers(gradient)
    rows, channels = x.shape
    y, gx, split = {}, {}, []
    for c in range(channels):
        total, squares = Number(), Number()
        for n in range(rows):
            total = total + v[n, c]
        mean = float(total) / rows
        for n in range(rows):
            distance = v[n, c] - mean
            squares = squares + distance * distance
        scale = 1 / math.sqrt(float(squares) / rows + eps)
        a, b = scale * float(weight[c]), float(bias[c]) - mean * scale * float(weight[c])
        for n in range(rows):
            y[n, c] = v[n, c] * a + b
        split.append((mean, scale))
    forward = sum(Number.done.values())
    for c, (mean, scale) in enumerate(split):
        total, products = Number(), Number()
        for n in range(rows):
            total = total + g[n, c]
            products = products + g[n, c] * v[n, c]
        slope = (float(products) - mean * float(total)) * scale**2 / rows
        for n in range(rows):
            gx[n, c] = (g[n, c] - float(total) / rows - (v[n, c] - mean) * slope) * (
                scale * float(weight[c])
            )
    return back(y, x.shape), back(gx, x.shape), forward


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), sides)
def test_batch_norm_against_a_naive_loop(rows, channels):
    x = torch.randn(rows, channels, dtype=torch.float64, requires_grad=True)
    norm = nn.BatchNorm1d(channels).double()
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    expected = norm(x)
    gradient = torch.randn_like(expected)
    (y, gx, forward), done = counted(
        lambda: normalised(x.detach(), norm.weight.detach(), norm.bias.detach(), gradient)
    )
    expected.backward(gradient)
    torch.testing.assert_close((y, gx), (expected.detach(), x.grad))
    profile = step(norm, x)
    assert profile.other["normalisation"] == forward
    assert profile.backward_other["normalisation"] == sum(done.values()) - forward
    assert zoo.profile(norm, inputs=x).other == {"normalisation": 2 * x.numel()}


def softmax(x, gradient):
    """Softmax of the rows and the gradient of its input."""
    v, g = numbers(x), numbers(gradient)
    y, gx = {}, {}
    for n in range(len(x)):
        most, total = Number(-math.inf), Number()
        for i in range(x.shape[1]):
            most = most.larger(v[n, i])
        for i in range(x.shape[1]):
            y[n, i] = (v[n, i] - most).exp()
            total = total + y[n, i]
        for i in range(x.shape[1]):
            y[n, i] = y[n, i] / total
    forward = sum(Number.done.values())
    for n in range(len(x)):
        total = Number()
        for i in range(x.shape[1]):
            gx[n, i] = g[n, i] * y[n, i]
            total = total + gx[n, i]
        for i in range(x.shape[1]):
            gx[n, i] = gx[n, i] - y[n, i] * total
    return back(y, x.shape), back(gx, x.shape), forward


@settings(max_examples=25, deadline=None)
@given(sides, sides)
def test_softmax_against_a_naive_loop(rows, width):
    x = torch.randn(rows, width, dtype=torch.float64, requires_grad=True)
    expected = x.softmax(1)
    gradient = torch.randn_like(expected)
    (y, gx, forward), done = counted(lambda: softmax(x.detach(), gradient))
    expected.backward(gradient)
    torch.testing.assert_close((y, gx), (expected.detach(), x.grad))
    for function in (F.softmax, F.log_softmax):
        profile = step(lambda x, function=function: function(x, 1), x)
        assert profile.other["softmax"] == forward
        assert profile.backward_other["softmax"] == sum(done.values()) - forward


def test_biases_and_activations():
    x = torch.empty(2, 3, 5, 5)
    profile = zoo.profile(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 7), nn.Sigmoid()),
        inputs=x,
        mode="train",
    )
    values, outputs = 2 * 4 * 9, 2 * 7
    assert profile.other == {"bias": values + outputs, "activation": values + outputs}
    assert profile.backward_other == {
        "activation": values + outputs,
        "bias": values,
        "reduction": outputs,
    }
    assert zoo.profile(nn.Conv2d(3, 4, 3, bias=False), inputs=x).other == {}


def test_what_has_no_multiply_adds_is_counted_by_kind():
    x, n = torch.empty(2, 6, 4, 4), 2 * 6 * 4 * 4
    words = torch.zeros(2, 5, dtype=torch.long)
    assert zoo.profile(nn.Embedding(9, 3), inputs=words).other == {"lookup": 2 * 5 * 3}
    # squares, a window of 5 maps, times alpha, plus k, power, quotient
    assert zoo.profile(nn.LocalResponseNorm(5), inputs=x).other == {
        "elementwise": 5 * n,
        "pooling": 5 * n,
    }
    costs = {
        "nearest": 1,
        "bilinear": 4 + 3,
        "bicubic": 16 + 15,
    }  # a product for each value, and their sum
    for mode, cost in costs.items():
        profile = zoo.profile(nn.Upsample(scale_factor=2, mode=mode), inputs=x)
        assert (profile.other, profile.macs) == ({"interpolation": 4 * n * cost}, 0)
    assert zoo.profile(nn.LayerNorm(4), inputs=x).other == {"normalisation": 8 * n}
    assert zoo.profile(nn.GroupNorm(2, 6), inputs=x).other == {"normalisation": 8 * n}
    rows = zoo.profile(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Softmax(1)), inputs=x).rows
    assert [row.other for row in rows] == [6 * n, 0, n, 5 * n]


@pytest.mark.parametrize(
    ("plain", "in_place"),
    [
        (lambda x: F.relu(x), lambda x: F.relu_(x)),
        (lambda x: F.leaky_relu(x, 0.1), lambda x: F.leaky_relu_(x, 0.1)),
        (lambda x: F.hardtanh(x), lambda x: F.hardtanh_(x)),
        (lambda x: F.silu(x), lambda x: F.silu(x, inplace=True)),
        (lambda x: x.sigmoid(), lambda x: x.sigmoid_()),
        (lambda x: x + x.mean(), lambda x: x.add_(x.mean())),
        (lambda x: x.addmm(x, x), lambda x: x.addmm_(x.clone(), x.clone())),
        (lambda x: x.clamp(0, 1) * 3, lambda x: x.clamp_(0, 1).mul_(3)),
        (lambda x: x.masked_fill(x > 0, 1), lambda x: x.masked_fill_(x > 0, 1)),
        (lambda x: F.dropout(x, 0.3, True), lambda x: F.dropout(x, 0.3, True, inplace=True)),
        (lambda x: torch.mm(x, x), lambda x: torch.mm(x, x, out=torch.empty_like(x))),
    ],
)
def test_in_place_forms_count_as_plain_ones(plain, in_place):
    class Plain(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, x):
            return self.function(x)

    one, two = (
        zoo.profile(Plain(function), inputs=torch.empty(4, 4)) for function in (plain, in_place)
    )
    assert (one.macs, one.other, one.uncounted) == (two.macs, two.other, two.uncounted)
    assert one.macs or one.other


# -------------------------------------------------------------------------- attribution


def own(profile, attribute):
    """The rows' counts without those of the rows below them."""
    found = {row.path: getattr(row, attribute) for row in profile.rows}
    inside = Counter()
    for path in found:
        if path:
            inside[path.rpartition(".")[0]] += found[path]
    return {path: count - inside[path] for path, count in found.items()}


@pytest.mark.parametrize(
    "name",
    [
        "lenet5",
        "vgg11",
        "googlenet",
        "resnet18",
        "densenet40_k12_cifar10",
        "preresnet18",
        "fractalnet_c3",
        "highway19_cifar10",
    ],
)
def test_rows_add_up(name):
    profile = zoo.profile(name, mode="train")
    kinds = {row.path: row.kind for row in profile.rows}
    for attribute in ("macs", "backward_macs", "other", "backward_other", "activation_bytes"):
        parts = own(profile, attribute)
        assert min(parts.values()) >= 0, attribute
        assert sum(parts.values()) == getattr(profile.rows[0], attribute) > 0
    assert sum(profile.other.values()) == profile.rows[0].other
    assert sum(profile.backward_other.values()) == profile.rows[0].backward_other
    for path, macs in own(profile, "macs").items():
        backward = own(profile, "backward_macs")[path]
        assert backward in (macs, 2 * macs), (path, kinds[path])
        assert bool(macs) == bool(backward)


class Shared(nn.Module):
    """A layer that runs in two places, and one whose weight is another's."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.rest = nn.ModuleList(
            [self.first, nn.Linear(4, 4, bias=False), nn.Sequential(nn.Linear(4, 4), nn.ReLU())]
        )
        self.rest[1].weight = self.first.weight

    def forward(self, x):
        side = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return x @ side.mT


def test_shared_modules_have_the_gradients_of_all_their_calls():
    rows = {
        row.path: row for row in zoo.profile(Shared(), inputs=torch.empty(2, 4), mode="train").rows
    }
    one = 2 * 4 * 4
    assert rows["first"].macs == 2 * one
    assert rows["first"].backward_macs == 2 * one  # the image has no gradient in either place
    assert rows["rest.1"].backward_macs == 2 * one
    assert rows["rest.2"].backward_macs == rows["rest.2.0"].backward_macs == 2 * one
    assert (
        rows["rest"].backward_macs == 6 * one
    )  # a list is never called: what its layers do anywhere
    assert rows[""].backward_macs == 6 * one + 2 * (2 * 4 * 2)


@pytest.mark.parametrize("name", ["vgg11", "resnet20_cifar10", "squeezenet1_1"])
def test_checkpointed_stages_are_computed_again(name):
    model = zoo.create(name, device="meta")
    plain = zoo.profile(model, mode="train")
    model.set_grad_checkpointing()
    again = zoo.profile(model, mode="train")
    features = next(row.macs for row in plain.rows if row.path == "features")
    assert features > 0.5 * plain.macs
    assert (again.macs, again.backward_macs) == (plain.macs, plain.backward_macs + features)
    for before, after in zip(plain.rows, again.rows, strict=True):
        extra = (
            before.macs
            if before.path.startswith("features")
            else features
            if not before.path
            else 0
        )
        assert (after.path, after.macs, after.backward_macs) == (
            before.path,
            before.macs,
            before.backward_macs + extra,
        )
    assert again.activation_bytes < plain.activation_bytes
    model.set_grad_checkpointing(False)
    assert zoo.profile(model, mode="train") == plain

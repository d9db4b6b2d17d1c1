"""The counters: against counts by hand, naive loops and two other libraries; and that
they leave everything as it was.
"""

import random
import subprocess
import sys
import threading
import warnings
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import Do
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
)
from torch.utils.checkpoint import checkpoint

import zoo
from zoo.count.meta import copy_on_meta
from zoo.errors import InputError, UsageError, ZooError, ZooWarning


def macs(function, *args):
    return zoo.profile(Do(function), inputs=args).macs


# ----------------------------------------------------------------------- counts by hand


def test_vgg16_by_hand():
    assert zoo.profile("vgg16").macs == 15_470_264_320


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vgg16", (138_357_544, 15_470_264_320, 16)),
        ("googlenet", (6_624_904, 1_498_376_192, 22)),
        ("densenet121", (7_978_856, 2_834_161_664, 121)),
        ("resnet50", (25_557_032, 4_089_184_256, 50)),
    ],
)
def test_torchvision_networks_by_hand(name, expected):
    from torchvision import models

    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("meta"):
        model = models.get_model(name, **options)
    profile = zoo.profile(model, (3, 224, 224))
    assert (profile.params, profile.macs, profile.depth) == expected
    assert profile.flops == 2 * profile.macs
    assert profile.uncounted == {}


def test_lstm_by_hand():
    profile = zoo.profile(nn.LSTM(512, 512), inputs=torch.empty(20, 1, 512))
    assert profile.macs == 20 * 4 * 512 * (512 + 512) == 41_943_040
    assert profile.rows[0].output == ((20, 1, 512), (1, 1, 512), (1, 1, 512))


def test_bilinear_layers_against_a_naive_loop():
    n, i, j, o = 8, 20, 30, 40
    layer = nn.Bilinear(i, j, o)
    profile = zoo.profile(layer, inputs=(torch.zeros(n, i), torch.zeros(n, j)), mode="train")
    # x @ W for each output and value of the second input, then the product with that
    assert (profile.macs, profile.uncounted) == (n * o * j * (i + 1), {})
    assert profile.backward_macs == n * o * i * (1 + j), "the weight's gradient"


@pytest.mark.parametrize("points", [20, 1000])  # torch takes another kernel from 26 on
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_distances_forwards_and_backwards(points, power):
    x = torch.zeros(points, 64, requires_grad=True)
    model = Do(lambda x: torch.cdist(x, x[:12], p=power))
    profile = zoo.profile(model, inputs=x, mode="train")
    assert (profile.macs, profile.backward_macs) == (points * 12 * 64, 2 * points * 12 * 64)
    assert profile.uncounted == {}
    pairs = zoo.profile(Do(lambda x: F.pdist(x, power)), inputs=x, mode="train")
    number = points * (points - 1) // 2
    assert (pairs.macs, pairs.backward_macs) == (number * 64, 2 * number * 64)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_embeddings_costs_as_much_as_embeddings_and_their_sum(mode):
    words = torch.zeros(4, 100, dtype=torch.long)
    bag = zoo.profile(nn.EmbeddingBag(1000, 64, mode=mode), inputs=words, mode="train")
    plain = nn.Sequential(nn.Embedding(1000, 64), Do(lambda x: x.sum(1)))
    assert sum(bag.other.values()) == sum(zoo.profile(plain, inputs=words).other.values())
    assert (sum(bag.other.values()), bag.uncounted) == (2 * 4 * 100 * 64, {})
    weights = torch.zeros(4, 100)
    weighted = zoo.profile(
        nn.EmbeddingBag(1000, 64, mode="sum"),
        inputs={"input": words, "per_sample_weights": weights},
    )
    assert sum(weighted.other.values()) == 3 * 4 * 100 * 64


def test_a_complex_product_is_three_real_ones_in_every_layer():
    layers = {
        nn.Linear(16, 8, dtype=torch.complex64): (4, 16),
        nn.Conv1d(16, 8, 1, dtype=torch.complex64): (1, 16, 4),
    }
    for layer, size in layers.items():
        x = torch.zeros(size, dtype=torch.complex64)
        profile = zoo.profile(layer, inputs=x, mode="train")
        assert (profile.macs, profile.backward_macs) == (3 * 512, 3 * 512)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_scripted_parts_count_as_plain_ones():
    plain = nn.Sequential(nn.Linear(16, 32), nn.Sequential(nn.Linear(32, 8), nn.BatchNorm1d(8)))
    scripted = nn.Sequential(plain[0], torch.jit.script(plain[1]))
    x = torch.zeros(2, 16)
    before = [tensor.clone() for tensor in scripted.state_dict().values()]
    one, other = (zoo.profile(each, inputs=x, mode="train") for each in (plain, scripted))
    assert (other.params, other.macs, other.backward_macs) == (
        16 * 32 + 32 + 32 * 8 + 8 + 2 * 8,
        2 * (16 * 32 + 32 * 8),
        2 * (16 * 32 + 2 * 32 * 8),
    )
    assert (one.params, one.macs, one.backward_macs) == (
        other.params,
        other.macs,
        other.backward_macs,
    )
    first, second = (zoo.memory(each, inputs=x, device="cpu") for each in (plain, scripted))
    assert (first.parameters, first.buffers) == (second.parameters, second.buffers)
    after = scripted.state_dict().values()
    assert all(torch.equal(now, then) for now, then in zip(after, before, strict=True))
    assert not any(tensor.is_meta for tensor in after)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pretrained_cfg", "weights.pth"),
        ("keep_probabilities", torch.ones(3)),
        ("disable_drop_path", nn.Linear(3, 3)),
        ("keep_probabilities", nn.Linear(3, 3)),
    ],
)
def test_attributes_of_the_users_own_may_have_the_names_of_ours(name, value):
    model = nn.Linear(16, 8)
    setattr(model, name, value)
    x = torch.zeros(4, 16)
    assert zoo.profile(model, inputs=x, mode="train").macs == 512
    assert zoo.memory(model, inputs=x).gradients > 0


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 16)

    def forward(self, x):
        return pad_packed_sequence(self.lstm(x)[0])[0]


def test_packed_sequences_and_lists_as_inputs():
    packed = pack_sequence([torch.empty(5, 8), torch.empty(3, 8)])
    for inputs in (packed, (packed,), [packed], {"x": packed}):
        profile = zoo.profile(Packed(), inputs=inputs)
        assert profile.macs == (5 + 3) * 4 * 16 * (8 + 16)  # no step for what is padded
        assert profile.rows[0].output == (5, 2, 16)


def test_batch_size_multiplies():
    one, three = zoo.profile("lenet5"), zoo.profile("lenet5", batch_size=3)
    assert (three.macs, three.params, three.depth) == (3 * one.macs, one.params, one.depth)
    assert three.inputs == ((3, 1, 32, 32),)
    assert three.rows[0].output == (3, 10)


# -------------------------------------------------------------------------- naive loops


def loops(*ranges):
    return sum(1 for _ in product(*ranges))


convolutions = st.fixed_dictionaries(
    {
        "size": st.lists(st.integers(3, 5), min_size=1, max_size=3),
        "kernel": st.integers(1, 3),
        "stride": st.integers(1, 2),
        "padding": st.integers(0, 2),
        "dilation": st.integers(1, 2),
        "groups": st.integers(1, 3),
        "into": st.integers(1, 2),
        "out": st.integers(1, 2),
        "batch": st.integers(1, 2),
    }
)


@settings(max_examples=40, deadline=None)
@given(convolutions)
def test_convolution_against_a_naive_loop(c):
    where = [
        range(
            -c["padding"], n + c["padding"] - c["dilation"] * (c["kernel"] - 1), c["stride"]
        )  # left edges of the kernel
        for n in c["size"]
    ]
    if not all(where):
        return
    kernel = [range(c["kernel"])] * len(c["size"])
    expected = loops(
        range(c["batch"]), range(c["groups"]), range(c["out"]), range(c["into"]), *where, *kernel
    )
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(c["size"]) - 1]
    options = {key: c[key] for key in ("stride", "padding", "dilation", "groups")}
    conv = layer(c["groups"] * c["into"], c["groups"] * c["out"], c["kernel"], **options)
    profile = zoo.profile(conv, inputs=torch.empty(c["batch"], c["groups"] * c["into"], *c["size"]))
    assert profile.macs == expected
    assert profile.rows[0].output == (c["batch"], c["groups"] * c["out"], *map(len, where))


@settings(max_examples=30, deadline=None)
@given(convolutions)
def test_transposed_convolution_against_a_naive_loop(c):
    kernel = [range(c["kernel"])] * len(c["size"])
    expected = loops(
        range(c["batch"]),
        range(c["groups"]),
        range(c["out"]),
        range(c["into"]),
        *map(range, c["size"]),
        *kernel,
    )
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[len(c["size"]) - 1]
    options = {key: c[key] for key in ("stride", "dilation", "groups")}
    conv = layer(c["groups"] * c["into"], c["groups"] * c["out"], c["kernel"], **options)
    assert (
        zoo.profile(conv, inputs=torch.empty(c["batch"], c["groups"] * c["into"], *c["size"])).macs
        == expected
    )


sides = st.integers(1, 4)


@settings(max_examples=30, deadline=None)
@given(sides, sides, sides, sides)
def test_products_against_naive_loops(b, n, m, p):
    one, many = loops(range(n), range(m), range(p)), loops(range(b), range(n), range(m), range(p))
    x, y, z = torch.empty(n, m), torch.empty(m, p), torch.empty(n, p)
    xs, ys, zs = (t.expand(b, *t.shape) for t in (x, y, z))
    v = torch.empty(m)
    assert macs(torch.mm, x, y) == macs(torch.addmm, z, x, y) == macs(torch.matmul, x, y) == one
    assert (
        macs(torch.bmm, xs, ys)
        == macs(torch.baddbmm, zs, xs, ys)
        == macs(torch.addbmm, z, xs, ys)
        == macs(torch.matmul, xs, y)
        == many
    )
    assert (
        macs(torch.mv, x, v) == macs(torch.addmv, torch.empty(n), x, v) == loops(range(n), range(m))
    )
    assert macs(torch.dot, v, v) == macs(torch.vdot, v, v) == m
    if min(b, n, m, p) > 1:  # else torch multiplies elementwise
        assert macs(lambda x, y: torch.einsum("bnm,mp->bnp", x, y), xs, y) == many
    assert (
        macs(F.linear, xs, y.T, torch.empty(p))
        == macs(lambda z, x, y: z.addmm_(x, y), z, x, y) * b
        == many
    )


def test_attention():
    q, k, v = torch.empty(2, 3, 5, 8), torch.empty(2, 3, 7, 8), torch.empty(2, 3, 7, 4)
    assert macs(F.scaled_dot_product_attention, q, k, v) == 2 * 3 * 5 * 7 * (8 + 4)


def test_the_fused_operators_of_attention():
    """They do not occur on the meta device by themselves."""
    q = torch.empty(2, 3, 16, 8)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    profile = zoo.profile(Do(lambda q: fused(q, q, q)), inputs=q)
    assert (profile.macs, profile.depth) == (2 * 3 * 16 * 16 * 16, 1)


# ---------------------------------------------------------------------- second opinions


@pytest.mark.parametrize("name", ["lenet5", "resnet20_cifar10", "squeezenet1_1"])
def test_torch_and_fvcore_agree(name):
    from torch.utils.flop_counter import FlopCounterMode

    profile = zoo.profile(name)
    model = zoo.create(name).eval()
    x = torch.zeros(profile.inputs[0])
    with FlopCounterMode(display=False) as theirs, torch.no_grad():
        model(x)
    assert theirs.get_total_flops() == profile.flops
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing in fvcore uses deprecated functions of torch
        from fvcore.nn import FlopCountAnalysis

        operators = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).by_operator()
    products = {
        "conv",
        "linear",
        "addmm",
        "matmul",
        "bmm",
        "einsum",
    }  # its "flops" are multiply-adds; it counts norms and pooling too
    assert (
        sum(count for operator, count in operators.items() if operator in products) == profile.macs
    )


# -------------------------------------------------------------------------------- depth


class Branches(nn.Module):
    """Four layers on the longest path: two in a row, a view of their output written in
    place, one more, and a product.
    """

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        side = self.d(x)
        long = self.b(self.a(x)).relu_().view(-1, 2, 2).transpose(1, 2)
        canvas = torch.zeros(2 * len(x), 4)  # on the CPU, as nothing says otherwise
        canvas[: len(x)] += long.reshape(-1, 4)
        canvas[len(x) :] = side
        return self.c(canvas) @ torch.ones(4, 4), side


def test_depth_follows_branches_views_and_operators_in_place():
    profile = zoo.profile(Branches(), inputs=torch.empty(3, 4))
    assert profile.depth == 4
    assert profile.rows[0].output == ((6, 4), (3, 4))
    only_side = Do(lambda x: (nn.functional.conv2d(x, torch.empty(1, 1, 1, 1)), x)[1])
    assert zoo.profile(only_side, (1, 4, 4)).depth == 0


def test_constants_are_really_computed():
    def function(x):
        steps = torch.zeros((), dtype=torch.long)
        for _ in range(3):
            steps += 1
        return x[:, : steps.item()]

    assert zoo.profile(Do(function), inputs=torch.empty(2, 5)).rows[0].output == (2, 3)


def test_equal_calls_on_other_shapes_and_types_are_told_apart():
    def function(x):
        whole = torch.ones(4, dtype=torch.long, device=x.device)
        return [x + 1, x[:2] + 1, x.double() + 1, whole + 1, whole + 1.0, x.T + 1, x.max(1)]

    outputs = []

    model = Do(
        lambda x: [outputs.append(function(x)) for _ in range(2)] and x
    )  # the second time from what is known
    assert zoo.profile(model, inputs=torch.empty(4, 3)).macs == 0
    plain = function(torch.empty(4, 3))
    for output in outputs:
        for ours, theirs in zip(output[:-1], plain[:-1], strict=True):
            assert (ours.shape, ours.stride(), ours.dtype) == (
                theirs.shape,
                theirs.stride(),
                theirs.dtype,
            )
        assert [part.dtype for part in output[-1]] == [part.dtype for part in plain[-1]]


def test_the_first_count_of_a_process_is_that_of_the_next():
    """Whatever torch loads for it on the way."""
    code = (
        "import zoo; print(*(zoo.profile('lenet5').activation_bytes for _ in range(2)), "
        "zoo.memory('lenet5').activations)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    first, second, memory = map(int, done.stdout.split())
    assert first == second
    assert 0 < second < memory


def test_depth_of_equal_layers_is_not_shared_between_runs():
    x = torch.empty(2, 4)
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    assert [zoo.profile(model[:n], inputs=x).depth for n in (5, 2, 5)] == [5, 2, 5]
    on_meta = torch.empty(2, 4, device="meta")
    assert [
        zoo.profile(Do(lambda x: x.add_(x @ x.T @ x)), inputs=on_meta).depth for _ in range(2)
    ] == [2, 2]


# --------------------------------------------------------------------------------- rows


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.layers = nn.ModuleList([self.first, nn.Linear(4, 4, bias=False), nn.Linear(4, 4)])
        self.layers[1].weight = self.first.weight
        self.never = nn.Linear(9, 9)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return {"out": [x, (x, None)], "twice": self.first(x)}


def test_rows_are_the_module_tree_with_shared_parameters_once():
    profile = zoo.profile(Shared(), inputs={"x": torch.empty(2, 4)})
    found = {
        row.path: (row.kind, row.level, row.calls, row.output, row.params, row.macs)
        for row in profile.rows
    }
    assert found == {
        "": ("Shared", 0, 1, ((2, 4), (2, 4), (2, 4)), 20 + 20 + 90, 4 * 32),
        "first": ("Linear", 1, 2, (2, 4), 20, 2 * 32),
        "layers": ("ModuleList", 1, 0, (), 40, 4 * 32),
        "layers.1": ("Linear", 2, 1, (2, 4), 16, 32),
        "layers.2": ("Linear", 2, 1, (2, 4), 20, 32),
        "never": ("Linear", 1, 0, (), 90, 0),
    }
    assert list(found) == ["", "first", "layers", "layers.1", "layers.2", "never"]
    assert profile.params == sum(p.numel() for p in Shared().parameters())
    assert profile.depth == 4


class Recursive(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, times):
        return self(self.layer(x), times - 1) if times else x


def test_a_module_that_calls_itself_counts_once():
    profile = zoo.profile(Recursive(), inputs=(torch.empty(1, 4), 3))
    assert [(row.calls, row.macs) for row in profile.rows] == [(4, 48), (3, 48)]


class Direct(nn.Module):
    """Layers whose forward is called directly, which runs no hooks."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.head = nn.Linear(16, 4)
        self.head.forward = self.head.forward  # as libraries do that replace it
        self.head.register_forward_hook(lambda *_: pytest.fail("a hook ran"))

    def forward(self, x):
        x = self.body.forward(x)
        return self.head.forward(x) + checkpoint(self.head.forward, x, use_reentrant=True)


def test_a_forward_that_is_called_directly_is_in_its_row():
    profile = zoo.profile(Direct(), inputs=torch.zeros(2, 8), mode="train")
    rows = {row.path: (row.calls, row.macs, row.backward_macs) for row in profile.rows}
    assert rows["body"] == (1, 256, 256)
    assert rows["head"] == (2, 256, 512 + 128)  # one of the two is run again
    assert rows[""] == (1, 512, 768 + 128)
    model = Direct()
    bound = model.head.forward
    zoo.profile(model, inputs=torch.zeros(2, 8))
    assert model.head.forward is bound
    with pytest.raises(
        InputError, match=r"^Direct does not .* in body\.0 \(Linear\): RuntimeError"
    ):
        zoo.profile(model, inputs=torch.zeros(2, 9))


class Careful(nn.Module):
    """Catches what goes wrong in a part."""

    def __init__(self):
        super().__init__()
        self.part = nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 5))
        self.rest = nn.Linear(4, 2)

    def forward(self, x):
        try:
            return self.part(x)
        except RuntimeError:
            return self.rest(x)


def test_a_caught_exception_does_not_confuse_the_rows():
    rows = {row.path: row.macs for row in zoo.profile(Careful(), inputs=torch.empty(1, 4)).rows}
    assert rows == {"": 24, "part": 16, "part.0": 16, "part.1": 0, "rest": 8}


def test_the_module_of_an_exception_is_right_after_a_caught_one_and_inside_an_except_block():
    try:
        raise KeyError("outer")
    except KeyError:
        with pytest.raises(
            InputError, match=r"Sequential does not take the input 1x4: in 1\.rest \(Linear\)"
        ):
            zoo.profile(nn.Sequential(nn.Linear(4, 7), Careful()), inputs=torch.empty(1, 4))
        with pytest.raises(InputError, match=r"in 1 \(Do\): ValueError"):
            zoo.profile(nn.Sequential(Careful(), Do(int)), inputs=torch.empty(1, 4))


def test_lazily_built_layers():
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(5))
    profile = zoo.profile(model, 8)
    assert [row.kind for row in profile.rows] == ["Sequential", "Conv2d", "Flatten", "Linear"]
    assert profile.params == 8 * 27 + 8 + 8 * 36 * 5 + 5
    assert type(model[0]) is nn.LazyConv2d


def test_to_dict_and_text():
    profile = zoo.profile("lenet5")
    record = profile.to_dict()
    assert record["rows"][0]["macs"] == record["macs"] == 325_680
    assert profile.summary() == (
        "lenet5, input 1x1x32x32: 60,000 parameters, 325,680 MACs (651,360 FLOPs), 4 "
        "convolutions or matrix products deep"
    )


# ---------------------------------------------------------------------------- uncounted


def test_unknown_operators_are_named_never_counted_as_zero():
    with pytest.warns(
        ZooWarning,
        match=r"Do: the counts lack these operators.*aten::_fft_r2c \(called 2x\), "
        r"aten::_fft_c2r \(called 1x\)",
    ):
        profile = zoo.profile(
            Do(lambda x: torch.fft.irfft(torch.fft.rfft(x)) + torch.fft.rfft(x).abs().sum()),
            inputs=torch.empty(3, 8),
        )
    assert profile.uncounted == {"aten::_fft_r2c": 2, "aten::_fft_c2r": 1}


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.add_(1).clamp_(0, 1).unsqueeze_(0),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect").softmax(1).cumsum(2),
        lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2, mode="bilinear"),
        lambda x: F.local_response_norm(F.instance_norm(x), 3).flip(1).sort(1)[0],
        lambda x: (
            torch.where(x > 0, x, x.new_zeros(()))[:, [3, 2, 1, 0]]
            .masked_fill(x == 0, 1)
            .std((2, 3))
        ),
        lambda x: F.pixel_shuffle(x.repeat(1, 2, 1, 1), 2).unfold(2, 3, 1).logsumexp(-1),
        lambda x: (
            F.dropout(F.gelu(F.group_norm(x, 2)), 0.5, training=True) + torch.rand_like(x) ** 2 // 3
        ),
        lambda x: F.embedding(x.argmax(1), torch.empty(4, 3)).norm(dim=-1).topk(2).values,
        lambda x: torch.stack(x.chunk(2, 1)).triu().roll(1).expand(3, -1, -1, -1, -1, -1),
    ],
)
def test_operators_without_multiply_adds_are_known(function):
    profile = zoo.profile(Do(function), inputs=torch.empty(2, 4, 6, 6))
    assert (profile.macs, profile.depth, profile.uncounted) == (0, 0, {})


def test_inference_mode_hides_nothing():
    with torch.inference_mode():
        inside = zoo.profile(nn.Conv2d(3, 4, 3), 8)
        assert torch.is_inference_mode_enabled()
    assert inside.macs == 4 * 36 * 27


# ------------------------------------------------------------------- nothing is changed


class Touchy(nn.Module):
    """Changes everything that a forward pass can change, and says where its tensors
    lie.
    """

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
        self.register_buffer("steps", torch.zeros(()))
        self.plain = torch.randn(4, 1, 1)
        self.seen = []
        self.last = None
        self.fail = False

    def forward(self, x):
        self.steps += 1
        self.plain *= 2
        self.net[1].train()
        x = self.net(x) + self.plain + torch.rand(4, 1, 1) + random.random() + np.random.rand()
        self.seen.append(x)
        self.last = x.device.type, self.net[0].weight.device.type, self.plain.device.type
        LAST.append(self.last)
        if self.fail:
            raise ValueError("on purpose")
        return x


LAST = []


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_and_the_random_state_are_as_before(training, fail):
    model = Touchy().train(training)
    model.net[2].eval()
    model.fail = fail
    state = {key: value.clone() for key, value in model.state_dict().items()}
    plain = model.plain.clone()
    flags = [module.training for module in model.modules()]
    x = torch.randn(2, 3, 8, 8)
    kept = x.clone()
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()
    if fail:
        with pytest.raises(
            InputError,
            match="Touchy does not take the input 2x3x8x8: in Touchy: ValueError: on purpose",
        ):
            zoo.profile(model, inputs=x)
    else:
        assert zoo.profile(model, inputs=x).macs == 2 * 4 * 36 * 27
    assert LAST.pop() == ("meta", "meta", "meta"), "real numbers were computed with"
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(model.plain, plain)
    assert torch.equal(x, kept)
    assert [module.training for module in model.modules()] == flags
    assert (model.seen, model.last) == ([], None)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert all(
        np.array_equal(now, before)
        for now, before in zip(np.random.get_state(), generators[2], strict=True)
    )
    assert torch.is_grad_enabled()


class Draws(nn.Module):
    """A layer that runs twice, as a number says that is drawn on the host."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        for _ in range(1 + int(torch.rand(()) < 2)):
            x = self.attention(x, x, x, need_weights=False)[0]
        return x


def test_threads_that_count_and_threads_that_run_do_not_meet():
    layer, x = nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.randn(2, 30, 16)
    with torch.no_grad():
        expected = layer(x, x, x, need_weights=False)[0]
    model = Draws()
    functions, state = dict(vars(F)), torch.get_rng_state()
    counted, peaks, ran, ends = [], [], [], threading.Event()

    def run():
        while not ends.is_set():
            with torch.no_grad():
                ran.append(torch.equal(layer(x, x, x, need_weights=False)[0], expected))

    def count():
        for _ in range(4):
            counted.append(zoo.profile(model, inputs=x, mode="train").macs)
            peaks.append(zoo.memory(model, inputs=x, device="cpu", loss=torch.sum).peak)

    threads = [threading.Thread(target=target) for target in (run, count, count, count)]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    ends.set()
    threads[0].join()
    assert len(counted) == 12
    assert {*counted} == {2 * (60 * 4 * 16 * 16 + 2 * 2 * 2 * 30 * 30 * 8)}
    assert len(peaks) == 12
    assert len({*peaks}) == 1
    assert ran
    assert all(ran)
    assert vars(F) == functions
    assert torch.equal(torch.get_rng_state(), state)


def test_building_by_name_leaves_the_random_state():
    state = torch.get_rng_state()
    zoo.profile("resnet18")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_copy_on_meta_keeps_what_is_shared():
    model = Shared()
    model.register_buffer("table", torch.randn(3))
    model.alias = [model.table]
    copy = copy_on_meta(model)
    assert all(tensor.is_meta for tensor in copy.state_dict().values())
    assert copy.first is copy.layers[0]
    assert copy.first.weight is copy.layers[1].weight
    assert copy.alias[0] is copy.table
    assert isinstance(copy.first.weight, nn.Parameter)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


def test_evaluation_mode_is_what_is_counted():
    model = zoo.create("resnet20_cifar10").train()
    assert zoo.profile(model).to_dict() == zoo.profile("resnet20_cifar10").to_dict()
    assert model.training


# ------------------------------------------------------------------------------- inputs


def test_the_input_of_a_created_network_is_its_own():
    assert zoo.profile(zoo.create("lenet5", device="meta")).inputs == ((1, 1, 32, 32),)
    assert zoo.profile("resnet18", in_chans=5, num_classes=7).inputs == ((1, 5, 224, 224),)
    assert zoo.profile("resnet18", 64, in_chans=1).rows[0].output == (1, 1000)
    assert zoo.profile("resnet18", (3, 96, 64), 2).inputs == ((2, 3, 96, 64),)
    assert zoo.profile(nn.Conv2d(3, 1, 1), 16).inputs == ((1, 3, 16, 16),)
    assert zoo.profile(nn.Conv2d(3, 1, 1).half(), 16).macs == 768


class Captioner(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.cell = nn.LSTM(4, 4, batch_first=True)

    def forward(self, images, captions, *, lengths=None):
        return self.cell(self.words(captions))[0] + images.mean((1, 2, 3))[:, None, None]


def test_tensors_tuples_and_dicts_as_inputs():
    images, captions = torch.empty(2, 3, 8, 8), torch.zeros(2, 5, dtype=torch.long)
    expected = 2 * 5 * 4 * 4 * (4 + 4)
    assert zoo.profile(Captioner(), inputs=(images, captions)).macs == expected
    profile = zoo.profile(
        Captioner(), inputs={"images": images, "captions": captions, "lengths": [1, 2]}
    )
    assert profile.macs == expected
    assert profile.inputs == ((2, 3, 8, 8), (2, 5))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: zoo.profile(nn.Linear(3, 3)),
            r"input of Linear is not known: give input_size=\(C, H, W\) or inputs=",
        ),
        (lambda: zoo.profile("lenet5", batch_size=0), "batch_size=0"),
        (lambda: zoo.profile("resnet18", (3, 0, 8)), r"input_size=\(3, 0, 8\)"),
        (lambda: zoo.profile("resnet18", 0), "input_size="),
        (lambda: zoo.profile(nn.Linear(3, 3), inputs={1, 2}), "inputs= is a set"),
        (
            lambda: zoo.profile(nn.Linear(3, 3), 3, inputs=torch.empty(3)),
            "leave out input_size and batch_size",
        ),
        (
            lambda: zoo.profile(nn.Linear(3, 3), inputs=torch.empty(3), num_classes=3),
            "num_classes: for a network that is built by name, not for a module",
        ),
        (lambda: zoo.profile("resnet18", classes=3), "no argument 'classes'"),
        (lambda: zoo.profile("resnet19"), "did you mean resnet18"),
        (lambda: zoo.profile("vgg11", 16), "vgg11 takes images of 32x32 or larger, not 16x16"),
    ],
)
def test_wrong_use_is_one_clear_line(call, message):
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_exception_inside_forward_names_the_module():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU(), nn.MaxPool2d(9)))
    with pytest.raises(
        InputError,
        match=r"^Sequential does not take the input 1x3x8x8: in 1\.1 \(MaxPool2d\): "
        r"RuntimeError: Given input",
    ):
        zoo.profile(model, 8)
    with pytest.raises(
        InputError, match=r"^Do cannot be counted without numbers: in Do a shape .*item"
    ):
        zoo.profile(Do(lambda x: x * x.sum().item()), inputs=torch.empty(3))


@pytest.mark.parametrize(
    ("function", "products"),
    [
        (lambda h: torch.distributions.Normal(h, 1.0).rsample(), 1),
        (lambda h: torch.distributions.Normal(h, 1.0, validate_args=True).log_prob(h), 1),
        (lambda h: torch.distributions.Categorical(logits=h).sample(), 1),
        (lambda h: torch.distributions.Uniform(h, h + 1).rsample() @ h.T, 2),
        (lambda h: torch.distributions.Bernoulli(logits=h).log_prob(torch.ones_like(h)), 1),
    ],
)
def test_distributions_check_values_that_no_count_depends_on(function, products):
    model = nn.Sequential(nn.Linear(4, 4), Do(function))
    assert zoo.profile(model, inputs=torch.empty(4, 4)).macs == products * 64


def test_a_batch_norm_that_averages_all_batches_counts_as_another():
    def counted(momentum):
        norm = nn.BatchNorm2d(3, momentum=momentum)
        return zoo.profile(norm, inputs=torch.empty(2, 3, 8, 8), mode="train")

    assert counted(None).other == counted(0.1).other
    assert counted(None).other["normalisation"] == 6 * 2 * 3 * 64


# ------------------------------------------------------------ what the host knows


class Steps(nn.Module):
    """An LSTM over sequences of 8 values a step, cut or packed by a function."""

    def __init__(self, steps):
        super().__init__()
        self.lstm, self.steps = nn.LSTM(8, 16, batch_first=True), steps

    def forward(self, x, *lengths):
        output = self.lstm(self.steps(x, *lengths))[0]
        return output.data if isinstance(output, PackedSequence) else output


pack = partial(pack_padded_sequence, batch_first=True)


@pytest.mark.parametrize(
    ("steps", "inputs"),
    [
        (lambda x: pack(x, [7, 3, 1]), ()),
        (pack, ([7, 3, 1],)),
        (pack, (torch.tensor([7, 3, 1]),)),
        (partial(pack, enforce_sorted=False), (torch.tensor([1, 7, 3]),)),
        (lambda x: pack(x, torch.tensor([7, 3, 1], device=x.device).cpu()), ()),
        (lambda x, keep: pack(x, keep.sum(1).cpu()), (torch.tensor([7, 3, 1])[:, None] > torch.arange(7),)),
    ],
)  # fmt: skip
def test_packed_inside_a_network(steps, inputs):
    profile = zoo.profile(Steps(steps), inputs=(torch.zeros(3, 7, 8), *inputs), mode="train")
    cells = 11 * 4 * 16
    assert profile.macs == cells * (8 + 16)
    assert profile.backward_macs == cells * (8 + 16 + 16) - 3 * 4 * 16 * 16  # first states


ENDS = torch.tensor([5, 3, 1])


def masked(x, ends):
    return x[torch.arange(x.shape[1], device=x.device) < ends[:, None]]


@pytest.mark.parametrize(
    ("function", "inputs", "rows"),
    [
        (lambda x, ends: x[:, : ends.max().item()], (ENDS,), 15),
        (lambda x, ends: torch.cat([x[i, :n] for i, n in enumerate(ends.tolist())]), (ENDS,), 9),
        (lambda x, ends: x[0, : ends.cpu().numpy().sum()], (ENDS // 2,), 3),
        (masked, (ENDS,), 9),
        (lambda x: masked(x, torch.tensor([5, 3, 1], device=x.device)), (), 9),
        (lambda x: x[torch.arange(7)[None].expand(3, 7) < ENDS[:, None]], (), 9),
        (lambda x, keep: x[0][keep.nonzero()[:, 0]], (torch.tensor([1, 0, 1, 0, 0, 0, 1]),), 3),
        (lambda x, keep: x[0][keep.nonzero()[:, 0]], (torch.tensor([0, 0, 1, 0, 0, 0, 0]),), 1),
        (lambda x, times: x[0].repeat_interleave(times, 0), (torch.arange(7),), 21),
        (
            lambda x: x.masked_select((torch.arange(7, device=x.device) < 2)[:, None]).view(-1, 8),
            (),
            6,
        ),
        (lambda x: x[:, : int(torch.linspace(0, 6, 4, device=x.device)[2].item())], (), 12),
        (lambda x: x if torch.ones(2, device=x.device).cumsum(0)[1] > 1 else x[0], (), 21),
        (lambda x: x[:, : torch.full((2,), 3, device=x.device).add_(1).amax().item()], (), 12),
    ],
)
def test_values_that_the_host_knows_are_used(function, inputs, rows):
    layer = nn.Linear(8, 5)
    model = nn.Sequential(Do(lambda given: function(*given)), layer)
    counted = zoo.profile(model, inputs=((torch.zeros(3, 7, 8), *inputs),), mode="train")
    assert (counted.macs, counted.backward_macs) == (rows * 40, rows * 40)


def test_a_mask_that_is_known_and_one_that_is_not_in_a_training_step():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(16, 32), nn.Linear(32, 8)
            self.token = nn.Parameter(torch.zeros(32))

        def forward(self, x, mask=None):
            h = self.first(x).clone()
            h[x[..., 0] > 0 if mask is None else mask] = self.token
            return self.last(h)

    x, mask = torch.zeros(2, 5, 16), torch.zeros(2, 5, dtype=torch.bool)
    profile = zoo.profile(Masked(), inputs=(x, mask), mode="train")
    assert (profile.macs, profile.backward_macs) == (7680, 7680 + 2560)
    assert zoo.profile(Masked(), inputs=x).macs == 7680
    with pytest.raises(
        InputError,
        match=r"^Masked: the backward pass cannot be counted without numbers: .* \(aten::index: ",
    ):
        zoo.profile(Masked(), inputs=x, mode="train")
    assert not mask.any()


def written(x, place):
    ends = torch.zeros(3, dtype=torch.long, device=place or x.device)
    ends[1:].copy_(x[0, 0, :2].long())
    return x[:, : ends.max().item()]


def hooked():
    layer = nn.Linear(8, 8)

    def look(module, args, output):
        output.mean().item()

    layer.register_forward_hook(look)
    return layer


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (Do(lambda x: x if x.sum() > 0 else -x), "the value of a tensor is asked for"),
        (Do(lambda x: written(x, None)), "the value of a tensor is asked for"),
        (Do(lambda x: written(x, "cpu")), "the value of a tensor is asked for"),
        (Do(lambda x: x.detach().numpy()), r"asked for, by \.numpy\(\)"),
        (Do(lambda x: x.argmax(1).tolist()), r"asked for, by \.tolist\(\)"),
        (Do(lambda x: pack(x, x.sum((1, 2)).long().cpu())), "asked for, as lengths"),
        (Do(lambda x: x.nonzero()), "aten::nonzero: "),
        (Do(lambda x: x.unique()), "aten::_unique2: "),
        (Do(lambda x: x[x > 0]), "aten::index: "),
        (hooked(), r"in Linear, in its hook look, a shape .* is asked for"),
        (
            Do(lambda x: torch.cond(x.sum() > 0, lambda x: x, lambda x: -x, (x,))),
            "torch's higher-order operator cond is not followed",
        ),
        (Do(lambda x: flex_attention(x[None], x[None], x[None])), "flex_attention has no form"),
        (Do(lambda x: torch.eye(3).to_sparse() @ x[:, :, 0]), "an operator on a sparse tensor"),
    ],
)
def test_what_depends_on_data_is_refused_with_its_own_reason(model, says):
    with pytest.raises(InputError, match=rf"^{type(model).__name__} cannot be counted.*{says}"):
        zoo.profile(model, inputs=torch.zeros(3, 7, 8))


def test_a_model_that_cannot_be_copied_says_so():
    model = nn.Linear(3, 3)
    model.thing = (i for i in range(3))
    with pytest.raises(
        ZooError,
        match="Linear cannot be copied to be counted: TypeError: cannot pickle 'generator' object",
    ):
        zoo.profile(model, inputs=torch.empty(1, 3))

"""Predicted memory: against the allocator's own record of steps that are really run,
and by hand.
"""

import json
import random
import warnings
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import zoo
from zoo.cli import cli
from zoo.count.memory.allocator import MIB, Allocator, OutOfMemory
from zoo.count.memory.measured_memory import measure
from zoo.count.memory.memory_budget import DRIVER_RESERVE, LIBRARY_RESERVE, available_bytes
from zoo.count.workload import Workload
from zoo.errors import InputError, UsageError, ZooWarning
from zoo.optimizers import STEPWISE

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Profiler.*", "ignore:.*profiler.*"
)  # torch's own notes on its profiler

predict = partial(zoo.memory, device="cpu")


def ratios(name, batch, fields=(), checkpointing=False, **options):
    """Predicted over measured peak, and over that without what a library held for
    itself.
    """
    predicted = predict(name, batch, checkpointing=checkpointing, **options, **dict(fields)).peak
    model = zoo.create(name, **dict(fields))
    if checkpointing:
        model.set_grad_checkpointing()
    images = torch.randn(batch, *zoo.info(name).variant.image.size)
    if "autocast" in options:
        options["autocast"] = getattr(torch, options["autocast"])
    found = measure(Workload(model, name, (images,)), **options)
    return predicted / found.peak, predicted / found.tensors


# ---------------------------------------------------------- against what really happens


@pytest.mark.parametrize(
    ("name", "batch", "options"),
    [
        ("squeezenet1_1", 2, {}),
        ("squeezenet1_1", 2, {"mode": "eval"}),
        ("densenet121", 2, {}),
        ("densenet121", 2, {"fields": {"memory_efficient": True}}),
        ("densenet121", 2, {"mode": "eval"}),
        ("densenet121", 2, {"autocast": "bfloat16"}),
        ("googlenet", 2, {"fields": {"aux": True}}),
        ("resnet18", 2, {"checkpointing": True}),
        ("resnet18", 2, {"mode": "eval"}),
        ("preresnet18", 2, {}),
        ("inception_v3", 1, {}),
        ("lenet5_modern", 32, {}),
        ("lenet5_modern", 32, {"mode": "eval"}),
        ("resnet110_sd_cifar10", 1, {"fields": {"survival": 1.0}}),
        ("fractalnet_c2", 4, {"fields": {"drop_path": 0.0, "global_share": 0.0}}),
    ],
    ids=str,
)
def test_the_peak_is_what_the_allocator_records(name, batch, options):
    whole, without = ratios(name, batch, **options)
    assert without == pytest.approx(1, abs=0.005)
    assert whole <= 1.001  # a library takes more than what is predicted, never less


@pytest.mark.parametrize("optimizer", [*STEPWISE, None])
def test_the_peak_with_every_optimizer(optimizer):
    for name in (
        "highway_mnist32",
        "ciresan_mlp1",
    ):  # small ones, in the first activations weigh more, in the second parameters
        assert ratios(name, 8, optimizer=optimizer)[1] == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize(("history", "iterations"), [(3, 5), (10, 12)])
def test_the_peak_with_lbfgs_and_its_history(history, iterations):
    """Once the history is full; a loss that goes on falling keeps the optimizer from
    stopping early.
    """

    def optimizer(parameters):
        return torch.optim.LBFGS(
            parameters, 1e-2, iterations, tolerance_grad=0, tolerance_change=0, history_size=history
        )

    def loss(output):
        wanted = (
            torch.arange(output.numel(), device=output.device, dtype=output.dtype)
            .view(output.shape)
            .sin()
        )
        return ((output - wanted) ** 2).sum()

    def model():
        return nn.Sequential(
            nn.Linear(200, 500), nn.Tanh(), nn.Linear(500, 300), nn.Tanh(), nn.Linear(300, 10)
        )

    inputs = torch.randn(512, 200)
    predicted = predict(model(), inputs=inputs, optimizer=optimizer, loss=loss)
    assert predicted.optimizer == "LBFGS"
    assert predicted.peak == pytest.approx(
        measure(Workload(model(), "", (inputs,)), optimizer=optimizer, loss=loss).peak, rel=0.001
    )


def squares(output):
    """A loss whose gradient is as large as the output; that of a sum is one number,
    which some kernels spread out for themselves.
    """
    output = output[0] if isinstance(output, tuple) else output
    return (output * output).sum()


class Attention(nn.Module):
    """Four heads of 16 units, with a mask of this type, over `heads` heads of keys."""

    def __init__(self, mask=None, heads=4, **options):
        super().__init__()
        self.q, self.kv = nn.Linear(64, 64), nn.Linear(64, 32 * heads)
        self.options = options
        made = None if mask is None else torch.ones(200, 200).tril().to(mask)
        self.register_buffer("mask", made)

    def forward(self, x):
        q = self.q(x).view(*x.shape[:2], 4, 16).transpose(1, 2)
        k, v = self.kv(x).view(*x.shape[:2], 2, -1, 16).permute(2, 0, 3, 1, 4)
        output = F.scaled_dot_product_attention(q, k, v, attn_mask=self.mask, **self.options)
        return output.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    def __init__(self, mask=False, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True, **options)
        self.register_buffer("mask", torch.ones(200, 200, dtype=torch.bool) if mask else None)

    def forward(self, x):
        return self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0]


class HalfLowered(nn.Module):
    """Mixed precision of the network's own, off again in the middle of it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 256), nn.Linear(256, 64)
        self.between = nn.Linear(256, 256)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            x = self.first(x).relu()
            with torch.autocast("cpu", enabled=False):
                x = self.between(x.float()).relu()
            return self.last(x)


@pytest.mark.parametrize(
    ("model", "inputs", "tolerance"),
    [
        (
            lambda: nn.Sequential(nn.Embedding(1000, 64), nn.Dropout(0.3), nn.Linear(64, 500)),
            torch.randint(1000, (8, 50)),
            0.005,
        ),
        (
            lambda: nn.Sequential(
                nn.Conv1d(8, 16, 3), nn.GroupNorm(4, 16), nn.GELU(), nn.MaxPool1d(2)
            ),
            torch.randn(8, 8, 500),
            0.02,
        ),
        (
            lambda: nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.SiLU(), nn.Softmax(-1)),
            torch.randn(64, 20, 64),
            0.02,
        ),
        *(
            (make, torch.randn(4, 200, 64), 0.001)
            for make in (
                Attention,
                partial(Attention, torch.bool),
                partial(Attention, torch.float32),
                partial(Attention, heads=2, enable_gqa=True),
                partial(Attention, heads=1, enable_gqa=True),
                partial(Attention, dropout_p=0.1),
                partial(SelfAttention, mask=True),
                partial(SelfAttention, dropout=0.1),
                lambda: nn.Sequential(nn.Linear(64, 256), nn.Mish(), nn.Linear(256, 64)),
                lambda: nn.Sequential(nn.Linear(64, 256), nn.Mish(True), nn.Linear(256, 64)),
                HalfLowered,
            )
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(8, 8, 1), nn.CrossMapLRN2d(5)),
            torch.randn(4, 8, 64, 64),
            0.001,
        ),
        (
            lambda: nn.TransformerEncoderLayer(64, 4, 128, batch_first=True),
            torch.randn(4, 100, 64),
            0.02,
        ),
        (lambda: nn.LSTM(128, 256, 2), torch.randn(20, 8, 128), 0.1),
        (lambda: nn.GRU(128, 256), torch.randn(20, 8, 128), 0.1),
    ],
    ids=[
        "embedding",
        "groupnorm",
        "layernorm",
        "attention",
        "mask_of_booleans",
        "mask_of_numbers",
        "grouped_queries",
        "one_head_of_keys",
        "dropout_of_attention",
        "masked_layer",
        "layer_with_dropout",
        "mish",
        "mish_in_place",
        "autocast_inside",
        "resized_storages",
        "transformer",
        "lstm",
        "gru",
    ],
)
def test_the_peak_of_any_module(model, inputs, tolerance):
    predicted = predict(model(), inputs=inputs, loss=squares).peak
    found = measure(Workload(model(), "", (inputs,)), loss=squares)
    assert predicted / found.tensors == pytest.approx(1, abs=tolerance)


# ------------------------------------------------------------------------------ by hand


def test_the_parts_by_hand():
    """Linear(100, 50), ReLU, Linear(50, 10), batch 20, single precision: 4 bytes a
    value.
    """
    model = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    memory = predict(
        model, inputs=torch.empty(20, 100), optimizer="adam", loss=lambda out: out.sum()
    )
    values = 100 * 50 + 50 + 50 * 10 + 10
    assert (memory.parameters, memory.gradients, memory.buffers) == (4 * values, 4 * values, 0)
    assert (
        memory.optimizer_state == 2 * 4 * values
    )  # the step counts lie on the CPU and are not followed
    assert memory.input_bytes == 4 * 20 * 100
    assert (
        memory.activations == 4 * 20 * 50 + 4
    )  # of the ReLU, as that of the product is let go, and the loss
    assert memory.peak == sum(memory.at_peak.values())


def test_activations_once_each_whatever_views_and_in_place_operators_there_are():
    def saved(*layers):
        memory = predict(
            nn.Sequential(nn.Linear(8, 16), *layers),
            inputs=torch.empty(4, 8),
            optimizer=None,
            loss=torch.sum,
        )
        return memory.activations

    one = 4 * 4 * 16
    scalar = 4  # the loss itself
    assert saved(nn.ReLU()) == one + scalar  # the output of the product is let go
    assert saved(nn.ReLU(inplace=True)) == one + scalar
    assert (
        saved(nn.Sigmoid(), nn.Unflatten(1, (4, 4)), nn.Flatten(), nn.ReLU(inplace=False))
        == 2 * one + scalar
    )
    assert saved(nn.Sigmoid(), nn.Unflatten(1, (4, 4)), nn.Flatten()) == one + scalar


def test_shared_parameters_count_once():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    memory = predict(model, inputs=torch.empty(2, 8))
    assert (memory.parameters, memory.gradients, memory.optimizer_state) == (256, 256, 256)


def test_frozen_parameters_have_neither_gradient_nor_state():
    model = zoo.create("resnet18")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.reset_classifier(10)
    memory = predict(model, 2, optimizer="adamw")
    head = 4 * (512 * 10 + 10)
    assert (memory.gradients, memory.optimizer_state) == (head, 2 * head)
    assert memory.activations < predict("resnet18", 2).activations / 50


def test_inference_keeps_only_what_is_needed():
    """A chain of equal layers has two maps at a time, however long it is."""
    one = 4 * 2 * 8 * 32 * 32
    for length in (3, 9):
        model = nn.Sequential(*[nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(length)])
        memory = predict(model, inputs=torch.empty(2, 8, 32, 32), mode="eval")
        assert memory.peak == memory.parameters + 3 * one  # the input belongs to the caller
        assert memory.peak_phase == "forward"


def test_the_moment_and_module_of_the_peak():
    model = nn.Sequential(nn.Linear(4, 1), nn.Linear(1, 4000), nn.Linear(4000, 40))
    memory = predict(model, inputs=torch.empty(500, 4), mode="eval")
    assert (memory.peak_phase, memory.peak_module) == (
        "forward",
        "2",
    )  # the wide map and the output
    big = predict(
        nn.Sequential(nn.Linear(2000, 2000)), inputs=torch.empty(1, 2000), optimizer="adamw"
    )
    assert (big.peak_phase, big.peak_module) == ("step", "")


def test_types():
    whole, half, mixed = (
        predict("resnet18", 16, **options)
        for options in ({}, {"dtype": "bfloat16"}, {"autocast": "bfloat16"})
    )
    assert half.parameters * 2 == whole.parameters == mixed.parameters
    assert half.activations < 0.55 * whole.activations
    assert half.activations < mixed.activations < 0.8 * whole.activations
    assert (half.dtype, mixed.dtype, mixed.autocast) == ("bfloat16", "float32", "bfloat16")


def test_checkpointing_saves_activations():
    plain, again = (
        zoo.memory("resnet50", 8, checkpointing=checkpointing) for checkpointing in (False, True)
    )
    assert again.activations < plain.activations / 8
    assert again.peak < plain.peak


def test_rows_sum_up_to_the_whole():
    memory = zoo.memory("resnet18", 2)
    top = [row for row in memory.rows if row.level == 1]
    assert memory.rows[0].activations == sum(row.activations for row in top)
    loss = memory.activations - memory.rows[0].activations
    assert 0 < loss < 20_000  # saved outside of all modules: by the cross-entropy


# --------------------------------------------------------------------- kernels of a GPU


def test_a_gpu_keeps_a_byte_per_dropped_value_and_the_cpu_a_number():
    model = nn.Sequential(nn.Linear(64, 512), nn.Dropout(0.5), nn.Linear(512, 512))
    on_gpu, on_cpu = (
        zoo.memory(model, inputs=torch.empty(100, 64), device=device, loss=torch.sum).activations
        for device in ("cuda", "cpu")
    )
    assert on_cpu - on_gpu == pytest.approx(3 * 512 * 100, abs=512)


def test_fused_attention_never_makes_the_scores():
    scores = 4 * 4 * 4 * 1000 * 1000
    for device in ("cuda", "cpu"):
        for kind in ("float32", "bfloat16"):
            assert (
                zoo.memory(
                    Attention(), inputs=torch.empty(4, 1000, 64), dtype=kind, device=device
                ).peak
                < scores / 2
            )
    module = nn.MultiheadAttention(64, 4, batch_first=True)
    inputs = {
        **dict.fromkeys(("query", "key", "value"), torch.empty(4, 1000, 64)),
        "need_weights": False,
    }
    assert zoo.memory(module, inputs=inputs).peak < scores / 2


def test_autocast_inside_is_over_where_the_network_ends_it():
    model, x = HalfLowered(), torch.empty(100, 64)
    memory = predict(model, inputs=x, loss=torch.sum, optimizer=None)
    lowered = 2 * (100 * 64 + 100 * 256 + 256 * 64)  # two inputs and the last weight
    between = 4 * 100 * 256 + 4 * 100 * 256  # its input and its ReLU
    assert memory.activations == lowered + 2 * 100 * 256 + between + 2  # a ReLU, the loss
    assert not torch.is_autocast_enabled("cpu")
    whole = predict(model, inputs=x, loss=torch.sum, optimizer=None, autocast="bfloat16")
    assert whole.activations == memory.activations
    assert not torch.is_autocast_enabled("cpu")


def test_sizes_are_rounded_as_the_gpus_allocator_rounds_them():
    memory = zoo.memory(nn.Linear(3, 2), inputs=torch.empty(1, 3), mode="eval")
    assert (memory.parameters, memory.input_bytes) == (2 * 512, 512)
    assert memory.reserved == 2 * MIB


# ------------------------------------------------------------------------ the allocator


def test_the_caching_allocator_by_hand():
    a = Allocator()
    a.allocate("small", 1000)
    assert a.reserved == 2 * MIB
    a.allocate("middle", 3 * MIB)
    assert a.reserved == 22 * MIB
    a.allocate("second", 16 * MIB)  # into what is left of the 20 MiB
    assert a.reserved == 22 * MIB
    a.allocate("large", 11 * MIB + 1)
    assert a.reserved == 34 * MIB
    a.free("middle")
    a.free("second")
    a.allocate("both", 19 * MIB)  # neighbours became one
    assert a.reserved == 34 * MIB


def test_the_caching_allocator_gives_back_what_is_wholly_free_before_it_gives_up():
    a = Allocator(capacity=100 * MIB)
    for name in "abcd":
        a.allocate(name, 24 * MIB)
    a.free("a")
    a.free("b")
    a.allocate("e", 40 * MIB)
    assert a.reserved == 88 * MIB
    with pytest.raises(OutOfMemory):
        a.allocate("f", 30 * MIB)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40 * MIB), min_size=1, max_size=40), st.integers(0, 2**32))
def test_the_caching_allocator_neither_loses_nor_doubles_memory(sizes, seed):
    draw = random.Random(seed)
    a, held = Allocator(), {}
    for number, size in enumerate(sizes):
        a.allocate(number, size)
        held[number] = -(-size // 512) * 512
        while held and draw.random() < 0.4:
            gone = draw.choice(list(held))
            a.free(gone)
            del held[gone]
        blocks = list(a._blocks.values())
        assert sum(block.size for block in blocks) == a.reserved
        used = sum(block.size for block in blocks if not block.free)
        assert sum(held.values()) <= used <= sum(held.values()) + len(held) * MIB
    for number in held:
        a.free(number)
    a.release_cached_blocks()
    assert a.reserved == 0


# -------------------------------------------------------------------- the largest batch


@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {"mode": "eval"}), ("lenet5", {}), ("squeezenet1_1", {"optimizer": "adamw"})],
)
def test_the_largest_batch_fits_and_one_more_does_not(name, options):
    capacity = 200 * MIB
    batch = zoo.max_batch_size(name, capacity, device="cpu", **options)
    more = batch + 1 + batch // 200
    assert predict(name, batch, **options).peak <= capacity < predict(name, more, **options).peak


def test_no_batch_fits():
    assert zoo.max_batch_size("vgg16", "100MiB", device="cpu") == 0


def test_feature_maps_have_the_memory_of_their_sum():
    """A part of a network has no task: its loss is that of any module."""
    net = zoo.create("resnet18", features_only=True)
    found = zoo.memory(net, 2, device="cpu")
    assert found == zoo.memory(net, 2, device="cpu", loss=lambda maps: sum(x.sum() for x in maps))


def test_a_part_of_a_card_is_for_driver_and_libraries():
    assert available_bytes("24GiB", "cuda") == 24 * 1024 * MIB - DRIVER_RESERVE - LIBRARY_RESERVE
    assert available_bytes("1.5GB", "cpu") == 1_500_000_000
    assert available_bytes(12345, "cpu") == 12345
    assert 0 < available_bytes("auto", "cpu") < 2**50
    assert zoo.max_batch_size("resnet18", "8GiB") < zoo.max_batch_size(
        "resnet18", "8GiB", autocast="bfloat16"
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: zoo.max_batch_size("lenet5", "24 big"),
            "memory='24 big': give a size such as '24GiB'",
        ),
        (lambda: zoo.memory("lenet5", optimizer="adamm"), "optimizer='adamm'"),
        (lambda: zoo.memory("lenet5", mode="infer"), "mode='infer'"),
        (lambda: zoo.memory("lenet5", device="tpu"), "device='tpu'"),
        (lambda: zoo.memory("lenet5", dtype="int8"), "'int8' is no floating-point type"),
        (lambda: zoo.memory(nn.Linear(2, 2)), "the input of Linear is not known"),
        (
            lambda: zoo.memory(nn.Linear(2, 2), inputs=torch.empty(1, 2), checkpointing=True),
            "Linear has no set_grad_checkpointing",
        ),
        (
            lambda: zoo.memory(nn.Identity(), inputs=torch.empty(1, 2)),
            "nothing in its output has a gradient",
        ),
        (lambda: zoo.memory("vgg16", input_size=16), "vgg16 takes images of 32x32 or larger"),
    ],
)
def test_wrong_use_is_one_clear_line(call, says):
    with pytest.raises(UsageError, match="^[^\n]*" + says.replace("(", r"\(")):
        call()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_and_confirm_say_so():
    with pytest.raises(UsageError, match="there is none: give its size"):
        zoo.max_batch_size("lenet5")
    with pytest.raises(UsageError, match="confirm=True"):
        zoo.max_batch_size("lenet5", "1GiB", confirm=True)


# --------------------------------------------------------------------------- hard cases


def test_model_buffers_and_random_state_stay_exactly_as_they_are():
    model = zoo.create("resnet20_cifar10").train()
    model.head.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    zoo.memory(model, 4, optimizer="adamw", autocast="bfloat16")
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert flags == [module.training for module in model.modules()]
    assert all(parameter.grad is None and not parameter.is_meta for parameter in model.parameters())
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning"
)  # torch 2.11's own, when torch.compile is first used
def test_compiled_wrapped_and_lazy_models():
    plain = zoo.create("resnet20_cifar10")
    expected = zoo.memory(plain, 2)
    for model in (torch.compile(plain), nn.DataParallel(plain)):
        found = zoo.memory(model, 2)
        assert (found.peak, found.name, found.rows) == (
            expected.peak,
            "resnet20_cifar10",
            expected.rows,
        )
    lazy = zoo.memory(
        nn.Sequential(nn.LazyLinear(50), nn.ReLU(), nn.LazyLinear(3)),
        inputs=torch.empty(2, 20),
        optimizer=None,
    )
    ready = zoo.memory(
        nn.Sequential(nn.Linear(20, 50), nn.ReLU(), nn.Linear(50, 3)),
        inputs=torch.empty(2, 20),
        optimizer=None,
    )
    assert (lazy.parameters, lazy.activations) == (ready.parameters, ready.activations)


class Data(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x[x.sum(1) > 0])


def frozen():
    model = nn.Sequential(
        nn.Linear(64, 512), nn.BatchNorm1d(512), nn.Dropout(0.5), nn.ReLU(), nn.Linear(512, 64)
    )
    model[1].eval().requires_grad_(False)
    model[2].eval()
    return model


def test_what_was_put_in_evaluation_mode_by_hand_stays_so():
    x = torch.randn(1000, 64)
    with pytest.warns(ZooWarning, match="^Sequential is counted with 1, 2 in evaluation"):
        predicted = predict(frozen(), inputs=x, loss=squares).peak
    found = measure(Workload(frozen(), "", (x,)), loss=squares).tensors
    assert predicted == pytest.approx(found, rel=0.001)
    profile = zoo.profile(frozen(), inputs=x, mode="train")
    assert profile.other["normalisation"] == 2 * 1000 * 512
    assert "random" not in profile.other
    thawed = zoo.profile(frozen().eval(), inputs=x, mode="train")  # the whole
    assert thawed.other["normalisation"] == 6 * 1000 * 512
    assert thawed.other["random"] == 1000 * 512


def test_the_fast_path_of_attention_is_said():
    x = torch.empty(4, 20, 64)
    with pytest.warns(ZooWarning, match="makes the matrix of scores"):
        predict(SelfAttention(), inputs=x, mode="eval")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predict(SelfAttention(), inputs=x)
        zoo.memory(SelfAttention(), inputs=x, mode="eval")
        predict(nn.TransformerEncoderLayer(64, 4, 128), inputs=x, mode="eval")


def labelled(output):
    labels = torch.ones(len(output), 2, dtype=torch.long, device=output.device)
    lengths = (output.shape[1],) * len(output), (2,) * len(output)
    return F.ctc_loss(output.transpose(0, 1).log_softmax(-1), labels, *lengths)


@pytest.mark.parametrize(
    ("model", "loss", "says"),
    [
        (nn.Linear(8, 8), lambda out: out.sum() * out.mean().item(), "the loss cannot be counted"),
        (nn.Linear(8, 8), lambda out: out @ torch.ones(3, 3), "the loss fails: RuntimeError"),
        (nn.Linear(8, 8), labelled, r"the backward pass cannot .* \(aten::_ctc_loss_backward: "),
        (
            nn.Sequential(nn.Embedding(50, 8, sparse=True), nn.Linear(8, 8)),
            torch.sum,
            "a step of momentum cannot be predicted",
        ),
    ],
)
def test_errors_after_the_forward_pass_are_one_line(model, loss, says):
    words = isinstance(model, nn.Sequential)
    inputs = torch.zeros(3, 7, dtype=torch.long) if words else torch.zeros(3, 7, 8)
    with pytest.raises(InputError, match=rf"^{type(model).__name__}: {says}") as raised:
        zoo.memory(model, inputs=inputs, loss=loss)
    assert "\n" not in str(raised.value)


def test_shapes_that_depend_on_data_are_refused_with_the_module():
    with pytest.raises(
        InputError,
        match=r"^Sequential cannot be counted without numbers: in 1 \(Data\) a shape or a "
        r"branch depends on data",
    ):
        zoo.memory(nn.Sequential(nn.Linear(4, 4), Data()), inputs=torch.empty(3, 4))


# ------------------------------------------------------------------------- command line


def run(*args):
    return CliRunner().invoke(cli, args)


def test_zoo_memory():
    done = run("memory", "resnet18", "--batch-size", "8", "--optimizer", "adamw", "--device", "cpu")
    assert done.exit_code == 0
    memory = zoo.memory("resnet18", 8, optimizer="adamw", device="cpu")
    lines = [line.split() for line in done.stdout.splitlines()]
    first = next(row for row in memory.rows if row.path == "features.conv1")
    assert [
        "parameters",
        f"{memory.parameters / MIB:,.2f}",
        f"{memory.at_peak['parameters'] / MIB:,.2f}",
    ] in lines
    assert ["peak", f"{memory.peak / MIB:,.2f}"] in lines
    assert ["conv1", "Sequential", f"{first.activations / MIB:,.2f}"] in lines
    assert f"in the {memory.peak_phase} pass in {memory.peak_module}" in done.stdout


def test_zoo_memory_as_json():
    record = json.loads(
        run("memory", "lenet5", "--json", "--mode", "eval", "--optimizer", "none").stdout
    )
    assert record["peak"] == zoo.memory("lenet5", mode="eval").peak
    assert len(record["rows"]) == len(zoo.profile("lenet5").rows)
    record = json.loads(run("memory", "vgg16", "--fit", "1MiB", "--device", "cpu", "--json").stdout)
    assert record == {"name": "vgg16", "max_batch_size": 0}


def test_zoo_memory_confirm_needs_fit():
    done = run("memory", "lenet5", "--confirm")
    assert isinstance(done.exception, UsageError)
    assert "give --fit" in str(done.exception)


def test_zoo_memory_fit():
    done = run("memory", "lenet5", "--fit", "10MB", "--device", "cpu")
    batch = zoo.max_batch_size("lenet5", "10MB", device="cpu")
    assert done.stdout.startswith(f"largest batch of lenet5 in 10MB: {batch} (predicted)\n")
    assert f"input {batch}" not in done.stdout
    assert done.exit_code == 0

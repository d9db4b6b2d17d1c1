"""Operators of one's own, in every form in which the dispatcher may call them, and
`out=` forms of torch's.
"""

import gc
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import Do
from torch import nn
from torch.utils.flop_counter import flop_registry

import zoo
from zoo.count import costs, formulas, receptive_field
from zoo.count.costs import cost
from zoo.count.module_counts import ModuleCall, ModuleCounts
from zoo.count.storage_log import StorageLog
from zoo.count.tracker import Tracker
from zoo.errors import InputError, UsageError, ZooError, ZooWarning
from zoo.models.lenet import LeNet5


def profile(function, *args):
    return zoo.profile(Do(function), inputs=args)


# ------------------------------------------------------------- an operator of one's own


@pytest.fixture(scope="module")
def library():
    """`own::mix(x, w)`: x (n, m), w (m,); each value of x plus the product with w, as
    plain, in-place and `out=` form.
    """
    library = torch.library.Library("own", "DEF")
    library.define("mix(Tensor x, Tensor w) -> Tensor")
    library.define("mix_(Tensor(a!) x, Tensor w) -> Tensor(a!)")
    library.define("mix.out(Tensor x, Tensor w, *, Tensor(a!) out) -> Tensor(a!)")
    for key in ("CPU", "Meta"):
        library.impl("mix", lambda x, w: x + (x * w).sum(1, keepdim=True), key)
        library.impl("mix_", lambda x, w: x.add_((x * w).sum(1, keepdim=True)), key)
        library.impl(
            "mix.out", lambda x, w, *, out: out.copy_(x + (x * w).sum(1, keepdim=True)), key
        )
    yield torch.ops.own
    library._destroy()


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    """What a test adds is forgotten after it."""
    for name, kept in (
        ("MACS", dict(formulas.MACS)),
        ("OTHER", dict(formulas.OTHER)),
        ("FREE", set(formulas.FREE)),
    ):
        monkeypatch.setattr(formulas, name, kept)
    monkeypatch.setattr(costs, "_costs", {})


FORMS = [
    lambda own, x, w: own.mix(x, w),
    lambda own, x, w: own.mix_(x, w),
    lambda own, x, w: own.mix(x, w, out=torch.empty_like(x)),
]


@pytest.mark.parametrize("form", FORMS)
def test_one_line_counts_every_form(library, form):
    x, w = torch.empty(3, 4), torch.empty(4)
    with pytest.warns(ZooWarning, match=r"own::mix \(called 1x\)"):
        before = profile(lambda x, w: form(library, x, w), x, w)
    assert (before.macs, before.uncounted) == (0, {"own::mix": 1})
    zoo.register_formula(
        "own::mix", lambda x, w, output: x.numel(), lambda x, w, output: output.numel()
    )
    after = profile(lambda x, w: form(library, x, w), x, w)
    assert (after.macs, after.other, after.uncounted, after.depth) == (
        12,
        {"elementwise": 12},
        {},
        1,
    )
    assert after.rows[0].output == (3, 4)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5))
def test_the_formula_against_a_naive_loop(library, n, m):
    zoo.register_formula(
        "own::mix_",
        macs=lambda x, w, output: x.numel(),
        other=lambda x, w, output: output.numel(),
        kind="activation",
    )
    x, w = torch.randn(n, m), torch.randn(m)
    products, sums, mixed = 0, 0, x.clone()
    for row, i in product(range(n), range(m)):
        mixed[row] += x[row, i] * w[i]
        products += 1
        sums += 1  # one of the row's m
    assert torch.allclose(library.mix(x, w), mixed, atol=1e-5)
    found = profile(library.mix, x, w)
    assert (found.macs, found.other) == (products, {"activation": sums})


def test_a_formula_can_be_replaced_and_an_operator_declared_free(library):
    x, w = torch.empty(3, 4), torch.empty(4)
    for macs in (5, 7):
        zoo.register_formula("own::mix", macs=lambda x, w, output, macs=macs: macs)
        assert profile(library.mix, x, w).macs == macs
    zoo.register_formula("own::mix")
    free = profile(library.mix, x, w)
    assert (free.macs, free.other, free.uncounted, [each.status for each in free.operators]) == (
        0,
        {},
        {},
        ["free"],
    )


def test_a_formula_of_torchs_own_operator_can_be_replaced():
    zoo.register_formula("aten::mm", macs=lambda a, b, output: 1)
    assert profile(torch.mm, torch.empty(3, 4), torch.empty(4, 5)).macs == 1


def test_wrong_formulas_say_so(library):
    with pytest.raises(UsageError, match="'mix' is no operator's name: give namespace::name"):
        zoo.register_formula("mix")
    zoo.register_formula("own::mix", macs=lambda x, output: 1)
    with pytest.raises(
        UsageError,
        match=r"^the formula of own::mix fails: TypeError: .* got multiple values for "
        r"argument 'output'",
    ):
        profile(library.mix, torch.empty(3, 4), torch.empty(4))


# -------------------------------------------------------------------------- torch's own


@pytest.mark.parametrize(
    ("plain", "out", "shape"),
    [
        (lambda x: x @ x.T, lambda x, out: torch.mm(x, x.T, out=out), (3, 3)),
        (
            lambda x: torch.addmm(x[:, :3], x, x.T),
            lambda x, out: torch.addmm(x[:, :3], x, x.T, out=out),
            (3, 3),
        ),
        (lambda x: x.relu() + x, lambda x, out: torch.add(x.relu(), x, out=out), (3, 4)),
        (lambda x: x.softmax(1), lambda x, out: torch.softmax(x, 1, out=out), (3, 4)),
        (lambda x: x.sum(1), lambda x, out: torch.sum(x, 1, out=out), (3,)),
        (
            lambda x: x.max(1).values,
            lambda x, out: torch.max(x, 1, out=(out, torch.empty_like(out, dtype=torch.long)))[0],
            (3,),
        ),
    ],
)
def test_out_forms_cost_what_the_plain_form_costs(plain, out, shape):
    x = torch.empty(3, 4)
    one, other = (
        profile(plain, x),
        profile(lambda x: out(x, torch.empty(shape, device=x.device)), x),
    )
    assert (one.macs, one.other, one.uncounted) == (other.macs, other.other, other.uncounted)
    assert one.macs + sum(one.other.values()) > 0
    assert one.rows[0].output == other.rows[0].output == shape


# ---------------------------------------------------------------- torch's flop_registry


def meta(*shape, dtype=None):
    return torch.empty(shape, dtype=dtype, device="meta")


IMAGE, KERNEL, BIAS = meta(2, 3, 8, 8), meta(4, 3, 3, 3), meta(4)
MAPS = meta(2, 4, 6, 6)  # of a 3x3 convolution without padding
ONES, NONE = [1, 1], [0, 0]
CONV = 2 * 4 * 6 * 6 * 3 * 3 * 3
HEADS_FIRST = meta(2, 4, 7, 16), meta(2, 4, 5, 16), meta(2, 4, 5, 16)  # (N, H, L, E)
HEADS_THIRD = meta(2, 7, 4, 16), meta(2, 5, 4, 16), meta(2, 5, 4, 16)  # (N, L, H, E)
PAIRS = 2 * 4 * 7 * 5
ROWS = meta(2, 4, 7)
SEED = meta(dtype=torch.long)
ENDS = meta(3, dtype=torch.int32)  # of two sequences
BEHIND = meta(14, 4, 16), meta(10, 4, 16), meta(10, 4, 16)  # two of 7, and of 5

AT = torch.ops.aten
REGISTERED = [  # operator, arguments, shape of the output, multiply-adds
    (AT.mm, (meta(2, 3), meta(3, 5)), (2, 5), 30),
    (AT.addmm, (meta(5), meta(2, 3), meta(3, 5)), (2, 5), 30),
    (AT.bmm, (meta(4, 2, 3), meta(4, 3, 5)), (4, 2, 5), 120),
    (AT.baddbmm, (meta(5), meta(4, 2, 3), meta(4, 3, 5)), (4, 2, 5), 120),
    (AT._scaled_mm, (meta(2, 3), meta(3, 5), meta(), meta()), (2, 5), 30),
    (AT.convolution, (IMAGE, KERNEL, BIAS, ONES, NONE, ONES, False, NONE, 1), MAPS.shape, CONV),
    (
        AT._convolution,
        (IMAGE, KERNEL, BIAS, ONES, NONE, ONES, False, NONE, 1, False, False, True, True),
        MAPS.shape,
        CONV,
    ),
    (
        AT.convolution_overrideable,
        (IMAGE, KERNEL, BIAS, ONES, NONE, ONES, False, NONE, 1),
        MAPS.shape,
        CONV,
    ),
    (
        AT.cudnn_convolution,
        (IMAGE, KERNEL, NONE, ONES, ONES, 1, False, False, True),
        MAPS.shape,
        CONV,
    ),
    (AT._slow_conv2d_forward, (IMAGE, KERNEL, [3, 3], BIAS, ONES, NONE), MAPS.shape, CONV),
    (
        AT.convolution_backward,
        (MAPS, IMAGE, KERNEL, [4], ONES, NONE, ONES, False, NONE, 1, [True, True, True]),
        None,
        2 * CONV,
    ),
    (
        AT._scaled_dot_product_efficient_attention,
        (*HEADS_FIRST, None, True),
        (2, 4, 7, 16),
        PAIRS * 32,
    ),
    (AT._scaled_dot_product_flash_attention, HEADS_FIRST, (2, 4, 7, 16), PAIRS * 32),
    (AT._scaled_dot_product_flash_attention_for_cpu, HEADS_FIRST, (2, 4, 7, 16), PAIRS * 32),
    (AT._scaled_dot_product_cudnn_attention, (*HEADS_FIRST, None, True), (2, 4, 7, 16), PAIRS * 32),
    (
        AT._scaled_dot_product_efficient_attention_backward,
        (HEADS_FIRST[0], *HEADS_FIRST, None, HEADS_FIRST[0], ROWS, SEED, SEED, 0.0, [True] * 4),
        None,
        PAIRS * 80,
    ),
    (
        AT._scaled_dot_product_flash_attention_backward,
        (
            HEADS_FIRST[0],
            *HEADS_FIRST,
            HEADS_FIRST[0],
            ROWS,
            None,
            None,
            7,
            5,
            0.0,
            False,
            SEED,
            SEED,
        ),
        None,
        PAIRS * 80,
    ),
    (
        AT._scaled_dot_product_flash_attention_for_cpu_backward,
        (HEADS_FIRST[0], *HEADS_FIRST, HEADS_FIRST[0], ROWS, 0.0, False),
        None,
        PAIRS * 80,
    ),
    (
        AT._scaled_dot_product_cudnn_attention_backward,
        (
            HEADS_FIRST[0],
            *HEADS_FIRST,
            HEADS_FIRST[0],
            ROWS,
            SEED,
            SEED,
            None,
            None,
            None,
            7,
            5,
            0.0,
            False,
        ),
        None,
        PAIRS * 80,
    ),
    (
        AT._flash_attention_forward,
        (*HEADS_THIRD, None, None, 7, 5, 0.0, False, False),
        (2, 7, 4, 16),
        PAIRS * 32,
    ),
    (
        AT._flash_attention_forward,
        (*BEHIND, ENDS, ENDS, 7, 5, 0.0, False, False),
        (14, 4, 16),
        PAIRS * 32,
    ),
    (
        AT._efficient_attention_forward,
        (*HEADS_THIRD, None, None, None, None, None, 0.0, 0),
        (2, 7, 4, 16),
        PAIRS * 32,
    ),
    (
        AT._flash_attention_backward,
        (
            HEADS_THIRD[0],
            *HEADS_THIRD,
            HEADS_THIRD[0],
            ROWS,
            meta(0),
            meta(0),
            7,
            5,
            0.0,
            False,
            SEED,
            SEED,
        ),
        None,
        PAIRS * 80,
    ),
    (
        AT._flash_attention_backward,
        (BEHIND[0], *BEHIND, BEHIND[0], ROWS, ENDS, ENDS, 7, 5, 0.0, False, SEED, SEED),
        None,
        PAIRS * 80,
    ),
    (
        AT._efficient_attention_backward,
        (
            HEADS_THIRD[0],
            *HEADS_THIRD,
            None,
            HEADS_THIRD[0],
            None,
            None,
            7,
            5,
            ROWS,
            0.0,
            SEED,
            SEED,
            0,
            False,
        ),
        None,
        PAIRS * 80,
    ),
]


@pytest.mark.parametrize(
    ("operator", "args", "shape", "expected"),
    REGISTERED,
    ids=[f"{each[0].__name__}-{i}" for i, each in enumerate(REGISTERED)],
)
def test_formulas_of_the_operators_that_torch_has_one_for(operator, args, shape, expected):
    output = None if shape is None else meta(*shape)
    assert cost(operator.default).of(args, {}, output)[0] == expected


def test_every_operator_of_torchs_flop_registry_has_a_formula():
    operators = {op for op in flop_registry if isinstance(op, torch._ops.OpOverloadPacket)}
    assert {each[0] for each in REGISTERED} == operators
    rest = {op.__name__ for op in set(flop_registry) - operators}
    assert rest <= {"flex_attention", "flex_attention_backward"}, "no operators of the dispatcher"


def test_sequences_whose_lengths_depend_on_data_are_refused():
    args = (*BEHIND, ENDS, ENDS, 9, 5, 0.0, False, False)
    with pytest.raises(UsageError, match=r"_flash_attention_forward fails: .*differ in length"):
        cost(AT._flash_attention_forward.default).of(args, {}, None)


@pytest.mark.parametrize(
    ("operator", "args"),
    [
        (AT.cudnn_convolution, (IMAGE, KERNEL, NONE, [2, 2], ONES, 1, False, False, True)),
        (AT._slow_conv2d_forward, (IMAGE, KERNEL, [3, 3], BIAS, [2, 2], NONE)),
        (
            AT._convolution,
            (IMAGE, KERNEL, BIAS, [2, 2], NONE, ONES, False, NONE, 1, False, False, True, True),
        ),
    ],
)
def test_receptive_fields_of_libraries_own_convolutions(operator, args):
    receptive_field.mark_input(IMAGE)
    output = meta(2, 4, 3, 3)
    receptive_field.propagate(cost(operator.default), args, [IMAGE], [output])
    assert receptive_field.get(output)[:3] == (1, (3, 3), (2, 2))


def test_biases_of_libraries_own_convolutions():
    for op, args in (
        (AT._slow_conv2d_forward, (IMAGE, KERNEL, [3, 3], BIAS, ONES, NONE)),
        (AT.mkldnn_convolution, (IMAGE, KERNEL, BIAS, NONE, ONES, ONES, 1)),
        (AT._scaled_mm, (meta(2, 3), meta(3, 5), meta(), meta(), meta(5))),
    ):
        assert cost(op.default).of(args, {}, MAPS)[1] == MAPS.numel()
    args = IMAGE, KERNEL, None, NONE, ONES, ONES, 1
    assert cost(AT.mkldnn_convolution.default).of(args, {}, MAPS)[1] == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_traced_network_counts_as_the_plain_one():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    x = torch.zeros(1, 3, 8, 8)
    plain, traced = (
        zoo.profile(each, inputs=x) for each in (model, torch.jit.trace(model.eval(), x))
    )
    assert (traced.macs, traced.other, traced.depth) == (plain.macs, plain.other, plain.depth)
    assert plain.macs == 4 * 36 * 27 + 144 * 5


# ----------------------------------------------------------------------------- refusals


def test_shapes_that_depend_on_data_are_refused_by_name():
    with pytest.raises(
        InputError,
        match=r"^Do cannot be counted without numbers: in Do a shape or a branch depends on "
        r"data .*nonzero",
    ):
        profile(lambda x: x[x.nonzero()], torch.empty(4))


@pytest.mark.parametrize("part", ["receptive_field.propagate", "schema"])
@pytest.mark.parametrize("call", [zoo.profile, zoo.memory])
def test_a_fault_of_the_counters_is_never_blamed_on_the_input(monkeypatch, part, call):
    def fail(*args, **kwargs):
        raise IndexError("list index out of range")

    monkeypatch.setattr(f"zoo.count.tracker.{part}", fail)
    with pytest.raises(ZooError, match=r"^Conv2d cannot be counted: .* a fault of zoo") as caught:
        call(nn.Conv2d(3, 4, 3), inputs=torch.empty(1, 3, 8, 8))
    assert not isinstance(caught.value, UsageError)
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_statistics_is_never_blamed_on_the_input(monkeypatch):
    def fail(*args, **kwargs):
        raise IndexError("list index out of range")

    monkeypatch.setattr("zoo.count.activation_stats.Record.add", fail)
    with pytest.raises(ZooError, match=r"^Conv2d cannot be counted: .* a fault of zoo") as caught:
        zoo.profile(nn.Conv2d(3, 4, 3), inputs=torch.empty(1, 3, 8, 8), stats=True)
    assert not isinstance(caught.value, UsageError)


@pytest.mark.parametrize("stats", [False, True])
def test_what_the_network_itself_raises_is_not_the_counters_fault(stats):
    def fail(x):
        raise IndexError("mine")

    for function in (fail, lambda x: x @ x, lambda x: x[0, 0, 9], lambda x: x.no):
        with pytest.raises(InputError):
            zoo.profile(Do(function), inputs=torch.empty(2, 3), stats=stats)
    with pytest.raises(InputError, match="does not take the input"):
        zoo.memory(Do(lambda x: F.dropout(x) @ x), inputs=torch.empty(2, 3))


# ------------------------------------------------------------------------------ garbage


def test_a_pass_leaves_nothing_for_the_garbage_collector():
    """Else every few networks a collection looks at all that torch has loaded, which
    takes longer than counting them.
    """
    zoo.profile("lenet5")
    gc.collect()
    gc.disable()
    try:
        zoo.profile("lenet5")
        assert not gc.isenabled()
        assert not [
            each
            for each in gc.get_objects()
            if type(each) in (LeNet5, ModuleCounts, ModuleCall, Tracker, StorageLog)
        ]
    finally:
        gc.enable()
    zoo.profile("lenet5")
    assert gc.isenabled()

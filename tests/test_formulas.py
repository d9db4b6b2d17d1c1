"""Operators of one's own, in every form in which the dispatcher may call them, and
`out=` forms of torch's.
"""

import gc
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import Do

import zoo
from zoo.count import costs, formulas
from zoo.count.module_counts import ModuleCall, ModuleCounts
from zoo.count.storage_log import StorageLog
from zoo.count.tracker import Tracker
from zoo.errors import InputError, UsageError, ZooWarning
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


# ----------------------------------------------------------------------------- refusals


def test_shapes_that_depend_on_data_are_refused_by_name():
    with pytest.raises(
        InputError,
        match=r"^Do cannot be counted without numbers: in Do a shape or a branch depends on "
        r"data .*nonzero",
    ):
        profile(lambda x: x[x.nonzero()], torch.empty(4))


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

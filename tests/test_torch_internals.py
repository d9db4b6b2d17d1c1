"""What torch does not promise, and the counters rely on. All of this was seen in torch
2.11 and 2.15: where a newer version fails here, zoo/count/torch_internals.py and its
sibling torch_late_imports.py are the only files to change.
"""

import gc
import inspect
import subprocess
import sys
import weakref
from importlib import import_module

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.count import torch_internals as internals
from zoo.count.torch_late_imports import ANSWERS, SYMBOLS, NoneYet

pytestmark = pytest.mark.filterwarnings("ignore:.*Profiler.*", "ignore:.*profiler.*")


# seen in 2.11 and 2.15: nn.Module.__call__ asks _compiled_call_impl first
def test_calls_of_a_module_are_redirected_and_the_hooks_still_run():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append("hook"))

    def through(run, x):
        seen.append("call")
        return run(x)

    x = torch.ones(1, 2)
    before = model(x)
    with internals.redirected_calls([(model[0], through)]):
        assert torch.equal(model(x), before)
    assert seen == ["hook", "call", "hook"]
    model(x)
    assert seen == ["hook", "call", "hook", "hook"]


# seen in 2.11 and 2.15: nn.Module._call_impl runs self.forward
def test_a_forward_that_is_called_directly_is_redirected_without_hooks():
    layer, x, seen = nn.Linear(2, 2), torch.ones(1, 2), []
    layer.register_forward_hook(lambda *_: seen.append("hook"))
    own = layer.forward

    def through(run, x):
        seen.append("call")
        return run(x)

    with internals.redirected_calls([(layer, through)]):
        assert torch.equal(layer.forward(x), layer(x))
        assert inspect.signature(layer.forward) == inspect.signature(own)
    assert seen == ["call", "call", "hook"]
    assert "forward" not in vars(layer)
    layer.forward = own
    with internals.redirected_calls([(layer, through)]):
        layer.forward(x)
    assert layer.forward is own


def test_calls_are_direct_again_after_an_exception():
    layer = nn.Linear(2, 2)

    def fail(run, x):
        raise ValueError

    with pytest.raises(ValueError), internals.redirected_calls([(layer, fail)]):  # noqa: PT011
        layer(torch.ones(1, 2))
    assert layer(torch.ones(1, 2)).shape == (1, 2)


# seen in 2.11 and 2.15: torch.compile keeps the module as _orig_mod
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_module_that_was_compiled():
    layer = nn.Sequential()  # an empty one is false
    assert internals.compiled_module(torch.compile(layer)) is layer
    assert internals.compiled_module(layer) is None


# seen in 2.11 and 2.15: functions ask has_torch_function, a global of their module
def test_a_copy_of_a_function_lets_modes_see_what_it_is_made_of():
    class Names(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func.__name__)
            function = F.multi_head_attention_forward
            if func is function:
                with self:
                    return internals.without_override_check(func)(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    seen, layer, x = [], nn.MultiheadAttention(8, 2), torch.randn(3, 1, 8)
    before = layer(x, x, x, need_weights=False)[0]
    with Names():
        output = layer(x, x, x, need_weights=False)[0]
    assert torch.equal(output, before)
    assert seen.index("multi_head_attention_forward") < seen.index("scaled_dot_product_attention")


# seen in 2.11 and 2.15: _fused_sdp_choice, 0 for the scores as a matrix
@pytest.mark.parametrize(
    ("heads", "mask", "dropout", "fused"),
    [
        (4, None, 0.0, True),
        (4, torch.ones(5, 5), 0.0, True),
        (4, torch.ones(5, 5, requires_grad=True), 0.0, False),
        (2, None, 0.0, True),
        (4, None, 0.1, False),
    ],
)
def test_torch_says_which_attention_is_fused_on_the_cpu(heads, mask, dropout, fused):
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    seen, query, key = [], torch.randn(3, 4, 5, 8), torch.randn(3, heads, 5, 8)
    options = {"dropout_p": dropout, "is_causal": False, "scale": None}
    assert internals.fuses_attention(query, key, key, mask, heads != 4, **options) is fused
    with Names():
        F.scaled_dot_product_attention(query, key, key, mask, enable_gqa=heads != 4, **options)
    assert any("flash" in name for name in seen) is fused


# seen in 2.11 and 2.15: _parameters and _buffers, in order, with None for what is unset
def test_what_a_module_itself_holds():
    norm = nn.BatchNorm2d(3)
    assert internals.own_parameters(norm) == [norm.weight, norm.bias]
    names = dict(norm.named_buffers())
    assert [id(each) for each in internals.own_buffers(norm)] == list(map(id, names.values()))
    assert internals.own_parameters(nn.Sequential(norm)) == []
    assert internals.own_parameters(nn.Linear(2, 2, bias=False))[0].shape == (2, 2)
    assert type(internals.own_parameters(nn.LazyLinear(2))[0]) is UninitializedParameter


# seen in 2.11 and 2.15: OpOverload._schema
def test_the_schema_of_an_operator():
    found = internals.schema(torch.ops.aten.add_.Tensor)
    assert (found.name, found.is_mutable) == ("aten::add_", True)
    out = [each.name for each in internals.schema(torch.ops.aten.mm.out).arguments if each.is_out]
    assert out == ["out"]


# seen in 2.15: reading a tensor's value is an operator, and its caller's frame is near
def test_who_reads_a_value_is_known():
    asked = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._local_scalar_dense.default:
                asked.append(internals.asking_module())
                return True
            return internals.run_operator(func, args, kwargs or {})

    with Watch():
        torch.distributions.Normal(torch.zeros(2, device="meta"), 1.0, validate_args=True)
        assert bool(torch.ones((), dtype=torch.bool, device="meta"))
    assert {*asked} == {"torch.distributions.distribution", __name__}


# seen in 2.11 and 2.15: a node gets the number that is current when it is made
def test_the_numbers_of_autograds_nodes_tell_who_made_them():
    x = torch.ones(2, device="meta", requires_grad=True)
    numbers, seen = [], []
    numbers.append(internals.sequence_number())
    y = x.exp()
    numbers.append(internals.sequence_number())
    z = y.sin()
    numbers.append(internals.sequence_number())

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(internals.running_sequence_number())
            return func(*args, **(kwargs or {}))

    assert internals.running_sequence_number() is None
    with Watch():
        torch.autograd.backward(z, torch.empty_like(z))
    own = [number for number in seen if number is not None]
    of_sin = [number for number in own if numbers[1] <= number < numbers[2]]
    of_exp = [number for number in own if numbers[0] <= number < numbers[1]]
    assert of_sin
    assert of_exp
    assert own == of_sin + of_exp, "backwards: the last node first"
    assert None in seen, "the gradient is accumulated by a node without a number"


# seen in 2.11 and 2.15: _use_count and _storage_Use_Count
def test_references_are_counted():
    tensor = torch.empty(3, device="meta")
    alone = internals.reference_counts(tensor)
    view = tensor.view(3)
    assert internals.reference_counts(tensor)[1] > alone[1], "a view holds the storage"
    del view
    assert internals.reference_counts(tensor) == alone
    x = torch.ones(2, device="meta", requires_grad=True)
    y = x.exp()
    before = internals.reference_counts(y)[0]
    z = y * y  # saves it
    assert internals.reference_counts(y)[0] >= before
    del z


# seen in 2.11 and 2.15: UntypedStorage._cdata
def test_the_address_of_a_storage_is_that_of_its_views_and_of_no_other():
    tensor, other = torch.empty(3, device="meta"), torch.empty(3, device="meta")
    address = internals.storage_address(tensor.untyped_storage())
    assert address == internals.storage_address(tensor[1:].untyped_storage())
    assert address != internals.storage_address(other.untyped_storage())


# seen in 2.11 and 2.15: a storage's Python object lives as long as the storage does
def test_a_storage_can_be_followed_until_it_is_freed():
    tensor, freed = torch.empty(3, device="meta"), []
    reference = weakref.ref(tensor.untyped_storage(), freed.append)
    tensor.untyped_storage().mark = 1
    view = tensor[1:]
    del tensor
    gc.collect()
    assert freed == []
    assert view.untyped_storage().mark == 1
    del view
    assert freed == [reference]


# seen in 2.11 and 2.15: the profiler's tree with its events of allocations
def test_allocations_are_in_the_profilers_tree_with_the_call_that_made_them():
    size = 4 * 1000 * 1000
    x = torch.ones(1000, 1000)
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as record:
        y = x @ x
        z = x + 1
        del y
    tree = internals.event_tree(record)
    found = sorted(internals.allocations(tree, "cpu", ["aten::mm"]))
    large = [each for each in found if abs(each.size) == size]
    assert [each.size for each in large] == [size, size, -size]
    product, total, freed = large
    assert product.address == freed.address != total.address
    assert product.call
    assert not total.call
    assert list(internals.allocations(tree, "cuda", [])) == []
    assert z.shape == (1000, 1000)


# ----------------------------------------------------------------------- late imports

ARGUMENTS = {
    "free_unbacked_symbols": [(3,), ((2, 3),), (torch.empty(2, 3, device="meta"),)],
    "guard_int": [(0,), (7,)],
    "guarding_hint_or_throw": [(0,), (7,)],
    "has_guarding_hint": [(0,), (True,)],
    "is_nested_int": [(0,), (7,)],
    "sym_and": [(True,), (True, False), (True, True, True)],
    "sym_or": [(False,), (True, False), (False, False, False)],
    "sym_eq": [(2, 2), (2, 3), ((1, 2), [1, 2]), ((1, 2), (1, 3)), ((1,), (1, 1)), ([], ())],
}


# seen in 2.15; a name that a version does not have is not asked for by it
@pytest.mark.filterwarnings("ignore:guard_size_oblivious")
def test_what_is_answered_for_the_module_of_symbols_is_its_own_answer():
    real, answers = import_module(SYMBOLS), ANSWERS[SYMBOLS]
    assert set(ARGUMENTS) < set(answers)
    for name in answers:
        for args in ARGUMENTS.get(name, [(True,), (False,)]):
            if hasattr(real, name):
                expected = getattr(real, name)(*args)
                found = answers[name](*args)
                assert (name, type(found)) in {(name, type(expected)), (name, set)}
                assert list(found) == list(expected) if name[:4] == "free" else found == expected


def test_what_is_no_number_is_asked_of_the_module_of_symbols():
    with pytest.raises(AssertionError, match="Expected bool"):
        ANSWERS[SYMBOLS]["guard_or_false"]("true")
    sympy = pytest.importorskip("sympy")
    basic = ANSWERS["sympy"]["Basic"]
    assert isinstance(basic, NoneYet)
    assert isinstance(sympy.Symbol("x"), basic)
    assert not isinstance(3, basic)


# the first operator on the meta device and the first step of an optimizer load nothing
LATE = """
import sys, threading, torch
from zoo.count.torch_late_imports import ANSWERS, LateModule, late_imports
here = lambda: sorted(set(ANSWERS) & set(sys.modules))
def step():
    layer = torch.nn.Linear(3, 2, device="meta")
    optimizer = torch.optim.AdamW(layer.parameters())
    (layer(torch.empty(4, 3, device="meta")) + 1).relu().sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer
assert not here(), here()
with late_imports():
    with late_imports():
        kept = step()
    assert len(here()) == 3
    step()
    late = sys.modules["torch._dynamo"]
    assert all(isinstance(sys.modules[name], LateModule) for name in here())
assert not here(), here()
function = torch.optim.Optimizer.zero_grad.__wrapped__
assert "__dynamo_disable" not in vars(function), "left behind"
seen = []
with late_imports():
    step()
    other = threading.Thread(target=lambda: seen.append(torch._dynamo.disable))
    other.start(), other.join()  # not in a pass: gets the real one
    kept.step()
assert seen == [torch._dynamo.disable] and type(torch._dynamo) is not LateModule
assert late.disable is torch._dynamo.disable, "the module that was withdrawn"
assert here() == sorted(ANSWERS) and torch._dynamo is sys.modules["torch._dynamo"]
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)) == 2
kept.zero_grad()
assert "__dynamo_disable" in vars(function)
import sympy
assert sympy.Symbol("x") + 0 == sympy.Symbol("x")
"""


@pytest.mark.slow
@pytest.mark.skipif(
    torch.__version__ < "2.15", reason="an older torch asks for more, which loads it"
)
def test_the_compiler_and_sympy_are_loaded_only_when_more_is_asked_of_them():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LATE], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr

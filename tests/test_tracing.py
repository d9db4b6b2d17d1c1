"""Networks under torch's symbolic tracer, and what goes by such traces: feature
extraction by node name, FX quantisation, TorchScript. The traced network is the same.

Of each family the row with the fewest MACs, built small; those whose blocks another one
has too are slow.
"""

import copy

import pytest
import torch
from oracle import disable_drop_path, redraw, small_size, smallest_rows, tiny
from torch import fx
from torchvision.models.feature_extraction import create_feature_extractor

import zoo
from zoo.errors import InputError, UsageError, ZooWarning
from zoo.interfaces.features import Encoder

# The smallest FractalNet has one column, so no joins.
NAMES = [*smallest_rows().values(), "fractalnet_c2"]
DROPPING = ("resnet110_sd_cifar10", "fractalnet_c2")
PEERS = (  # of families that torchvision scripts
    "alexnet_owt",
    "densenet40_k12_cifar10",
    "resnet18",
    "resnext50_32x4d",
    "squeezenet1_1",
    "vgg11",
    "wide_resnet50_2",
)
FAMILIES_OF_THE_SAME_BLOCKS = {
    "alexnet": ("vgg", "zfnet"),
    "inception_resnet": ("googlenet", "bn_inception", "inception_v3", "inception_v4"),
}
SAME = [family for families in FAMILIES_OF_THE_SAME_BLOCKS.values() for family in families]


def case(name):
    same = zoo.info(name).family in SAME
    return pytest.param(name, marks=[pytest.mark.slow] if same else [])


CASES = [*map(case, NAMES)]
DEEP = 500  # layers: beyond, the small network says as much


def built(name, **model_args):
    """The small network in evaluation mode, and two images that it takes."""
    torch.manual_seed(0)
    model = zoo.create(name, **{**tiny(name), **model_args}).eval()
    return model, torch.randn(2, model.in_chans, *[small_size(name)] * 2)


def outputs(model, x):
    """In training mode, from the same seed."""
    torch.manual_seed(1)
    given = model(x)
    return torch.cat(given, 1) if isinstance(given, tuple) else given


@pytest.mark.parametrize("name", CASES)
def test_symbolic_trace(name):
    """In both modes the same logits, gradients and statistics, random parts included;
    the traced network still names the size that it takes.
    """
    model, x = built(name)
    with torch.no_grad():
        assert torch.equal(fx.symbolic_trace(model)(x), model(x))
    model.train()
    other = copy.deepcopy(model)
    traced = fx.symbolic_trace(other)
    assert other.state_dict().keys() == traced.state_dict().keys()
    copy.deepcopy(other)  # nothing of the trace stays in it
    results = []
    for each, parameters in ((model, model.parameters()), (traced, other.parameters())):
        logits = outputs(each, x)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in parameters)])
    for a, b in zip(*results, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    for a, b in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(InputError, match=rf"{name} takes images of shape \(N, {model.in_chans}"):
        traced(x[0])


@pytest.mark.parametrize("name", DROPPING)
def test_what_drops_parts_goes_on_dropping(name):
    """A trace does not make one draw the only one."""
    model, x = built(name)
    traced = fx.symbolic_trace(model.train())
    with torch.no_grad():
        several = []
        for seed in range(12):
            pair = []
            for each in (model, traced):
                torch.manual_seed(seed)
                pair.append(each(x))
            assert torch.equal(*pair)
            several.append(pair[0])
    assert any(not torch.equal(several[0], each) for each in several[1:])
    traced.eval()  # the blocks that are one node follow
    with torch.no_grad():
        assert torch.equal(traced(x), model.eval()(x))


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.filterwarnings("ignore")  # torch says that TorchScript is deprecated
def test_torch_jit_refuses_to_record_a_draw(name):
    model, x = built(name)
    with pytest.raises(UsageError, match=r"one draw of the .* that are dropped .* model.eval\(\)"):
        torch.jit.trace(model.train(), x, check_trace=False)
    with pytest.raises(UsageError, match=r"torch.jit.script cannot compile: call model.eval\(\)"):
        torch.jit.script(model)
    with pytest.warns(ZooWarning, match="keeps that of evaluation mode in both"):
        torch.jit.script(model.eval())


def test_auxiliary_heads():
    """Of the mode that was traced, with their own check."""
    with torch.device("meta"):
        model = zoo.create("googlenet", aux=True)
        x = torch.empty(2, 3, 224, 224)
        traced = fx.symbolic_trace(model.train())
        assert [each.shape for each in traced(x)] == [each.shape for each in model(x)]
        with pytest.raises(InputError, match="auxiliary head takes maps of 5x5 or larger, not 4x4"):
            traced(torch.empty(2, 3, 64, 64))
        assert fx.symbolic_trace(model.eval())(x).shape == (2, 1000)


@pytest.mark.parametrize("name", ["densenet40_k12_cifar10", "resnet20_cifar10"])
def test_recomputation_is_left_out(name):
    """A trace has no second pass: the same gradients."""
    memory_efficient = {"memory_efficient": True} if name.startswith("densenet") else {}
    model, x = built(name, **memory_efficient)
    model.set_grad_checkpointing()
    model.train()
    expected = outputs(copy.deepcopy(model), x)
    assert torch.equal(outputs(fx.symbolic_trace(model), x), expected)


@pytest.mark.parametrize("name", CASES)
def test_feature_extraction_by_node_name(name):
    """torchvision's, which traces both modes."""
    model, x = built(name)
    first, last = (model.feature_info[i]["module"] for i in (0, -1))
    wanted = {first: "first", "head": "head"} if first == last else {first: "first", last: "last"}
    extractor = create_feature_extractor(model, wanted, suppress_diff_warning=True)
    with torch.no_grad():
        final, maps = model.forward_intermediates(x)
        found = extractor(x)
    assert torch.equal(found["first"], maps[0])
    assert "last" not in found or torch.equal(found["last"], final)


@pytest.mark.parametrize("name", ["resnet20_cifar10", "fractalnet_c2", "googlenet"])
def test_a_part_of_a_network(name):
    small = tiny(name)
    parts = (
        zoo.create(name, **small, features_only=True, out_indices=(0, 2)),
        Encoder(zoo.create(name, **small), "pre_logits"),
    )
    for model in parts:
        x = torch.randn(2, 3, *[small_size(name)] * 2)
        with torch.no_grad():
            expected = model.eval()(x)
            torch.testing.assert_close(fx.symbolic_trace(model)(x), expected, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models(task="classify"))
def test_every_network(name):
    """That sees an image once: what reads tokens step by step is no one graph."""
    variant = zoo.info(name).variant
    with torch.device("meta"):
        model = zoo.create(name, **(tiny(name) if variant.depth > DEEP else {}))
        args = [spec.example(2, device="meta") for spec in variant.inputs]
        for mode in (True, False):
            model.train(mode)
            assert fx.symbolic_trace(model)(*args).shape == model(*args).shape


def scripted(name):
    model, x = built(name)
    disable_drop_path(model)
    compiled = torch.jit.script(model)
    assert compiled.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=1e-6)
    return model, compiled, x


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.filterwarnings("ignore")  # torch says that TorchScript is deprecated
def test_torchscript(name, tmp_path):
    """Where torchvision's network of the family can; torch's own layers follow the
    mode.
    """
    model, compiled, x = scripted(name)
    torch.jit.save(compiled, tmp_path / "model.pt")
    loaded = torch.jit.load(tmp_path / "model.pt")
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), compiled(x), rtol=0, atol=1e-6)
    model, compiled = model.train(), compiled.train()
    torch.testing.assert_close(outputs(compiled, x), outputs(model, x), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in PEERS])
@pytest.mark.filterwarnings("ignore")  # torch says that TorchScript is deprecated
def test_torchscript_of_the_others(name):
    scripted(name)


def quantised(model, x):
    quantize_fx = pytest.importorskip("torch.ao.quantization.quantize_fx")
    from torch.ao.quantization import get_default_qconfig_mapping

    with torch.no_grad():
        prepared = quantize_fx.prepare_fx(model, get_default_qconfig_mapping(), (x,))
        prepared(x)
        return quantize_fx.convert_fx(prepared)


# Deeper ones amplify the rounding of drawn weights.
@pytest.mark.parametrize(
    ("name", "tolerance"), [("resnet20_cifar10", 0.2), ("resnet110_sd_cifar10", 0.2)]
)
@pytest.mark.filterwarnings("ignore")
def test_fx_quantisation(name, tolerance):
    """Rounding only: `tolerance` of logits of spread one."""
    model, x = built(name)
    redraw(model, x, torch.Generator().manual_seed(1))
    model.eval()
    network = quantised(model, x)
    assert not any(type(module) is torch.nn.Conv2d for module in network.modules())
    with torch.no_grad():
        torch.testing.assert_close(network(x), model(x), rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")
def test_fx_quantisation_of_each_family(name):
    model, x = built(name)
    assert quantised(model, x)(x).isfinite().all()

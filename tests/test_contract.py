"""One contract for every registered network: a new one adds no test code."""

import warnings

import pytest
import torch
from oracle import dropless
from torch import nn

import zoo
from zoo.errors import InputError, Note, UsageError

CLASSIFIERS = zoo.list_models(task="classify")
FAMILIES = list(dict.fromkeys(zoo.info(name).family for name in CLASSIFIERS))
HUGE = [name for name in CLASSIFIERS if zoo.info(name).variant.depth > 1000]
SMALLEST = [  # of each family: for what is the same in all rows of a class
    min(rows, key=lambda name: zoo.info(name).variant.claims.params)
    for rows in (
        [name for name in CLASSIFIERS if zoo.info(name).family == family] for family in FAMILIES
    )
]
SIZE = 64  # of real forward passes, where the network takes it


def on_meta(name, **fields):
    with torch.device("meta"):
        return zoo.create(name, **fields)


def images(name, model, size=None, device="cpu", batch=2):
    size = zoo.info(name).variant.input_size[1:] if size is None else (size, size)
    return torch.randn(batch, model.in_chans, *size).to(device)


def conv_layers(model):
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def small(name):
    """A size at which a real pass is cheap."""
    variant = zoo.info(name).variant
    return (
        variant.input_size[1]
        if variant.fixed_input
        else max(min(SIZE, variant.input_size[1]), variant.min_input)
    )


@pytest.fixture(scope="module", params=[name for name in CLASSIFIERS if name not in HUGE])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def model(name):
    torch.manual_seed(0)
    return zoo.create(name).eval()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_interface(name):
    """Shapes of every method, on the meta device."""
    model = on_meta(name).eval()
    x = images(name, model, device="meta")
    assert model.num_classes > 1
    assert model(x).shape == (2, model.num_classes)
    last = model.forward_features(x)
    assert model.forward_head(last).shape == (2, model.num_classes)
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (
        2,
        model.num_features,
    )
    assert model.get_classifier() is model.head
    assert model.head_hidden_size == model.num_features
    assert model.default_cfg is model.pretrained_cfg
    assert model.pretrained_cfg["architecture"] == name
    assert model.pretrained_cfg["num_classes"] == model.num_classes
    first = model.pretrained_cfg["first_conv"]  # a network of linear layers has none
    assert (
        model.get_submodule(first).weight.shape[1] == model.in_chans
        if first
        else not conv_layers(model)
    )
    assert model.no_weight_decay() <= {key for key, _ in model.named_parameters()}
    assert len(model.feature_info) == len(model.features)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_feature_maps(name):
    """`feature_info` tells the truth, and every way to ask for feature maps gives the
    same ones.
    """
    model = on_meta(name).eval()
    x = images(name, model, device="meta")
    final, maps = model.forward_intermediates(x)
    assert final.shape == maps[-1].shape == model.forward_features(x).shape
    for entry, feature in zip(model.feature_info, maps, strict=True):
        assert entry["num_chs"] == feature.shape[1]
        assert abs(x.shape[2] / entry["reduction"] - feature.shape[2]) <= 6, (
            "borders without padding cost a few pixels, not more"
        )
        assert isinstance(model.get_submodule(entry["module"]), nn.Module)
    count = len(maps)
    wanted = sorted({0, count - 1})
    net = on_meta(name, features_only=True, out_indices=wanted).eval()
    assert [feature.shape for feature in net(x)] == [maps[index].shape for index in wanted]
    assert net.feature_info.channels() == [maps[index].shape[1] for index in wanted]
    assert net.feature_info.reduction() == [
        model.feature_info[index]["reduction"] for index in wanted
    ]
    early = on_meta(name, features_only=True, out_indices=(0,))
    first = model.feature_info[0]["module"] + "."
    assert [key for key, _ in early.named_parameters()] == [
        f"model.{k}" for k, _ in model.named_parameters() if k.startswith(first)
    ]
    assert len(model.forward_intermediates(x, 1, intermediates_only=True)) == 1
    assert len(model.forward_intermediates(x, [-1], stop_early=True, intermediates_only=True)) == 1
    for wrong in ([count], [-count - 1], []):
        with pytest.raises(InputError, match=f"0 to {count - 1}"):
            model.forward_intermediates(x, wrong)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_other_heads_and_inputs(name):
    headless = on_meta(name, num_classes=0).eval()
    x = images(name, headless, device="meta")
    assert headless(x).shape == (2, headless.num_features)
    channels = 1 if headless.in_chans == 3 else 3
    other = on_meta(name, in_chans=channels, num_classes=7).eval()
    assert other(images(name, other, device="meta")).shape == (2, 7)
    with pytest.raises(InputError, match=rf"{name} takes images of shape \(N, {channels}, H, W\)"):
        other(x)
    with pytest.raises(InputError, match="takes images of shape"):
        other(x[0])
    with pytest.raises(UsageError, match="num_clases"):
        zoo.create(name, num_clases=7)
    with pytest.raises(InputError, match="num_classes"):
        zoo.create(name, num_classes=-1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_parts(name):
    """Each parameter lies in exactly one of the stages, and in one of timm's layer
    groups, from input to head.
    """
    from timm.models import group_parameters

    model = on_meta(name)
    parts = model.stages()
    assert list(parts)[-1] == "head" or not list(model.head.parameters())
    owned = [id(parameter) for part in parts.values() for parameter in part.parameters()]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse=coarse))
        order = [key for layer in sorted(groups) for key in groups[layer]]
        assert order == [key for key, _ in model.named_parameters()]
        assert len(groups) >= len(parts) - 1


def test_sizes(name, model):
    """Two input sizes where the network allows it; each too small one gives an error
    that names the smallest allowed.
    """
    variant = zoo.info(name).variant
    meta = on_meta(name).eval()
    if variant.fixed_input:
        size = variant.input_size[1]
        for wrong in (1, size - 1, size + 1):
            with pytest.raises(InputError, match=f"{size}x{size} only, not {wrong}x{wrong}"):
                meta(images(name, meta, wrong, "meta"))
        return
    for size in (variant.min_input, variant.input_size[1] + 32):
        assert meta(images(name, meta, size, "meta", batch=1)).shape == (1, model.num_classes)
    with torch.no_grad():
        assert model(images(name, model, variant.min_input)).isfinite().all()
    for size in {0, 1, variant.min_input // 2, variant.min_input - 1}:
        if size < variant.min_input:
            with pytest.raises(
                InputError,
                match=f"{variant.min_input}x{variant.min_input} or larger, not {size}x{size}",
            ):
                meta(images(name, meta, size, "meta"))
    if variant.min_input > 1:  # and the smallest allowed one is no excuse
        model_without_check = on_meta(name).eval()
        model_without_check.pretrained_cfg = {}
        with pytest.raises((RuntimeError, ValueError)):
            model_without_check(images(name, model, variant.min_input - 1, "meta"))


def test_the_ways_through_agree(name, model):
    """forward = head of features; the maps are not overwritten by later stages; the
    meta device and assigned tensors give the same.
    """
    x = images(name, model, small(name))
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(model.forward_head(model.forward_features(x)), logits)
        final, maps = model.forward_intermediates(x)
        y = x.clone()
        for stage, feature in zip(model.features, maps, strict=True):
            y = stage(y.clone())
            assert torch.equal(y, feature), "a later stage wrote into this map"
        assert torch.equal(final, y)
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        assert pooled.shape == (2, model.num_features)
    empty = on_meta(name).eval()
    assert empty.state_dict().keys() == model.state_dict().keys()
    empty.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(empty(x), logits)
    assert not any(buffer.is_meta for buffer in empty.buffers()), (
        "a buffer outside the state dict stays on meta"
    )


def test_initialisation_is_whole(name, model):
    """Nothing that the constructor makes escapes init_weights: garbage everywhere, then
    the same numbers from the same seed.
    """
    with torch.no_grad():
        garbage = on_meta(name).to_empty(device="cpu")
        for tensor in garbage.state_dict().values():
            tensor.fill_(77)
    torch.manual_seed(0)
    garbage.init_weights()
    drawn = garbage.state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, drawn[key]), key


def test_every_parameter_learns(name):
    """In training mode, random dropping off: every gradient is there, finite, and not
    all zero in one of three seeds.
    """
    every_parameter_learns(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", HUGE)
def test_every_parameter_learns_in_huge_networks(name):
    every_parameter_learns(name)


def every_parameter_learns(name):
    dead = None
    for seed in range(3):
        torch.manual_seed(seed)
        model = zoo.create(name).train()
        dropless(model)
        x = images(name, model, small(name))
        outputs = model(x)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        labels = torch.arange(len(x)) % outputs[0].shape[1]
        sum(nn.functional.cross_entropy(output, labels) for output in outputs).backward()
        without = [key for key, parameter in model.named_parameters() if parameter.grad is None]
        assert not without, f"no gradient reaches {without}"
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        zero = {key for key, parameter in model.named_parameters() if not parameter.grad.any()}
        dead = zero if dead is None else dead & zero
        if not dead:
            return
    assert not dead, f"the gradient is always zero in {sorted(dead)}"


@pytest.mark.parametrize("name", SMALLEST)
def test_a_new_head(name):
    """reset_classifier: same kind of layer, initialised, on the model's device and
    dtype; what differs is said.
    """
    torch.manual_seed(0)
    fresh = zoo.create(name).double().eval()
    before = fresh.get_classifier()
    x = images(name, fresh, small(name)).double()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", Note)
        fresh.reset_classifier(5)
    after = fresh.get_classifier()
    assert fresh.num_classes == 5
    assert type(after) is type(before) or said, "another kind of layer, and not said"
    assert fresh(x).shape == (2, 5)
    assert fresh(x).dtype == torch.float64
    assert all(
        parameter.isfinite().all() and parameter.dtype == torch.float64
        for parameter in after.parameters()
    )
    fresh.reset_classifier(0)
    assert torch.equal(fresh(x), fresh.forward_head(fresh.forward_features(x), pre_logits=True))


@pytest.mark.parametrize("name", SMALLEST)
def test_checkpointing_changes_nothing(name):
    """Recomputing activations gives the same gradients and the same batch-norm
    statistics.
    """
    torch.manual_seed(0)
    model = zoo.create(name).train()
    dropless(model)
    x = images(name, model, small(name))
    start = {key: value.clone() for key, value in model.state_dict().items()}
    results = []
    for enable in (False, True):
        model.load_state_dict(start)
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        logits = model(x)
        (logits[0] if isinstance(logits, tuple) else logits).square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        results.append((gradients, [buffer.clone() for buffer in model.buffers()]))
    for plain, recomputed in zip(*results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, recomputed, strict=True))

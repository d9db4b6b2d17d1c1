"""One contract for every registered network, by interface: a new one adds no test code.

Shapes and counts are those of the whole networks, on the meta device. Real passes go
through small ones: the row's constructor arguments with those of `Variant.tiny`; rows
that come to the same network are run once.
"""

import copy
import warnings

import pytest
import torch
from oracle import disable_drop_path, small_rows, tiny
from timm.models import group_parameters
from torch import nn
from torch.utils._pytree import tree_leaves

import zoo
from zoo import registry
from zoo.errors import InputError, UsageError, ZooWarning
from zoo.interfaces.classifier import Classifier
from zoo.interfaces.features import Encoder
from zoo.interfaces.network import Network
from zoo.spec import ImageInput, Origin

SIZE = 64  # of the images of real passes, where the network takes it
DEEP = 500  # layers: beyond, what every row is asked is asked of a small network


def variant_of(name):
    return zoo.info(name).variant


def on_meta(name, **model_args):
    with torch.device("meta"):
        return zoo.create(name, **model_args)


def is_classifier(name):
    build = registry.family(name).build
    if isinstance(build, type):
        return issubclass(build, Classifier)
    return isinstance(on_meta(name), Classifier)


# Names of networks whose layers behind the last map take one of fixed size:
FIXED_MAPS = ("alexnet", "caffenet", "zfnet", "vgg", "lenet5", "ciresan", "highway_mnist")
NETWORKS = zoo.list_models()
CLASSIFIERS = [name for name in NETWORKS if is_classifier(name)]
SMALL = small_rows()
SMALL_CLASSIFIERS = [name for name in SMALL if is_classifier(name)]
ONE_PER_FAMILY = [  # with the fewest parameters, for what is the same in all rows of a class
    min(rows, key=lambda name: variant_of(name).claims.params)
    for family in dict.fromkeys(zoo.info(name).family for name in SMALL_CLASSIFIERS)
    for rows in [[name for name in SMALL_CLASSIFIERS if zoo.info(name).family == family]]
]


def images(name, model, size=None, device="cpu", batch=2):
    size = variant_of(name).image.size[1:] if size is None else (size, size)
    return torch.randn(batch, model.in_chans, *size).to(device)


def cheap(name):
    """The size of an image of a real pass."""
    image = variant_of(name).image
    return image.size[1] if image.fixed else max(min(SIZE, image.size[1]), image.min_size)


def inputs(name):
    """Of a real pass through the small network."""
    variant = variant_of(name)
    images = (isinstance(each, ImageInput) for each in variant.inputs)
    pairs = zip(variant.inputs, images, strict=True)
    specs = [each.resized(cheap(name)) if image else each for each, image in pairs]
    args = {**variant.model_args, **tiny(name)}
    return [each.example(2, model_args=args) for each in specs]


def names_of(module):
    return [key for key, _ in module.named_parameters()]


def tensors(outputs):
    """Of what forward returns, which may be a tuple of such."""
    return [each for each in tree_leaves(outputs) if isinstance(each, torch.Tensor)]


def assert_partition(model):
    """Each parameter lies in exactly one group."""
    groups = model.layer_groups()
    owned = [id(parameter) for part in groups.values() for parameter in part.parameters()]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())
    return groups


@pytest.fixture(scope="module", params=NETWORKS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def whole(name):
    """A whole network on the meta device, as create makes it."""
    return on_meta(name, **(tiny(name) if variant_of(name).depth > DEEP else {})).eval()


@pytest.fixture(scope="module", params=SMALL)
def small_name(request):
    return request.param


@pytest.fixture(scope="module")
def small(small_name):
    """A small network with drawn numbers."""
    torch.manual_seed(0)
    return zoo.create(small_name, **tiny(small_name)).eval()


# ------------------------------------------------------------------------ every network


def test_network(name, whole):
    """Where it comes from, and its layer groups, also timm's, from input to head."""
    assert isinstance(whole, Network)
    given = tiny(name) if variant_of(name).depth > DEEP else {}
    assert whole.origin == Origin(name, "", given)
    assert whole.no_weight_decay() <= set(names_of(whole))
    groups = assert_partition(whole)
    for coarse in (False, True):
        layers = group_parameters(whole, whole.group_matcher(coarse=coarse))
        assert [key for layer in sorted(layers) for key in layers[layer]] == names_of(whole)
        assert len(layers) >= len(groups) - 1


def test_the_meta_device_changes_nothing(small_name, small):
    """A network built there that is assigned the tensors gives the same outputs."""
    x = inputs(small_name)
    empty = on_meta(small_name, **tiny(small_name)).eval()
    assert empty.state_dict().keys() == small.state_dict().keys()
    empty.load_state_dict(small.state_dict(), assign=True)
    assert not any(buffer.is_meta for buffer in empty.buffers()), (
        "a buffer outside the state dict stays on meta"
    )
    with torch.no_grad():
        for ours, theirs in zip(tensors(empty(*x)), tensors(small(*x)), strict=True):
            assert torch.equal(ours, theirs)


def assert_initialisation_is_whole(name, **model_args):
    torch.manual_seed(0)
    model = zoo.create(name, **model_args)
    with torch.no_grad():
        garbage = on_meta(name, **model_args).to_empty(device="cpu")
        for tensor in garbage.state_dict().values():
            tensor.fill_(77)
    torch.manual_seed(0)
    garbage.init_weights()
    drawn = garbage.state_dict()
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, drawn[key]), key


@pytest.mark.parametrize("name", SMALL)
def test_initialisation_is_whole(name):
    """Nothing that the constructor makes escapes init_weights: garbage everywhere, then
    the same numbers from the same seed.
    """
    assert_initialisation_is_whole(name, **tiny(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_initialisation_of_whole_networks(name):
    assert_initialisation_is_whole(name)


# --------------------------------------------------------------- every image classifier


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_interface(name):
    """Shapes of every method, and `feature_info`, of the whole network."""
    model = on_meta(name).eval()
    x = images(name, model, device="meta")
    assert model.num_classes > 1
    assert model(x).shape == (2, model.num_classes)
    final, maps = model.forward_intermediates(x)
    assert final.shape == maps[-1].shape
    assert final.shape[1] == model.num_features
    assert model.forward_head(final).shape == (2, model.num_classes)
    vector = model.forward_head(maps[-1].clone(), pre_logits=True)
    assert vector.shape == (2, model.head_hidden_size)
    assert len(model.feature_info) == len(model.features)
    for entry, feature in zip(model.feature_info, maps, strict=True):
        assert entry["num_chs"] == feature.shape[1]
        assert abs(x.shape[2] / entry["reduction"] - feature.shape[2]) <= 6, (
            "borders without padding cost a few pixels, not more"
        )
        assert isinstance(model.get_submodule(entry["module"]), nn.Module)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_description(name):
    """What timm's tools ask for."""
    model = on_meta(name, **tiny(name))
    variant = variant_of(name)
    cfg = model.pretrained_cfg
    assert model.get_classifier() is model.head
    assert model.default_cfg == cfg
    assert (cfg["architecture"], cfg["num_classes"]) == (name, model.num_classes)
    assert cfg["input_size"] == variant.image.size == model.image.size
    assert cfg["fixed_input_size"] == variant.image.fixed
    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    if cfg["first_conv"]:
        assert model.get_submodule(cfg["first_conv"]).weight.shape[1] == model.in_chans
    else:  # a network of linear layers
        assert not convolutions
    groups = list(model.layer_groups())
    assert groups[-1] == "head" or not list(model.head.parameters())


@pytest.mark.parametrize("name", SMALL_CLASSIFIERS)
def test_feature_maps(name):
    """Every way to ask for feature maps gives the same ones."""
    args = tiny(name)
    model = on_meta(name, **args).eval()
    x = images(name, model, device="meta")
    _, maps = model.forward_intermediates(x)
    count = len(maps)
    wanted = sorted({0, count - 1})
    net = on_meta(name, **args, features_only=True, out_indices=wanted).eval()
    assert net.origin == model.origin
    assert_partition(net)
    assert net.no_weight_decay() <= set(names_of(net))
    assert [feature.shape for feature in net(x)] == [maps[index].shape for index in wanted]
    assert net.feature_info.channels() == [maps[index].shape[1] for index in wanted]
    assert net.feature_info.reduction() == [
        model.feature_info[index]["reduction"] for index in wanted
    ]
    early = on_meta(name, **args, features_only=True, out_indices=(0,))
    first = model.feature_info[0]["module"] + "."
    assert names_of(early) == [f"model.{key}" for key in names_of(model) if key.startswith(first)]
    assert len(model.forward_intermediates(x, 1, intermediates_only=True)) == 1
    assert len(model.forward_intermediates(x, [-1], stop_early=True, intermediates_only=True)) == 1
    for wrong in ([count], [-count - 1], [], 0, count + 1):
        with pytest.raises(InputError, match=f"0 to {count - 1}"):
            model.forward_intermediates(x, wrong)
    assert model.pretrained_cfg["pool_size"] == tuple(maps[-1].shape[2:])
    assert model.prune_intermediate_layers([0]) == [0]
    assert model(x).shape == maps[0].shape
    assert_partition(model)
    model.reset_classifier(6, model.own_pool or "avg")
    assert model(x).shape == (2, 6)


@pytest.mark.parametrize("name", SMALL_CLASSIFIERS)
def test_other_heads_and_inputs(name):
    args = tiny(name)
    headless = on_meta(name, **args, num_classes=0).eval()
    x = images(name, headless, device="meta")
    assert headless(x).shape == (2, headless.head_hidden_size)
    if name.startswith(FIXED_MAPS):
        with pytest.raises(InputError, match="has no global pooling"):
            headless.reset_classifier(0, "")
    else:
        headless.reset_classifier(0, "")
        assert headless(x).ndim == 4
        assert headless(x).shape[:2] == (2, headless.head_hidden_size)
    channels = 1 if headless.in_chans == 3 else 3
    other = on_meta(name, **{**args, "in_chans": channels, "num_classes": 7}).eval()
    assert other.origin.model_args == {**args, "in_chans": channels, "num_classes": 7}
    assert other.pretrained_cfg["input_size"][0] == len(other.pretrained_cfg["mean"]) == channels
    assert other(images(name, other, device="meta")).shape == (2, 7)
    with pytest.raises(InputError, match=rf"{name} takes images of shape \(N, {channels}, H, W\)"):
        other(x)
    with pytest.raises(InputError, match="takes images of shape"):
        other(x[0])
    with pytest.raises(UsageError, match="num_clases"):
        zoo.create(name, num_clases=7)
    with pytest.raises(InputError, match="num_classes"):
        zoo.create(name, num_classes=-1)


@pytest.mark.parametrize("name", SMALL_CLASSIFIERS)
def test_sizes(name):
    """Two input sizes where the network allows it; each too small one gives an error
    that names the smallest allowed.
    """
    image = variant_of(name).image
    model = on_meta(name, **tiny(name)).eval()
    if image.fixed:
        size = image.size[1]
        for wrong in (1, size - 1, size + 1):
            with pytest.raises(InputError, match=f"{size}x{size} only, not {wrong}x{wrong}"):
                model(images(name, model, wrong, "meta"))
        return
    least = image.min_size
    for size in (least, image.size[1] + 32):
        assert model(images(name, model, size, "meta", batch=1)).shape == (1, model.num_classes)
    for size in {0, 1, least // 2, least - 1}:
        if size < least:
            message = f"{least}x{least} or larger, not {size}x{size}"
            with pytest.raises(InputError, match=message):
                model(images(name, model, size, "meta"))
    if least > 1:  # and the smallest allowed one is no excuse
        model.image = None  # without the check
        with pytest.raises((RuntimeError, ValueError)):
            model(images(name, model, least - 1, "meta"))


@pytest.mark.parametrize("name", SMALL_CLASSIFIERS)
def test_the_ways_through_agree(name):
    """forward = head of features; the maps are not overwritten by later stages; the
    smallest image gives numbers.
    """
    model = zoo.create(name, **tiny(name)).eval()
    (x,) = inputs(name)
    with torch.no_grad():
        assert model(images(name, model, variant_of(name).image.min_size)).isfinite().all()
        logits = model(x)
        assert torch.equal(model.forward_head(model.forward_features(x)), logits)
        final, maps = model.forward_intermediates(x)
        y = x.clone()
        for stage, feature in zip(model.features, maps, strict=True):
            y = stage(y.clone())
            assert torch.equal(y, feature), "a later stage wrote into this map"
        assert torch.equal(final, y)
        vector = model.forward_head(model.forward_features(x), pre_logits=True)
        assert vector.shape == (2, model.head_hidden_size)


@pytest.mark.parametrize("name", SMALL_CLASSIFIERS)
def test_every_parameter_learns(name):
    every_parameter_learns(name, **tiny(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_parameter_of_whole_networks_learns(name):
    every_parameter_learns(name)


def every_parameter_learns(name, **model_args):
    """In training mode, random dropping off: every gradient is there, finite, and not
    all zero in one of three seeds.
    """
    dead = None
    for seed in range(3):
        torch.manual_seed(seed)
        model = zoo.create(name, **model_args).train()
        disable_drop_path(model)
        (x,) = inputs(name)
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


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
def test_a_new_head(name):
    """reset_classifier: same kind of layer, initialised, on the model's device and
    dtype; what differs is said.
    """
    fresh = zoo.create(name, **tiny(name)).double().eval()
    before = fresh.get_classifier()
    x = images(name, fresh, cheap(name)).double()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ZooWarning)
        fresh.reset_classifier(5)
    after = fresh.get_classifier()
    assert fresh.num_classes == fresh.pretrained_cfg["num_classes"] == 5
    assert type(after) is type(before) or said, "another kind of layer, and not said"
    assert fresh(x).shape == (2, 5)
    assert fresh(x).dtype == torch.float64
    assert all(
        parameter.isfinite().all() and parameter.dtype == torch.float64
        for parameter in after.parameters()
    )
    fresh.reset_classifier(0)
    assert torch.equal(fresh(x), fresh.forward_head(fresh.forward_features(x), pre_logits=True))


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
def test_checkpointing_changes_nothing(name):
    """Recomputing activations gives the same gradients and the same batch-norm
    statistics.
    """
    model = zoo.create(name, **tiny(name)).train()
    disable_drop_path(model)
    (x,) = inputs(name)
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


# -------------------------------------------------------------- a classifier as encoder


def path_inside(sequence, path):
    """The path of a module in the middle of the last sequence of several modules."""
    if isinstance(sequence, nn.Sequential) and len(sequence) > 1:
        names = [name for name, _ in sequence.named_children()]
        return f"{path}.{names[len(names) // 2 - 1]}"
    return ""


def expected_output(model, path, x):
    """What the module at `path` gives inside the whole network."""
    seen = []
    hook = model.get_submodule(path).register_forward_hook(
        lambda module, args, output: seen.append(output.clone())
    )
    model(x)
    hook.remove()
    return seen[-1]


def parameters_up_to(model, path):
    """The names of the parameters of all modules up to the one at `path`."""
    modules = [name for name, _ in model.named_modules()]
    last = max(i for i, name in enumerate(modules) if f"{name}.".startswith(f"{path}."))
    kept = set(modules[: last + 1])
    return [key for key in names_of(model) if key.rpartition(".")[0] in kept]


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
@torch.no_grad()
def test_encoder(name):
    """A classifier up to one of its outputs: that of the whole network, and nothing
    behind it is built.
    """
    model = zoo.create(name, **tiny(name)).eval()
    (x,) = inputs(name)
    last = model.forward_features(x)
    names = names_of(model)
    expected = {
        "logits": (model(x), names),
        "pre_logits": (
            model.forward_head(last, pre_logits=True),
            [key for key in names if not key.startswith("head.")],
        ),
        "features": (
            model.forward_features(x),
            [key for key in names if key.startswith("features.")],
        ),
    }
    paths = [
        *(path_inside(stage, f"features.{key}") for key, stage in model.features.named_children()),
        path_inside(model.neck, "neck"),
    ]
    for path in filter(None, paths):
        expected[path] = expected_output(model, path, x), parameters_up_to(model, path)
    for output, (value, parameters) in expected.items():
        encoder = Encoder(copy.deepcopy(model), output).eval()
        assert torch.equal(encoder(x), value), output
        assert names_of(encoder) == [f"model.{key}" for key in parameters], output
        assert encoder.origin == model.origin
        assert_partition(encoder)
    encoder.to("meta").init_weights()  # the classifier inside draws its own
    for wrong in ("neck", "head", "features.nothing", "neck.nothing", "stage9.conv"):
        with pytest.raises(InputError, match=name):
            Encoder(copy.deepcopy(model), wrong)

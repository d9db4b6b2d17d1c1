"""timm's interface: its signatures, and what its own networks of the same names, its
wrappers and its readers get.
"""

import inspect
import warnings
from contextlib import nullcontext

import pytest
import timm
import torch
from oracle import tiny
from timm.data import resolve_model_data_config
from timm.layers.test_time_pool import apply_test_time_pool
from timm.models._features import FeatureGetterNet
from timm.models._features import FeatureInfo as TheirFeatureInfo
from timm.models._pretrained import PretrainedCfg
from timm.models.resnet import ResNet
from torch import nn

import zoo
from zoo.errors import InputError, UsageError, ZooWarning
from zoo.interfaces.classifier import Classifier
from zoo.interfaces.features import FeatureInfo

SHARED = sorted(set(zoo.list_models()) & set(timm.list_models()))
OTHER_NAMES = {"inception_resnet_v2_tf": "inception_resnet_v2", "resnet50_v1_5": "resnet50"}
PAPERS = {"inception_resnet_v2"}  # timm's network of the name is the released one, here `_tf`
VALID = {"input_size", "interpolation", "mean", "std", "crop_pct", "crop_mode"}


def ours(name, **model_args):
    with torch.device("meta"):
        return zoo.create(name, **model_args).eval()


def theirs(name, **model_args):
    with torch.device("meta"):
        return timm.create_model(name, **model_args).eval()


def meta(*shape):
    return torch.empty(*shape, device="meta")


def shapes(maps):
    return [tuple(each.shape) for each in maps]


def arguments(method):
    return {
        name: each.default
        for name, each in inspect.signature(method).parameters.items()
        if name != "self"
    }


# ----------------------------------------------------------------------------- networks


def compared():
    """Every name; of a family with deep ones, these only where time does not matter."""
    wanted = sorted({*SHARED, *OTHER_NAMES} - PAPERS)
    names = sorted(wanted, key=lambda name: zoo.info(name).variant.depth)
    families = set()
    for name in names:
        known = zoo.info(name)
        slow = known.variant.depth > 50 and known.family in families
        families.add(known.family)
        yield pytest.param(name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("name", [*compared()])
def test_the_same_names_have_the_same_widths(name):
    model, peer = ours(name), theirs(OTHER_NAMES.get(name, name))
    assert model.num_features == peer.num_features
    assert model.head_hidden_size == peer.head_hidden_size
    assert model.pretrained_cfg["pool_size"] == peer.pretrained_cfg["pool_size"]
    own = [(entry["num_chs"], entry["reduction"]) for entry in model.feature_info]
    known = [(entry["num_chs"], entry["reduction"]) for entry in peer.feature_info]
    if name.startswith("vgg"):  # timm's maps lie before each pool, ours behind it
        assert [channels for channels, _ in own] == [channels for channels, _ in known[:-1]]
        assert [reduction for _, reduction in own] == [reduction for _, reduction in known[1:]]
    elif name == "inception_v4":  # of the stem's second part timm gives the map before its end
        assert (own.pop(1), known.pop(1)) == ((192, 4), (160, 4))
        assert own == known
    elif name == "inception_resnet_v2_tf":
        assert own[::4] == known[::4]
    else:
        assert own == known


def test_the_signatures_are_theirs():
    for name in (
        "forward_intermediates",
        "reset_classifier",
        "prune_intermediate_layers",
        "forward_head",
        "set_grad_checkpointing",
        "group_matcher",
    ):
        assert arguments(getattr(Classifier, name)) == arguments(getattr(ResNet, name)), name
    for name in ("get", "get_dicts", "channels", "reduction", "module_name", "from_other"):
        own = arguments(getattr(FeatureInfo, name))
        assert own == arguments(getattr(TheirFeatureInfo, name)), name


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"indices": 2},
        {"indices": [-1, 0]},
        {"indices": (1, 3), "stop_early": True},
        {"indices": 1, "norm": True, "output_fmt": "NCHW", "intermediates_only": True},
        {"indices": [2], "stop_early": True, "intermediates_only": True},
    ],
    ids=str,
)
def test_intermediates(arguments):
    x = meta(2, 3, 64, 64)
    found = ours("resnet18").forward_intermediates(x, **arguments)
    expected = theirs("resnet18").forward_intermediates(x, **arguments)
    if arguments.get("intermediates_only"):
        assert shapes(found) == shapes(expected)
    else:
        assert found[0].shape == expected[0].shape
        assert shapes(found[1]) == shapes(expected[1])


@torch.no_grad()
def test_norm_is_that_of_the_last_stage():
    """A pre-activation network has one between its last stage and the pool; others
    none.
    """
    x = torch.randn(2, 3, 32, 32)
    model = zoo.create("preresnet18").eval()
    plain = model.forward_intermediates(x, [0, 4], intermediates_only=True)
    normed = model.forward_intermediates(x, [0, 4], True, intermediates_only=True)
    assert torch.equal(normed[0], plain[0])
    assert torch.equal(normed[1], model.neck.relu(model.neck.bn(plain[1])))
    assert not torch.equal(normed[1], plain[1])
    assert torch.equal(
        model.neck.bn(plain[1]).relu().mean((2, 3)), model.forward_head(plain[1], True)
    )
    other = zoo.create("resnet20_cifar10").eval()
    assert torch.equal(
        other.forward_intermediates(x, 1, True, intermediates_only=True)[0],
        other.forward_intermediates(x, 1, intermediates_only=True)[0],
    )


@pytest.mark.parametrize("indices", [0, 6, -1, [5], [-6], []])
def test_stages_that_there_are_not(indices):
    with pytest.raises(InputError, match=r"stage indices .*: this network has stages 0 to 4$"):
        ours("resnet18").forward_intermediates(meta(1, 3, 64, 64), indices)
    with pytest.raises(InputError, match="has stages 0 to 4"):
        zoo.create("resnet18", device="meta", features_only=True, out_indices=indices)


def test_another_output_format_is_refused():
    with pytest.raises(InputError, match="resnet18: output_fmt='NLC': expected 'NCHW'"):
        ours("resnet18").forward_intermediates(meta(1, 3, 64, 64), output_fmt="NLC")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet18", {}),
        ("resnet18", {"indices": [0, 2]}),
        ("resnet18", {"prune_head": False}),
        ("vgg11", {"indices": (1, -2)}),
        ("inception_v3", {"indices": [0, 2]}),
    ],
    ids=str,
)
def test_pruning(name, arguments):
    x = meta(2, 3, 96, 96)
    model, peer = ours(name), theirs(name)
    kept = model.prune_intermediate_layers(**arguments)
    if name == "vgg11":  # theirs has one map more
        assert kept == [1, 3]
        peer.prune_intermediate_layers([2, 4])
    else:
        assert kept == peer.prune_intermediate_layers(**arguments)
        assert model(x).shape == peer(x).shape
    for attribute in ("num_classes", "num_features", "head_hidden_size"):
        assert getattr(model, attribute) == getattr(peer, attribute), attribute
    model.reset_classifier(7, "avg")
    assert model(x).shape == (2, 7)


def test_pruning_any_network():
    """Also one with hidden layers, with a head of convolutions, with a norm before its
    pool, with auxiliary heads, with codes.
    """
    for name, size, width in (
        ("vgg11", 64, 512),
        ("squeezenet1_1", 64, 512),
        ("overfeat_fast", 231, 1024),
        ("preresnet18", 64, 512),
        ("ciresan_mlp1", 29, 500),
        ("lenet5", 32, 120),
    ):
        model = ours(name)
        x = meta(2, model.in_chans, size, size)
        last = model.forward_features(x)
        assert model.prune_intermediate_layers() == [len(model.features) - 1]
        assert model(x).shape == last.shape
        assert not any(key.startswith("head") for key in model.state_dict())
        assert model.head_hidden_size == width
        with pytest.warns(ZooWarning) if name == "squeezenet1_1" else nullcontext():
            model.reset_classifier(10, model.own_pool or "avg")
        assert model(x).shape == (2, 10)
    norm = ours("preresnet18")
    assert {"neck.bn.weight"} <= norm.state_dict().keys()
    norm.prune_intermediate_layers()
    assert {"neck.bn.weight"} <= norm.state_dict().keys()
    norm.prune_intermediate_layers(prune_norm=True)
    assert "neck.bn.weight" not in norm.state_dict()
    kept = ours("preresnet18")
    kept.prune_intermediate_layers(prune_norm=True, prune_head=False)
    assert [key for key in kept.state_dict() if "features" not in key] == [
        "head.weight",
        "head.bias",
    ]
    model = ours("googlenet", aux=True)
    model.prune_intermediate_layers([1])
    assert model.aux is None
    assert model.train()(meta(2, 3, 64, 64)).shape == (2, 192, 16, 16)


def test_their_wrapper_takes_our_networks():
    x = torch.randn(1, 3, 64, 64)
    model = zoo.create("resnet18").eval()
    state = model.state_dict()
    net = zoo.create("resnet18", features_only=True, out_indices=(1, -2)).eval()
    zoo.load_state_dict(net, state)
    wrapped = FeatureGetterNet(model, out_indices=(1, -2))
    with torch.no_grad():
        for found, expected in zip(wrapped(x), net(x), strict=True):
            assert torch.equal(found, expected)
    assert wrapped.feature_info.channels() == net.feature_info.channels() == [64, 256]


# ------------------------------------------------------------------------ global_pool=…


def test_no_pooling():
    x = meta(2, 3, 64, 64)
    model, peer = (
        ours("resnet18", num_classes=0, global_pool=""),
        theirs("resnet18", num_classes=0, global_pool=""),
    )
    assert model(x).shape == peer(x).shape == (2, 512, 2, 2)
    assert model.forward_head(model.forward_features(x), pre_logits=True).shape == (2, 512, 2, 2)
    for network in (model, peer):
        network.reset_classifier(5, "avg")
        assert network(x).shape == (2, 5)
        network.reset_classifier(0, "")
        assert network(x).shape == (2, 512, 2, 2)
        network.reset_classifier(0, "avg")
        assert network(x).shape == (2, 512)
    assert model.state_dict().keys() == ours("resnet18", num_classes=0).state_dict().keys()
    assert zoo.profile("resnet18", num_classes=0, global_pool="").macs == zoo.profile(model).macs


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("squeezenet1_1", 64, 512), ("nin_cifar10", 32, 192), ("preresnet18", 32, 512),
     ("highway19_cifar10", 32, 100)],
)  # fmt: skip
def test_the_map_that_is_pooled(name, size, channels):
    """What else the neck does, it does to the map."""
    torch.manual_seed(0)
    model = zoo.create(name, num_classes=0).eval()
    x = torch.randn(1, 3, size, size)
    vector = model(x)
    model.reset_classifier(0, "")
    last = model(x)
    assert last.shape[:2] == (1, channels)
    assert torch.allclose(last.mean((2, 3)), vector, atol=1e-6)


def test_the_maximum_of_overfeat():
    model = ours("overfeat_fast", num_classes=0, global_pool="")
    x = meta(1, 3, 231 + model.step, 231)
    assert model(x).shape == (1, 4096, 2, 1)
    model.reset_classifier(3, "max")
    assert model(x).shape == (1, 3)


def test_kinds_of_pooling_that_are_refused():
    for call, error, message in (
        (lambda: ours("resnet18", global_pool="max"), InputError, "resnet18: global_pool='max': "
         "expected 'avg' or ''"),
        (lambda: ours("overfeat_fast", global_pool="avg"), InputError, "expected 'max' or ''"),
        (lambda: ours("vgg11", global_pool="avg"), InputError, "vgg11 has no global pooling: leave "
         "out global_pool"),
        (lambda: ours("resnet18", global_pool=""), InputError, "it needs num_classes=0 "
         r"\(or 1000 classes need global_pool='avg'\)"),
        (lambda: ours("resnet18", features_only=True, global_pool="avg"), UsageError,
         "feature maps are not pooled"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()
    assert isinstance(ours("resnet18", global_pool="avg").head, nn.Linear)
    assert ours("resnet18", features_only=True, num_classes=0, global_pool="")
    model = ours("squeezenet1_0")
    for wrong in ("max", ""):
        with pytest.raises(InputError, match="global_pool"):
            model.reset_classifier(5, wrong)
        assert (model.num_classes, model.head_relu) == (1000, True), "refused, and yet changed"
    unpooled = ours("resnet18", num_classes=0, global_pool="")
    with pytest.raises(InputError, match="5 classes need global_pool='avg'"):
        unpooled.reset_classifier(5)
    assert unpooled.num_classes == 0


def test_no_head_from_a_weights_file(tmp_path):
    """Without a word: a head that is not wanted is not missed."""
    model = zoo.create("resnet20_cifar10").eval()
    torch.save(model.state_dict(), tmp_path / "file.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        body = zoo.create(
            "resnet20_cifar10",
            checkpoint_path=tmp_path / "file.pth",
            num_classes=0,
            global_pool="",
        ).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(body(x), model.forward_features(x))


# ------------------------------------------------------------------------- feature_info


def test_feature_info():
    """The accessors give what theirs give; with a number one value, of any stage."""
    net = zoo.create("resnet18", device="meta", features_only=True, out_indices=(1, 3))
    info, peer = net.feature_info, theirs("resnet18", features_only=True, out_indices=(1, 3))
    peer = peer.feature_info
    for idx in (None, 0, -1, [0, 4], (2,)):
        assert info.channels(idx) == peer.channels(idx)
        assert info.reduction(idx) == peer.reduction(idx)
        assert info.get("index", idx) == peer.get("index", idx)
        keys = ["num_chs", "reduction", "index"]
        assert info.get_dicts(keys, idx) == peer.get_dicts(keys, idx)
    assert info.out_indices == peer.out_indices == (1, 3)
    assert len(info) == len(peer) == len(info.info) == 5
    assert info[2]["num_chs"] == peer[2]["num_chs"] == 128
    assert info.module_name(1) == info.get_dicts()[0]["module"] == "features.conv2_x"
    assert info.from_other(2).channels() == peer.from_other((3, 4)).channels() == [256, 512]
    with pytest.raises(
        InputError, match="feature_info: key='chs': expected 'num_chs', 'reduction'"
    ):
        info.get("chs")
    with pytest.raises(InputError, match="stages 0 to 4"):
        info.channels(5)


def test_what_a_backbone_of_transformers_asks():
    """TimmBackbone reads the names and numbers of the stages so."""
    net = zoo.create("resnet18", device="meta", features_only=True, in_chans=1, out_indices=(-1,))
    info = net.feature_info
    assert {layer["module"]: str(layer["index"]) for layer in info.get_dicts()} == {
        "features.conv5_x": "4"
    }
    assert [stage["num_chs"] for stage in info.info] == [64, 64, 128, 256, 512]
    assert list(info.out_indices) == [4]


# ----------------------------------------------------------------------- pretrained_cfg


@pytest.mark.parametrize("name", ["resnet18", "lenet5", "ciresan_mlp1", "squeezenet1_0"])
def test_their_readers_take_the_description(name):
    model = ours(name, **tiny(name))
    cfg = model.pretrained_cfg
    assert cfg["url"] is None
    known = PretrainedCfg(**cfg)  # no key that theirs does not have
    assert not known.has_weights
    assert cfg["pool_size"] == tuple(model.forward_features(meta(1, *cfg["input_size"])).shape[2:])
    config = resolve_model_data_config(model)
    assert {key: config[key] for key in VALID} == {key: cfg[key] for key in VALID}
    part = ours(name, **tiny(name), features_only=True)
    assert part.default_cfg == part.pretrained_cfg
    assert not {"num_classes", "classifier"} & part.pretrained_cfg.keys()
    if cfg["first_conv"]:
        first = part.get_submodule(part.pretrained_cfg["first_conv"])
        assert first.weight.shape[1] == part.in_chans


def test_the_description_runs_nothing():
    """The size of the last map is found without the hooks, numbers and mode of the
    network itself.
    """
    model = zoo.create("resnet20_cifar10").train()
    model.features[0].register_forward_hook(lambda *_: pytest.fail("a hook ran"))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert model.pretrained_cfg["pool_size"] == (8, 8)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    model.prune_intermediate_layers([1])
    assert model.pretrained_cfg["pool_size"] == (32, 32)


def test_pooling_at_test_time():
    """timm's head for larger images takes ours apart by `pool_size`, `num_features` and
    `get_classifier`: at the default size it changes nothing.
    """
    torch.manual_seed(0)
    model = zoo.create("resnet20_cifar10").eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(x)
        wrapped, applied = apply_test_time_pool(model, {"input_size": (3, 64, 64)})
        assert applied
        assert torch.allclose(wrapped.eval()(x), logits, atol=1e-6)

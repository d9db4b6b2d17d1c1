"""A network made with `features_only=True` is a network of ours: what every verb makes
of it.
"""

import copy
import re

import pytest
import torch
from oracle import tiny
from timm.models import group_parameters
from torch import nn

import zoo
from zoo.errors import UsageError, WeightsError
from zoo.files import write_state
from zoo.spec import Preprocessing

NAMES = ["lenet5_modern", "resnet20_cifar10", "squeezenet1_1", "vgg11_bn", "preresnet18"]


def make(name, **arguments):
    torch.manual_seed(0)
    return zoo.create(name, **tiny(name), **arguments)


def inside(net, whole):
    """The part's keys in the whole network."""
    return {key: f"model.{key}" for key in whole.state_dict() if f"model.{key}" in net.state_dict()}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_of_it(name):
    whole, net = make(name, device="meta"), make(name, device="meta", features_only=True)
    assert net.origin == whole.origin
    assert net.in_chans == whole.in_chans
    assert net.architecture == name
    assert zoo.info(net) == zoo.info(whole)
    assert repr(zoo.transforms(net)) == repr(zoo.transforms(whole))
    same = ("input_size", "mean", "std", "crop_pct", "architecture", "fixed_input_size")
    assert [net.pretrained_cfg[key] for key in same] == [whole.pretrained_cfg[key] for key in same]
    assert f"architecture='{name}', out_indices=(0, 1" in repr(net)
    assert list(net.layer_groups()) == [
        group
        for group in whole.layer_groups()
        if f"features.{group}" in dict(whole.named_modules())
    ]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_counted(name):
    """At its own input, without its head, and as memory of a training step."""
    whole, net = make(name), make(name, features_only=True)
    stages = [entry["module"] for entry in net.feature_info.info]
    expected = {row.path: row.macs for row in zoo.profile(whole).rows if row.path in stages}
    found = zoo.profile(net)
    assert found.macs == sum(expected.values())
    counted = {row.path: row.macs for row in found.rows if row.calls}
    assert all(counted[f"model.{path}"] == macs for path, macs in expected.items())
    assert not [path for path in counted if path.startswith(("model.neck", "model.head"))]
    assert zoo.profile(nn.DataParallel(net)).macs == found.macs
    step = zoo.memory(net, 2, device="cpu")
    assert step.parameters == 4 * found.params < zoo.memory(whole, 2, device="cpu").parameters
    assert step.peak > step.parameters
    assert zoo.memory(net, 2, mode="eval", device="cpu").peak
    assert zoo.compare([net]).rows[0].macs == found.macs


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_numbers_in_and_out(name):
    """Its keys are those of the whole network, from which it takes what it has."""
    whole = make(name)
    net = make(name, features_only=True, out_indices=(0, -1))
    state = zoo.export_state_dict(net)
    assert state.keys() < whole.state_dict().keys()
    for tensor in whole.state_dict().values():
        tensor.copy_(torch.rand_like(tensor, dtype=torch.float)) if tensor.ndim else None
    for given in (whole.state_dict(), zoo.export_state_dict(whole)):
        zoo.load_state_dict(net, given)
    for key, own in inside(net, whole).items():
        assert torch.equal(net.state_dict()[own], whole.state_dict()[key])
    other = make(name, features_only=True, out_indices=(0, -1))
    for given in (net.state_dict(), zoo.export_state_dict(net)):
        zoo.load_state_dict(other, given)
        for key, tensor in net.state_dict().items():
            assert torch.equal(other.state_dict()[key], tensor)
    first = next(iter(state))
    with pytest.raises(WeightsError, match=r"1 unknown \(more\.weight\)"):
        zoo.load_state_dict(net, {**state, "more.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match=rf"1 missing \({re.escape(first)}\)"):
        zoo.load_state_dict(net, {key: state[key] for key in state if key != first})


@pytest.mark.parametrize(
    ("name", "layout"), [("vgg11_bn", "torchvision"), ("squeezenet1_1", "torchvision")]
)
def test_key_names_of_peers(name, layout, tmp_path):
    theirs = zoo.export_state_dict(make(name), layout)
    net = make(name, features_only=True, out_indices=(1, 2))
    zoo.load_state_dict(net, theirs, layout)
    part = zoo.export_state_dict(net, layout)
    assert part.keys() < theirs.keys()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in part.items())
    torch.save(theirs, tmp_path / "theirs.pth")
    loaded = make(
        name,
        checkpoint_path=tmp_path / "theirs.pth",
        layout=layout,
        features_only=True,
        out_indices=(1, 2),
    )
    assert all(torch.equal(loaded.state_dict()[key], net.state_dict()[key]) for key in
               net.state_dict())  # fmt: skip


def test_the_preprocessing_of_its_weights(tmp_path):
    """What a weights file says, not what the row says."""
    model = zoo.create("lenet5_modern")
    own = Preprocessing((1, 28, 28), (0.3,), (0.2,), 1.0, "squash")
    about = {"architecture": "lenet5_modern", "preprocessing": own.to_dict()}
    write_state(tmp_path / "mine.safetensors", model.state_dict(), about)
    net = zoo.create(tmp_path / "mine.safetensors", features_only=True)
    assert net.preprocessing == own
    assert repr(zoo.transforms(net)) == repr(zoo.transforms(tmp_path / "mine.safetensors"))
    assert net.pretrained_cfg["mean"] == (0.3,)


@pytest.mark.parametrize("name", ["resnet20_cifar10", "squeezenet1_1"])
def test_recomputed_activations_give_the_same_gradients(name):
    net = make(name, features_only=True, out_indices=(1, 2)).train()
    twin = copy.deepcopy(net)
    twin.set_grad_checkpointing()
    x = torch.randn(2, 3, 32, 32)
    for each in (net, twin):
        sum(feature.square().mean() for feature in each(x)).backward()
    for plain, recomputed in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(plain.grad, recomputed.grad)
    recomputed, plain = (zoo.memory(each, 8, device="cpu") for each in (twin, net))
    assert recomputed.activations < plain.activations


@pytest.mark.parametrize("name", NAMES)
def test_layer_groups_of_timm(name):
    net = make(name, device="meta", features_only=True)
    for coarse in (False, True):
        layers = group_parameters(net, net.group_matcher(coarse=coarse))
        found = [key for layer in sorted(layers) for key in layers[layer]]
        assert found == [key for key, _ in net.named_parameters()]


def test_what_needs_the_whole_network(tmp_path):
    """Its paper's claims, classes and new heads; the network itself is left alone."""
    net = zoo.create("lenet5_modern", features_only=True)
    before = repr(net)
    for verb, call in {
        "verify": lambda: zoo.verify(net),
        "predict": lambda: zoo.predict(net, "x.png", classes=["a", "b"]),
        "finetune": lambda: zoo.finetune(net, "digits", out=tmp_path / "run"),
    }.items():
        message = rf"{verb} takes a whole network, not feature maps of lenet5_modern \(features_on"
        with pytest.raises(UsageError, match=message):
            call()
    assert repr(net) == before
    assert not (tmp_path / "run").exists()

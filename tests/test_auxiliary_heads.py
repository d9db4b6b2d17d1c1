"""Auxiliary heads: there with aux=True alone, in use in training alone, and part of
every rule for a network's parts.
"""

import warnings

import pytest
import torch
import torch.nn.functional as F
from oracle import disable_drop_path
from timm.models import group_parameters

import zoo
from zoo import registry
from zoo.errors import InputError, WeightsError, ZooWarning

COUNTS = {
    "googlenet": (13_378_280, 2),
    "googlenet_bn": (13_004_888, 2),
    "inception_v3": (27_161_264, 1),
}
SMALL = {  # inputs on which the heads work, cheaply where they can
    "googlenet": 96,
    "googlenet_bn": 64,
    "inception_v3": 299,
}
WEIGHTS = {"googlenet": 0.3, "googlenet_bn": 0.3, "inception_v3": 0.4}

# The heads are of one class; on inception_v3's larger images they cost the most.
MOSTLY_FAST = ["googlenet", "googlenet_bn", pytest.param("inception_v3", marks=pytest.mark.slow)]


def on_meta(name, **model_args):
    with torch.device("meta"):
        return zoo.create(name, aux=True, **model_args)


@pytest.mark.parametrize("name", COUNTS)
def test_heads_are_for_training(name):
    params, heads = COUNTS[name]
    model = on_meta(name, num_classes=7)
    x = torch.empty(2, *zoo.info(name).variant.image.size, device="meta")
    assert sum(parameter.numel() for parameter in on_meta(name).parameters()) == params
    assert [output.shape for output in model.train()(x)] == [(2, 7)] * (1 + heads)
    assert model.eval()(x).shape == (2, 7)
    assert all(
        isinstance(output, torch.Tensor)
        for output in (
            model.train().forward_features(x),
            zoo.create(name).train()(torch.randn(2, 3, 96, 96)),
        )
    )


@pytest.mark.parametrize("name", COUNTS)
def test_heads_are_parts(name):
    """Stages and layer groups hold them, between features and head; feature maps come
    without them.
    """
    model = on_meta(name)
    parts = model.layer_groups()
    assert list(parts)[-1 - COUNTS[name][1] :] == [
        *(f"aux{i}" for i in range(1, 1 + COUNTS[name][1])),
        "head",
    ]
    owned = [id(parameter) for part in parts.values() for parameter in part.parameters()]
    assert sorted(owned) == sorted(id(parameter) for parameter in model.parameters())
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse=coarse))
        assert [key for layer in sorted(groups) for key in groups[layer]] == [
            key for key, _ in model.named_parameters()
        ]
    net = on_meta(name, features_only=True)
    assert not [key for key in net.state_dict() if ".aux." in key]
    assert len(net.train()(torch.empty(2, 3, 96, 96, device="meta"))) == 5


@pytest.mark.parametrize("name", MOSTLY_FAST)
def test_a_new_head_renews_them_too(name):
    model = zoo.create(name, aux=True).double().train()
    x = torch.randn(2, 3, SMALL[name], SMALL[name], dtype=torch.float64)
    model.reset_classifier(5)
    outputs = model(x)
    assert [output.shape for output in outputs] == [(2, 5)] * (1 + COUNTS[name][1])
    assert all(output.isfinite().all() and output.dtype == torch.float64 for output in outputs)
    model.reset_classifier(0)
    assert [output.shape[1] for output in model(x)] == [model.head_hidden_size] + [
        part.head_hidden_size for part in model.aux.values()
    ]
    model.reset_classifier(3)
    assert [output.shape for output in model(x)] == [(2, 3)] * (1 + COUNTS[name][1])


@pytest.mark.parametrize("name", COUNTS)
def test_the_loss_weighs_them(name):
    """And evaluation has logits alone."""
    loss_of = registry.family(name).loss
    x, labels = torch.empty(2, 3, 1, 1), torch.tensor([1, 3])
    logits, *auxiliary = outputs = tuple(torch.randn(1 + COUNTS[name][1], 2, 4))
    expected = F.cross_entropy(logits, labels) + WEIGHTS[name] * sum(
        F.cross_entropy(output, labels) for output in auxiliary
    )
    model = on_meta(name)
    torch.testing.assert_close(loss_of(outputs, (x, labels), model), expected)
    alone = loss_of(logits, (x, labels), model.eval())
    torch.testing.assert_close(alone, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("name", MOSTLY_FAST)
def test_the_loss_reaches_every_parameter(name):
    model = zoo.create(name, aux=True, num_classes=4).train()
    x, labels = torch.randn(2, 3, SMALL[name], SMALL[name]), torch.tensor([1, 3])
    registry.family(name).loss(model(x), (x, labels), model).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter in model.parameters()
    )


def test_a_block_that_is_not_there_is_named():
    model = on_meta("googlenet_bn")
    heads = torch.nn.ModuleDict({"inception9": model.aux["inception4a"]})
    with pytest.raises(TypeError, match="GoogLeNet has no block 'inception9'"):
        model.set_aux(heads)
    model.features.stage1 = model.features.stage1.conv1.conv
    with pytest.raises(TypeError, match="with auxiliary heads stage1 must be a Sequential"):
        model.set_aux(heads)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_too_small_an_image_is_named(name):
    model = on_meta(name).train()
    smallest = next(iter(model.aux.values())).smallest
    x = torch.empty(2, 3, {"googlenet": 64, "inception_v3": 282}[name], 300, device="meta")
    with pytest.raises(InputError, match=f"{smallest}x{smallest} or larger.*aux=False"):
        model(x)
    assert model.eval()(x).shape == (2, 1000)


@pytest.mark.parametrize("name", ["googlenet_bn"])
def test_checkpointing_changes_nothing(name):
    torch.manual_seed(0)
    model = zoo.create(name, aux=True).train()
    disable_drop_path(model)
    x = torch.randn(2, 3, SMALL[name], SMALL[name])
    start = {key: value.clone() for key, value in model.state_dict().items()}
    results = []
    for enable in (False, True):
        model.load_state_dict(start)
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        sum(output.square().sum() for output in model(x)).backward()
        results.append(
            [parameter.grad.clone() for parameter in model.parameters()]
            + [buffer.clone() for buffer in model.buffers()]
        )
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", COUNTS)
def test_initialisation_is_whole(name):
    torch.manual_seed(0)
    model = zoo.create(name, aux=True)
    with torch.no_grad():
        garbage = on_meta(name).to_empty(device="cpu")
        for tensor in garbage.state_dict().values():
            tensor.fill_(77)
    torch.manual_seed(0)
    garbage.init_weights()
    assert all(
        torch.equal(tensor, garbage.state_dict()[key]) for key, tensor in model.state_dict().items()
    )


@pytest.mark.parametrize(
    ("name", "arch"), [("googlenet_bn", "googlenet"), ("inception_v3", "inception_v3")]
)
def test_a_file_of_torchvision_without_its_heads(tmp_path, name, arch):
    """Its files have auxiliary heads, which are left out and said; other tensors that
    do not belong are still refused.
    """
    import torchvision

    theirs = torchvision.models.get_model(arch, num_classes=5, init_weights=False).eval()
    state, file = theirs.state_dict(), tmp_path / "file.pth"
    torch.save(state, file)
    with pytest.warns(ZooWarning, match=r"auxiliary heads in file\.pth are left out; aux=True"):
        ours = zoo.create(name, checkpoint_path=file, layout="torchvision").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # with aux=True there is nothing to say
        args = {"aux": True, **({"count_include_pad": True} if arch == "inception_v3" else {})}
        both = zoo.create(name, checkpoint_path=file, layout="torchvision", **args).eval()
    assert ours.aux is None
    x = torch.randn(1, 3, 107, 107)
    assert torch.equal(ours(x), both(x))
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.save({**state, "auxiliary.weight": torch.zeros(1)}, file)
    with pytest.raises(WeightsError, match=r"1 unknown \(auxiliary\.weight\)"):
        zoo.create(name, checkpoint_path=file, layout="torchvision")


def test_weights_with_and_without_heads(tmp_path):
    """A file with heads fills a network that has them, and another number of classes
    renews them.
    """
    model = zoo.create("googlenet_bn", aux=True, num_classes=6)
    torch.save(zoo.export_state_dict(model, "torchvision"), tmp_path / "file.pth")
    again = zoo.create(
        "googlenet_bn", checkpoint_path=tmp_path / "file.pth", layout="torchvision", aux=True
    )
    assert all(
        torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items()
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        other = zoo.create(
            "googlenet_bn",
            checkpoint_path=tmp_path / "file.pth",
            layout="torchvision",
            aux=True,
            num_classes=3,
        )
    assert said
    assert [output.shape for output in other.train()(torch.randn(2, 3, 64, 64))] == [(2, 3)] * 3

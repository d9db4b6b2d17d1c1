"""Layer groups of any module, what freezing them means, and learning rates by them."""

from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import nn

import zoo
from zoo.errors import UsageError
from zoo.transfer.groups import output_module


def small():
    """Two stages with batch norm and dropout, and a head, for images of 8 pixels."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.Dropout(0.5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(24, 5),
    )


def parameters(groups):
    return [id(each) for group in groups.values() for each in group.parameters()]


def on_meta(make, name, **options):
    with torch.device("meta"):
        return make(name, **options)


# ------------------------------------------------------------------------- layer groups

TRANSITIONS = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("denseblock", "transition")]
STAGES = [f"stage{i}" for i in range(1, 6)]


@pytest.mark.parametrize(
    ("make", "name", "expected"),
    [
        (torchvision.models.get_model, "alexnet", [*STAGES[:3], "classifier.1", "classifier.4"]),
        (torchvision.models.get_model, "vgg11_bn", [*STAGES, "classifier.0", "classifier.3"]),
        (torchvision.models.get_model, "resnet18", ["conv1", *(f"layer{i}" for i in range(1, 5))]),
        (torchvision.models.get_model, "squeezenet1_1", STAGES[:4]),
        (torchvision.models.get_model, "densenet121", ["conv0", *TRANSITIONS, "denseblock4"]),
        (torchvision.models.get_model, "mobilenet_v2", [f"features.{i}" for i in range(19)]),
        (timm.create_model, "vgg11_bn", [*STAGES, "pre_logits"]),
        (timm.create_model, "resnet18", ["conv1", *(f"layer{i}" for i in range(1, 5))]),
        (timm.create_model, "convnext_atto", ["stem", *(f"stages.{i}" for i in range(4))]),
        (
            timm.create_model,
            "efficientnet_lite0",
            ["conv_stem", *(f"blocks.{i}" for i in range(7)), "conv_head"],
        ),
        (
            timm.create_model,
            "vit_tiny_patch16_224",
            ["patch_embed", *(f"blocks.{i}" for i in range(12))],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__module__", ""),
)
def test_groups_of_timm_and_torchvision(make, name, expected):
    model = on_meta(make, name)
    groups = zoo.layer_groups(model)
    assert list(groups) == [*expected, "head"]
    assert sorted(parameters(groups)) == sorted(map(id, model.parameters()))
    assert list(groups["head"].parameters())[-1].shape == (1000,)


def test_the_output_of_several_modules_is_that_of_the_last():
    model = on_meta(torchvision.models.get_model, "resnet18")
    stem = zoo.layer_groups(model)["conv1"]
    assert list(stem) == [model.conv1, model.bn1, model.relu, model.maxpool]
    assert output_module(stem) is model.maxpool
    assert output_module(model.layer1) is model.layer1
    vgg = on_meta(torchvision.models.get_model, "vgg11")
    assert output_module(zoo.layer_groups(vgg)["stage2"]) is vgg.features[5]
    net = on_meta(torchvision.models.get_model, "densenet121")
    assert output_module(zoo.layer_groups(net)["denseblock4"]) is net.features.norm5


def test_networks_of_ours_have_their_own():
    model = on_meta(zoo.create, "preresnet18")
    assert list(model.layer_groups())[-3:] == ["conv5_x", "bn", "head"]
    assert list(zoo.layer_groups(model))[-2:] == ["conv5_x", "head"], "a norm alone is no group"
    assert output_module(zoo.layer_groups(model)["conv5_x"]) is model.layer_groups()["bn"]
    model = on_meta(zoo.create, "googlenet", aux=True)
    groups = zoo.layer_groups(model)
    assert list(groups) == [*STAGES, "head"]
    assert sorted(parameters(groups)) == sorted(map(id, model.parameters()))
    assert output_module(groups["head"]) is model.head
    part = on_meta(zoo.create, "resnet18", features_only=True)
    assert list(zoo.layer_groups(torch.compile(part))) == list(part.layer_groups())


def test_auxiliary_heads_of_torchvision_and_none_of_timm():
    options = {"weights": None, "init_weights": False}
    peer = on_meta(torchvision.models.get_model, "googlenet", **options)
    groups = zoo.layer_groups(peer)
    assert output_module(groups["head"]) is peer.fc
    assert set(map(id, peer.aux1.parameters())) < set(map(id, groups["head"].parameters()))
    body = on_meta(timm.create_model, "resnet18", num_classes=0)
    assert list(zoo.layer_groups(body))[-1] == "layer4"
    maps = on_meta(timm.create_model, "resnet18", features_only=True)
    assert list(zoo.layer_groups(maps))[-1] == "layer4"


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torchvision.models.resnet18()
        self.body.fc = nn.Identity()
        self.top = nn.Linear(512, 3)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        self.scale = nn.Parameter(torch.ones(1))

    def layer_groups(self):
        return {"body": self.layers[0], "head": self.layers[1]}


def test_groups_of_plain_modules():
    model = small()
    groups = zoo.layer_groups(model)
    assert list(groups) == ["stage1", "stage2", "head"]
    assert [len(groups["stage1"]), len(groups["stage2"])] == [4, 6]
    assert groups["head"] is model[-1]
    conv, pool = partial(nn.Conv2d, 4, 4, 3), nn.MaxPool2d(2)
    layers = [conv(), pool, conv(), pool, nn.Flatten(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)]
    assert list(zoo.layer_groups(nn.Sequential(*layers))) == ["stage1", "stage2", "5", "head"]
    mlp = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    assert list(zoo.layer_groups(mlp)) == ["0", "2", "head"]
    alone = nn.Linear(2, 2)
    assert zoo.layer_groups(alone) == {"head": alone}
    stages = ["conv1", "layer1", "layer2", "layer3", "layer4", "head"]
    assert list(zoo.layer_groups(Wrapped())) == stages


def test_what_cannot_be_told_is_refused():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(UsageError, match=r"^Sequential: 0\.weight is in 0 and head of its layer"):
        zoo.layer_groups(tied)
    with pytest.raises(UsageError, match=r"^Scaled: scale is in none of its layer groups"):
        zoo.layer_groups(Scaled())
    Scaled.layer_groups, own = None, Scaled.layer_groups
    with pytest.raises(UsageError, match=r"^Scaled: scale lies outside .* method layer_groups\(\)"):
        zoo.layer_groups(Scaled())
    Scaled.layer_groups = own
    with pytest.raises(UsageError, match="ReLU has no parameters"):
        zoo.layer_groups(nn.ReLU())
    with pytest.raises(UsageError, match=r"takes a module: zoo\.create\(…\) makes one of 'vgg16'"):
        zoo.layer_groups("vgg16")
    twins = on_meta(timm.create_model, "twins_pcpvt_small")  # embeddings of all stages first
    with pytest.raises(UsageError, match=r"^Twins: blocks\.0 is registered after layers that it"):
        zoo.layer_groups(twins)

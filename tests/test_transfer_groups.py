"""Layer groups of any module, what freezing them means, and learning rates by them."""

import copy
import gc
import io
import weakref
from functools import partial

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import TensorDataset

import zoo
from zoo.count.memory.measured_memory import measure
from zoo.count.workload import Workload
from zoo.errors import InputError, UsageError
from zoo.optimizers import make_optimizer
from zoo.training.strategy import KINDS, Strategy
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


# ----------------------------------------------------------------------------- freezing


def awake(model):
    return {name for name, module in model.named_modules() if module.training}


def buffers(model):
    return {name: each.clone() for name, each in model.named_buffers()}


def test_frozen_groups_keep_their_statistics_whatever_is_called():
    model = small()
    assert zoo.freeze(model, until="stage1") is model
    frozen = {"0", "1", "2", "3"}
    expected = {"", *map(str, range(11))} - frozen
    assert awake(model) == expected
    model.eval()
    for module in model.modules():
        module.train()
    assert awake(model) == expected
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
    ]
    before = buffers(model)
    model.train()(torch.randn(4, 3, 8, 8)).sum().backward()
    moved = {name for name, each in model.named_buffers() if not torch.equal(each, before[name])}
    assert moved == {"5.running_mean", "5.running_var", "5.num_batches_tracked"}
    assert model[0].weight.grad is None
    assert model[4].weight.grad is not None


def test_features_of_a_frozen_body_are_the_same_each_time():
    """Dropout between the body and the head is off, too."""
    x = torch.randn(4, 3, 8, 8)
    model = small().train()
    assert not torch.equal(model(x), model(x))
    zoo.freeze(model).train()
    assert torch.equal(model(x), model(x))
    assert awake(model) == {"", "10"}
    nin = zoo.create("nin_cifar10", num_classes=3)
    zoo.freeze(nin, last=2).train()
    x = torch.randn(2, 3, 32, 32)
    maps = [nin.forward_intermediates(x, indices=[1], intermediates_only=True) for _ in "ab"]
    assert torch.equal(*(each[0] for each in maps))
    assert nin.features.stage3.training


def test_copies_pickles_and_wrappers_stay_frozen():
    model = zoo.freeze(small())
    copied = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    again = zoo.freeze(small())
    again.load_state_dict(model.state_dict())
    assert model.state_dict().keys() == small().state_dict().keys()
    for other in (copied, loaded, again):
        other.eval()
        assert awake(other.train()) == {"", "10"}
    assert awake(zoo.unfreeze(copied)) == {"", *map(str, range(11))}
    assert awake(model) == {"", "10"}, "a copy is another module"
    compiled = torch.compile(model, backend="eager").train()
    before = buffers(model)
    compiled(torch.randn(4, 3, 8, 8)).sum().backward()
    assert all(torch.equal(each, before[name]) for name, each in model.named_buffers())


@pytest.fixture
def one_process(tmp_path):
    store = f"file://{tmp_path}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_under_distributed_data_parallel(one_process):
    model = zoo.freeze(small())
    wrapped = DistributedDataParallel(model).train()
    assert awake(model) == {"", "10"}
    wrapped(torch.randn(4, 3, 8, 8)).sum().backward()
    assert [name for name, each in model.named_parameters() if each.grad is not None] == [
        "10.weight",
        "10.bias",
    ]
    with pytest.raises(UsageError, match="before it is wrapped"):
        zoo.freeze(wrapped)


def test_a_frozen_module_is_freed_at_once():
    """Not with the next garbage collection, as a module that refers to itself."""
    model = zoo.freeze(small())
    gone = weakref.ref(model[0])
    del model
    assert gone() is None


def test_unfreeze_takes_back_what_freeze_did():
    model = small()
    model[4].bias.requires_grad_(False)  # by the user
    model[0].weight.grad = torch.ones_like(model[0].weight)
    zoo.freeze(model, until="stage1")
    assert model[0].weight.grad is None, "an optimizer must not use it"
    zoo.freeze(model, last=1)
    assert sum(each.requires_grad for each in model.parameters()) == 2
    zoo.unfreeze(model)
    assert awake(model) == {"", *map(str, range(11))}
    assert [name for name, each in model.named_parameters() if not each.requires_grad] == ["4.bias"]
    assert awake(zoo.freeze(model, last=3)) == awake(small())


def test_auxiliary_heads_are_trained_with_the_head():
    model = zoo.freeze(on_meta(zoo.create, "googlenet", aux=True))
    trained = {
        name.partition(".")[0] for name, each in model.named_parameters() if each.requires_grad
    }
    assert trained == {"aux", "head"}
    assert not model.neck.training, "the way to the head"
    assert model.aux.training


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"until": "stage3"}, "^Sequential has no layer group 'stage3': did you mean stage"),
        ({"until": "xyz"}, "'xyz'; its groups: stage1, stage2, head$"),
        ({"until": "head"}, "^the head is never frozen"),
        ({"last": 4}, r"^last=4: Sequential has 3 layer groups \(stage1, stage2, head\)$"),
        ({"last": 0}, "^last=0: Sequential has 3 layer groups"),
        ({"last": 1, "until": "stage1"}, "^until='stage1' and last=1 both say"),
    ],
)
def test_wrong_groups(given, expected):
    model = small()
    with pytest.raises(UsageError, match=expected):
        zoo.freeze(model, **given)
    assert all(each.requires_grad for each in model.parameters())


def test_without_a_head_the_group_is_named():
    body = on_meta(zoo.create, "resnet18", features_only=True)
    with pytest.raises(UsageError, match="has no head that could be trained: until=… names"):
        zoo.freeze(body)
    zoo.freeze(body, until="conv5_x").train()
    assert not awake(body)
    with pytest.raises(UsageError, match=r"zoo\.freeze takes a module: .* of 'resnet18'"):
        zoo.freeze("resnet18")


@pytest.mark.filterwarnings("error::zoo.errors.ZooWarning", "ignore:.*rofiler.*")
@pytest.mark.parametrize(("name", "last"), [("lenet5_modern", 2), ("resnet20_cifar10", 3)])
def test_memory_of_a_step_with_a_frozen_body(name, last):
    """As predicted, and without the note on parts in evaluation mode, which is for
    those that `.train()` would wake.
    """
    image = zoo.info(name).variant.image.size
    model = zoo.freeze(zoo.create(name), last=last)
    predicted = zoo.memory(model, 16, device="cpu")
    gc.collect()  # what other tests left behind is freed before it is measured
    found = measure(Workload(model, name, (torch.randn(16, *image),)))
    assert predicted.peak / found.tensors == pytest.approx(1, abs=0.005)
    assert predicted.peak < 0.8 * zoo.memory(name, 16, device="cpu").peak


# ---------------------------------------------------------------- rates by layer group


class Spared(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2, 2))
        self.norm = nn.LayerNorm((2, 2))
        self.linear = nn.Linear(4, 2)

    def no_weight_decay(self):
        return {"scale"}


def test_biases_norms_and_what_a_network_spares_do_not_decay():
    model = nn.Sequential(Spared(), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model[1].bias.requires_grad_(False)
    decaying, rest = zoo.param_groups(model, 0.1, weight_decay=0.02)
    assert [each.shape for each in decaying["params"]] == [(2, 4), (4, 3, 3, 3)]
    assert (decaying["weight_decay"], rest["weight_decay"]) == (0.02, 0.0)
    assert len(rest["params"]) == 6
    assert decaying["lr"] == rest["lr"] == 0.1
    assert set(zoo.param_groups(model)[0]) == {"params"}, "the optimizer's own"


def test_each_earlier_group_learns_more_slowly():
    model = zoo.freeze(on_meta(torchvision.models.get_model, "resnet18"), until="layer1")
    groups = zoo.param_groups(model, 0.1, lr_decay=0.5)
    rates = {group["name"]: group["lr"] for group in groups}
    expected = {"head": 0.1, "layer4": 0.05, "layer3": 0.025, "layer2": 0.0125}
    assert rates == pytest.approx(expected)
    assert list(rates) == list(expected)
    trained = [id(each) for each in model.parameters() if each.requires_grad]
    assert sorted(id(each) for group in groups for each in group["params"]) == sorted(trained)
    optimizer = make_optimizer("adamw", groups, 0.3, 0.02)
    assert {group["lr"] for group in optimizer.param_groups} == set(rates.values())
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.02, 0.0}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"lr_decay": 0.5}, r"lr_decay=0\.5 lowers a rate: give lr=…, that of the head"),
        ({"lr": 0.1, "lr_decay": 0.0}, r"lr_decay=0\.0: needs a number above 0 and at most 1"),
        ({"lr": 0.1, "lr_decay": 1.5}, r"lr_decay=1\.5: needs a number above 0 and at most 1"),
        ({"lr": -1.0}, r"lr=-1\.0: needs a number above 0"),
        ({"weight_decay": -1.0}, r"weight_decay=-1\.0: needs a number from 0 on"),
    ],
)
def test_wrong_rates(given, expected):
    with pytest.raises(InputError, match=expected):
        zoo.param_groups(small(), **given)


def test_a_frozen_network_is_fine_tuned_at_its_rates(tmp_path):
    model = zoo.freeze(zoo.create("lenet5_modern"), last=2)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    data = TensorDataset(torch.randn(8, 1, 28, 28), torch.arange(8) % 2)
    rates = []
    run = zoo.finetune(
        model, data, val=data, epochs=1, batch_size=8, lr=0.01, lr_decay=0.1, cpu=True,
        out=tmp_path / "run", progress=False, callback=lambda record, _: rates.append(record["lr"]),
    )  # fmt: skip
    assert rates == [0.01], "that of the head"
    assert run.config["recipe"]["lr_decay"] == 0.1
    after = run.model.state_dict()
    moved = {name for name in before if after[name].shape != before[name].shape}
    moved |= {name for name in before if name not in moved and not after[name].equal(before[name])}
    assert {name.rpartition(".")[0] for name in moved} == {"neck.f6", "head"}


# --------------------------------------------------------------------------- strategies


def test_strategies_by_name():
    assert Strategy.parse("last:2") == Strategy("last", 2)
    for text in ("auto", "probe", "probe-stages", "full", "last:12"):
        assert str(Strategy.parse(text)) == text
        assert Strategy.parse(text).kind in KINDS
    for text, expected in (
        ("last", "strategy='last': needs a number of layer groups from 1 on, as in 'last:2'"),
        ("last:0", "strategy='last:0': needs a number of layer groups"),
        ("last:-1", "needs a number of layer groups"),
        ("last:²", "needs a number of layer groups"),
        ("prob", r"strategy='prob' is not known: did you mean probe"),
        ("full:2", r"strategy='full:2' is not known: did you mean full"),
        ("x", "strategy='x' is not known: expected auto, probe, probe-stages, last:2, full"),
        (3, "strategy=3 is not known"),
    ):
        with pytest.raises(InputError, match=expected) as caught:
            Strategy.parse(text)
        assert "\n" not in str(caught.value)

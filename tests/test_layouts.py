"""Layouts: a publisher's tensors as ours and back. On a mirror's real files and photos,
and by full logits against the peers' networks with the same random weights.
"""

import os
import re
import tomllib
from pathlib import Path

import pytest
import torch
from oracle import TOLERANCE, Case, disable_drop_path, error, slow
from test_formats import caffe_blob, caffe_layer
from torch import nn

import zoo
from zoo.api.checkpoint import with_own_keys
from zoo.api.source import layouts_of, resolve
from zoo.errors import WeightsError, ZooWarning
from zoo.files import load_state
from zoo.paths import weights_folder
from zoo.weights.convert import expand, respell, to_ours, to_theirs, with_start, without_start
from zoo.weights.formats import read
from zoo.weights.manifest import RESERVED, _layout
from zoo.weights.operations import OPERATIONS, read_steps, write_steps
from zoo.weights.recognise import read_as, write_as

MIRROR = Path(os.environ.get("ZOO_MIRROR", "/nonexistent"))
DATA = Path(os.environ.get("ZOO_DATA", "/nonexistent"))


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def shapes(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def without_counters(state):
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def redrawn(model):
    """Every tensor of a network another one, of which none is trivial."""
    for key, value in model.state_dict().items():
        if key.endswith("running_var"):
            nn.init.uniform_(value, 0.5, 1.5)
        elif value.ndim > 1:
            nn.init.normal_(value, std=(2 / value[0].numel()) ** 0.5)
        elif value.is_floating_point():
            nn.init.uniform_(value, -1, 1)
    return model


# ---------------------------------------------------------------------------- key names


def test_numbers_in_a_table():
    table = {"stage{s}.unit{n}.{conv,bn}": "conv{s+1}_x.{n-1}.{0,1}", "stage4.unit1.bn": "last"}
    theirs = {"stage1.unit1.conv.w": 1, "stage3.unit20.bn.w": 2, "stage4.unit1.bn.w": 3}
    ours = {"conv2_x.0.0.w": 1, "conv4_x.19.1.w": 2, "last.w": 3}
    assert to_ours(theirs, table) == ours
    assert to_theirs(ours, table) == theirs
    assert to_ours({"stage1.unit0.conv.w": 1}, table) == {"stage1.unit0.conv.w": 1}
    assert to_ours({"xstage1.unit1.conv": 1}, table) == {"xstage1.unit1.conv": 1}
    twice = {"stage{s}.trans{s}": "stage{s}.transition"}
    assert to_ours({"stage2.trans2.w": 1, "stage2.trans3.w": 2}, twice) == {
        "stage2.transition.w": 1,
        "stage2.trans3.w": 2,
    }
    with pytest.raises(WeightsError, match="other numbers on the right"):
        expand({"stage{s}": "stage{n}"})


def test_numbers_with_a_factor():
    """A unit that has one layer more, and those that follow it."""
    table = {"conv{0,1,2}": "unit0.{a,b,down}", "conv{2n+{1,2}}": "unit{n}.{a,b}"}
    theirs = {f"conv{i}.w": i for i in range(7)}
    ours = {"unit0.a.w": 0, "unit0.b.w": 1, "unit0.down.w": 2, "unit1.a.w": 3, "unit1.b.w": 4,
            "unit2.a.w": 5, "unit2.b.w": 6}  # fmt: skip
    assert to_ours(theirs, table) == ours
    assert to_theirs(ours, table) == theirs
    with pytest.raises(WeightsError, match="other numbers on the right"):
        expand({"conv{2n+{1,2}}": "conv{m+{1,2}}"})


def test_what_all_keys_begin_with():
    """Two tensors never become one."""
    start = "net{k}_"
    assert without_start({"net15_a": 1, "net_b": 2, "net1.c": 3}, start) == {
        "a": 1,
        "net_b": 2,
        "net1.c": 3,
    }
    for state in ({"net1_a": 1, "net2_a": 2}, {"net1_a": 1, "a": 2}, {"a": 1, "net1_a": 2}):
        assert sorted(without_start(state, start).values()) == [1, 2]
    assert with_start({"a": 1}, start) == {"net0_a": 1}


def test_a_row_like_another():
    peers = {"peer": {"one": {"a": "b", "prefix": "x"}, "two": {"like": "one", "c": "d"}}}
    layout = _layout(peers, "peer", "two")
    assert (dict(layout.table), layout.prefix) == ({"a": "b", "c": "d"}, "x")
    peers["peer"]["two"]["like"] = "three"
    with pytest.raises(WeightsError, match="two is like 'three', which is not in it"):
        _layout(peers, "peer", "two")


def test_no_tensor_is_lost_where_two_get_one_name():
    """The second keeps its name, which strict loading then refuses."""
    state = to_ours({"b.w": 1, "a.w": 2}, {"a": "x", "b": "x"})
    assert sorted(state.values()) == [1, 2]
    assert sorted(respell({"n1": 1, "n.1": 2}, {"n.1": "n1"})) == ["n.1", "n1"]


def test_endings():
    endings = {"_filter": ".weight", "_bias": ".bias"}
    table = {"conv1/7x7_s2": "features.conv"}
    theirs = {"conv1/7x7_s2_filter": 1, "conv1/7x7_s2_bias": 2}
    ours = {"features.conv.weight": 1, "features.conv.bias": 2}
    assert to_ours(theirs, table, endings) == ours
    assert to_theirs(ours, table, endings) == theirs


# --------------------------------------------------------------------------- operations


def test_operations_there_and_back():
    own = {
        "conv.weight": torch.empty(4, 3, 5, 2, device="meta"),
        "conv.bias": torch.empty(4, device="meta"),
        "fc.weight": torch.empty(6, 8, device="meta"),
        "bn.running_mean": torch.empty(4, device="meta"),
        "bn.running_var": torch.empty(4, device="meta"),
    }
    drawn = {key: torch.randn(value.shape) for key, value in own.items() if "running" not in key}
    bgr = read_steps(["flip_input"], drawn, own)
    assert torch.equal(bgr["conv.weight"][:, 0], drawn["conv.weight"][:, 2])
    assert equal(write_steps(["flip_input"], bgr), drawn)

    flat = {"conv.weight": torch.arange(120.0), "fc.weight": torch.arange(48.0)}
    shaped = read_steps(["oyxi"], flat, own)
    assert shaped["conv.weight"].shape == (4, 3, 5, 2)
    assert shaped["conv.weight"][1, 2, 3, 1] == 1 * 30 + 3 * 6 + 1 * 3 + 2  # (out, y, x, in)
    assert shaped["fc.weight"].shape == (6, 8)
    assert equal(write_steps(["oyxi"], shaped), flat)

    steps = [{"reshape": {"fc": 2}}]
    theirs = {**drawn, "fc.weight": drawn["fc.weight"].reshape(6, 2, 2, 2)}
    assert equal(read_steps(steps, theirs, own), drawn)
    assert equal(write_steps(steps, drawn), theirs)

    whole = read_steps(["unit_statistics"], drawn, own)
    assert whole["bn.running_mean"].unique().tolist() == [0]
    assert whole["bn.running_var"].unique().tolist() == [1]
    assert equal(write_steps(["unit_statistics"], whole), drawn)
    whole["bn.running_var"] = torch.full((4,), 2.0)
    assert equal(read_steps(["unit_statistics"], whole, own), whole)
    with pytest.raises(WeightsError, match="running_var is not neutral"):
        write_steps(["unit_statistics"], whole)
    with pytest.raises(WeightsError, match="'flip' is not known: flip_input"):
        read_steps(["flip"], drawn, own)


def manifests():
    paths = sorted(weights_folder().glob("*.toml"))
    return [tomllib.loads(path.read_text(encoding="utf-8")) for path in paths]


def records():
    """Name, record and source of every file with a peer's key names; those trained here
    have ours.
    """
    for content in manifests():
        for name, record in content.get("weights", {}).items():
            for source in record["sources"]:
                if "layout" in source:
                    yield name, record, source


def test_what_the_tables_name_is_there():
    """Each layout's operations, and its networks."""
    for content in manifests():
        for entries in content.get("layouts", {}).values():
            for step in entries.get("operations", ()):
                assert (step if isinstance(step, str) else next(iter(step))) in OPERATIONS
            rows = [key for key, value in entries.items() if isinstance(value, dict)]
            assert all(zoo.is_model(name) for name in set(rows) - {*RESERVED})


NOT_CONVERTED = {f"resnet{depth}.authors_in1k" for depth in (50, 101, 152)}  # other networks


def test_every_record_has_its_layout():
    lacking = {
        name for name, _, source in records() if source["layout"] not in layouts_of(resolve(name))
    }
    assert lacking == NOT_CONVERTED


# ------------------------------------------------------------------- the mirror's files

REAL = {  # record -> its file in the mirror
    "googlenet.bvlc_in1k": "bvlc_googlenet_caffejs.tar",
    "squeezenet1_1.authors_in1k": "squeezenet_v1.1_caffejs.tar",
    "squeezenet1_0.deepcompression_in1k": "compressed_SqueezeNet.net",
    "resnet18.pqf29x_in1k": "pqf_resnet18.pth",
    "resnet50_v1_5.pqf31x_in1k": "pqf_resnet50_large.pth",
    "densenet_bc100_k12_cifar10.dice_cifar10": "dice_densenet_bc100_k12_cifar10.pth.tar",
}
IMAGENETTE = {  # WordNet id -> class of ImageNet
    "n01440764": 0, "n02102040": 217, "n02979186": 482, "n03000684": 491, "n03028079": 497,
    "n03394916": 566, "n03417042": 569, "n03425413": 571, "n03445777": 574, "n03888257": 701,
}  # fmt: skip
CIFAR10 = {
    "airplane": 0, "automobile": 1, "bird": 2, "cat": 3, "deer": 4,
    "dog": 5, "frog": 6, "horse": 7, "ship": 8, "truck": 9,
}  # fmt: skip


def decoded(name):
    """A record's file as the reader gives it, and its network on the meta device."""
    record = resolve(name).record
    source = record.sources[0]
    if not (MIRROR / REAL[name]).exists():
        pytest.skip(f"{REAL[name]} is not here: ZOO_MIRROR names a folder with published files")
    with torch.device("meta"):
        model = zoo.create(name.partition(".")[0], **record.model_args)
    return record, source.layout, read(MIRROR / REAL[name], source.format), model


def converted(name):
    record, layout, state, model = decoded(name)
    state = with_own_keys(resolve(name), model.state_dict(), state, layout, REAL[name])
    load_state(model, state, REAL[name])
    return record, model.eval()


def hits(model, record, folder, classes, every):
    """How many of every n-th photo are right: the first answer, one of five."""
    from torchvision import datasets
    from torchvision.transforms.v2 import functional as F

    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not here: ZOO_DATA names a folder with photos")
    data = datasets.ImageFolder(folder)
    chosen = [data[i] for i in range(0, len(data), every)]
    x = torch.stack([F.to_dtype(F.to_image(image), scale=True) for image, _ in chosen])
    labels = torch.tensor([classes[data.classes[label]] for _, label in chosen])
    x = F.normalize(x, record.preprocessing.mean, record.preprocessing.std)
    with torch.inference_mode():
        top = torch.cat([model(batch).topk(5).indices for batch in x.split(50)])
    right = top == labels[:, None]
    return int(right[:, 0].sum()), int(right.any(1).sum())


PHOTOS = DATA / "imagenette_small" / "val"


@pytest.mark.parametrize("name", REAL)
def test_the_file_there_and_back(name):
    """What is exported of the network has the names and numbers of the file."""
    _, layout, state, model = decoded(name)
    load_state(model, read_as(state, model.state_dict(), layouts_of(resolve(name))[layout], ""), "")
    back = without_counters(write_as(model.state_dict(), layouts_of(resolve(name))[layout]))
    assert back.keys() == without_counters(state).keys()
    for key, value in back.items():
        theirs = state[key].reshape(value.shape) if layout == "pqf" else state[key]
        assert torch.equal(value, theirs), key


@pytest.mark.parametrize(
    ("name", "every", "top1", "top5"),
    [
        ("squeezenet1_1.authors_in1k", 10, 54, 86),
        ("squeezenet1_0.deepcompression_in1k", 20, 31, 44),
        ("resnet18.pqf29x_in1k", 20, 35, 44),
        ("googlenet.bvlc_in1k", 20, 38, 46),
        pytest.param("resnet50_v1_5.pqf31x_in1k", 20, 38, 46, marks=pytest.mark.slow),
    ],
)
def test_photos_are_recognised(name, every, top1, top5):
    """Of 100 or 50 photos, 224 pixels as they are, over all 1,000 classes. Some were
    trained on: no accuracy, but what a wrong conversion would not reach.
    """
    record, model = converted(name)
    found = hits(model, record, PHOTOS, IMAGENETTE, every)
    assert abs(found[0] - top1) <= 1
    assert abs(found[1] - top5) <= 1


def test_photos_show_a_wrong_order_of_colours():
    """No shape does: 41 of 100 are right, not 54."""
    name = "squeezenet1_1.authors_in1k"
    record, model = converted(name)
    model.features.stage1.conv1.weight.data = model.features.stage1.conv1.weight.data.flip(1)
    assert hits(model, record, PHOTOS, IMAGENETTE, every=10)[0] < 47


def test_cifar_images_are_recognised():
    """Every hundredth test image."""
    name = "densenet_bc100_k12_cifar10.dice_cifar10"
    record, model = converted(name)
    right, _ = hits(model, record, DATA / "cifar10" / "test", CIFAR10, every=100)
    assert right >= 92


# ----------------------------------------------------------------- torchvision and timm


def old_densenet(state):
    """A DenseNet's keys as torchvision's files have them."""
    pattern = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)")
    old = {pattern.sub(r"\1.\2", key): value for key, value in without_counters(state).items()}
    assert "features.denseblock2.denselayer3.norm.1.running_var" in old
    return old


@pytest.mark.parametrize("prefix", ["", "module."])
def test_old_densenet_keys(prefix):
    import torchvision

    theirs = old_densenet(redrawn(torchvision.models.densenet121(num_classes=5)).state_dict())
    state = {f"{prefix}{key}": value for key, value in theirs.items()}
    model = zoo.create("densenet121", num_classes=5)
    zoo.load_state_dict(model, state, layout="torchvision")
    assert equal(old_densenet(zoo.export_state_dict(model, "torchvision")), theirs)
    other = zoo.create("densenet121", num_classes=5)
    with pytest.warns(ZooWarning, match="the key names of torchvision"):
        zoo.load_state_dict(other, state)
    assert equal(other.state_dict(), model.state_dict())


def test_half_precision_becomes_the_networks(tmp_path):
    narrow = {"blocks": (1, 1, 1, 1), "num_classes": 3}
    model = zoo.create("wide_resnet50_2", **narrow)
    halves = {
        key: value.half() if value.is_floating_point() else value
        for key, value in zoo.export_state_dict(model, "torchvision").items()
    }
    torch.save(halves, tmp_path / "half.pth")
    for device in ("cpu", "meta"):
        own = zoo.create("wide_resnet50_2", device=device, **narrow).state_dict()
        state = with_own_keys(resolve("wide_resnet50_2"), own, halves, "torchvision", "a file")
        kinds = {key: value.dtype for key, value in state.items()}
        assert kinds == {key: value.dtype for key, value in own.items()}
    loaded = zoo.create("wide_resnet50_2", checkpoint_path=tmp_path / "half.pth",
                        layout="torchvision", **narrow)  # fmt: skip
    assert loaded.head.weight.dtype == torch.float32
    assert torch.equal(loaded.head.weight, model.head.weight.half().float())


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn"])
def test_vgg_of_timm(name):
    """Full logits; its hidden layers, here narrow ones, are convolutions."""
    import timm
    from timm.models.vgg import ConvMlp

    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=5)
        theirs.pre_logits, theirs.head.fc = ConvMlp(512, 32, 7), nn.Linear(32, 5)
    state = redrawn(theirs.to_empty(device="cpu").eval()).state_dict()
    assert state["pre_logits.fc1.weight"].shape == (32, 512, 7, 7)
    model = zoo.create(name, hidden=32, num_classes=5).eval()
    zoo.load_state_dict(model, state, layout="timm")
    assert equal(zoo.export_state_dict(model, "timm"), state)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        wanted = theirs(x)
        assert (model(x) - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_resnext101_32x4d_of_timm():
    """torchvision has none; timm has it under torchvision's names."""
    import timm

    with torch.device("meta"):
        theirs = timm.create_model("resnext101_32x4d").state_dict()
        ours = zoo.export_state_dict(zoo.create("resnext101_32x4d"), "torchvision")
    assert shapes(ours) == shapes(theirs)


# -------------------------------------------------------------------------------- Caffe

DENSE = {"blocks": (2, 1, 1, 2), "growth": 32}
FIRE = ("squeeze1x1", "expand1x1", "expand3x3")
CAFFE_LAYERS = {  # as the published prototxts and the sheets name them, in order
    "alexnet": "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8",
    "caffenet": "conv1 conv2 conv3 conv4 conv5 fc6 fc7 fc8",
    "vgg16": "conv1_1 conv1_2 conv2_1 conv2_2 conv3_1 conv3_2 conv3_3 conv4_1 conv4_2 conv4_3 "
    "conv5_1 conv5_2 conv5_3 fc6 fc7 fc8",
    "nin": "conv1 cccp1 cccp2 conv2 cccp3 cccp4 conv3 cccp5 cccp6 conv4-1024 cccp7-1024 cccp8-1024",
    "squeezenet1_0": " ".join(
        ["conv1"] + [f"fire{n}/{part}" for n in range(2, 10) for part in FIRE] + ["conv10"]
    ),
}


@pytest.mark.parametrize("name", CAFFE_LAYERS)
def test_names_of_caffe(name):
    model = zoo.create(name, device="meta")
    theirs = zoo.export_state_dict(model, "caffe")
    expected = [f"{layer}.{blob}" for layer in CAFFE_LAYERS[name].split() for blob in (0, 1)]
    assert list(theirs) == expected
    own = model.state_dict()
    assert shapes(with_own_keys(resolve(name), own, theirs, "caffe", "")) == shapes(own)
    if "caffe2" in layouts_of(resolve(name)):
        onnx = zoo.export_state_dict(model, "caffe2")
        kinds = {"0": "w_0", "1": "b_0"}
        assert list(onnx) == [f"{key[:-2]}_{kinds[key[-1]]}" for key in expected]


def densenet_blobs(blocks):
    """The names of a DenseNet's blobs, as the published prototxt has its layers."""

    def norm(layer):
        return [f"{layer}/bn.{blob}" for blob in (0, 1, 2)] + [
            f"{layer}/scale.{blob}" for blob in (0, 1)
        ]

    names = ["conv1.0", *norm("conv1")]
    for stage, count in enumerate(blocks, 2):
        for layer in range(1, count + 1):
            for half in ("x1", "x2"):
                name = f"conv{stage}_{layer}/{half}"
                names += [*norm(name), f"{name}.0"]
        names += norm(f"conv{stage}_blk") + [f"conv{stage}_blk.0"] * (stage < 5)
    return [*names, "fc6.0", "fc6.1"]


def test_a_caffemodel_with_batch_norms(tmp_path):
    """Means and variances are there as sums, over a factor; the classifier is a
    convolution; the first convolution takes BGR.
    """
    source = resolve("densenet121")
    model = redrawn(zoo.create("densenet121", num_classes=5, **DENSE))
    blobs = without_counters(zoo.export_state_dict(model, "caffe"))
    assert set(blobs) == set(densenet_blobs(DENSE["blocks"]))
    assert blobs["fc6.0"].shape[2:] == (1, 1)
    for key in blobs:
        if key.endswith(("/bn.0", "/bn.1", "/bn.2")):
            blobs[key] = blobs[key] * 999.0
    layers = {}
    for key, value in blobs.items():
        layers.setdefault(key.rpartition(".")[0], []).append((key[-1], caffe_blob(value)))
    content = [caffe_layer(name, *(blob for _, blob in sorted(found)))[0]
               for name, found in layers.items()]  # fmt: skip
    (tmp_path / "net.caffemodel").write_bytes(b"".join(content))
    state = with_own_keys(
        source, model.state_dict(), read(tmp_path / "net.caffemodel", "caffemodel"), "caffe", ""
    )
    wanted = without_counters(model.state_dict())
    assert state.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(state[key], value)
    first = "features.stem.conv.weight"
    assert torch.equal(state[first][:, 0], blobs["conv1.0"][:, 2])


@pytest.mark.parametrize(
    ("name", "args"), [("plain20_cifar10", {}), ("resnet20_cifar10", {"shortcut": "B"})]
)
def test_biases_before_batch_norms_go_into_the_mean(name, args):
    """As junyuseu's Caffe networks have them: full logits with the biases in the
    convolutions, and without them after the conversion. A projection comes before its
    unit's own convolutions.
    """
    model = redrawn(zoo.create(name, **args)).eval()
    theirs = without_counters(zoo.export_state_dict(model, "caffe"))
    assert theirs["Convolution19.1"].abs().max() == 0
    for key in theirs:
        if key.startswith("Convolution") and key.endswith(".1"):
            theirs[key] = torch.randn_like(theirs[key])
    other = zoo.create(name, **args).eval()
    zoo.load_state_dict(other, theirs, layout="caffe")
    convs = {
        key: module
        for key, module in model.features.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    ordered = sorted(convs, key=lambda key: (key.split(".")[:2], "downsample" not in key))
    for number, conv in enumerate(map(convs.get, ordered), 1):
        conv.bias = nn.Parameter(theirs[f"Convolution{number}.1"])
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model(x)
        assert (other(x) - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_statistics_of_nothing():
    """Caffe's factor of a network that never saw an image is 0."""
    state = {"bn.running_mean": torch.ones(2), "bn.running_var": torch.ones(2),
             "bn.running_factor": torch.zeros(1)}  # fmt: skip
    found = read_steps(["divide_statistics"], state, {})
    assert {key: value.tolist() for key, value in found.items()} == {
        "bn.running_mean": [0, 0],
        "bn.running_var": [0, 0],
    }


def test_auxiliary_heads_of_caffe():
    model = zoo.create("googlenet", aux=True, device="meta")
    theirs = zoo.export_state_dict(model, "caffe")
    assert theirs["loss2/fc.0"].shape == (1024, 2048)
    assert {"loss1/conv.0", "loss1/classifier.1", "loss3/classifier.0"} <= theirs.keys()


# ---------------------------------------------------------------------------- pytorchcv


def pytorchcv_peer(arch):
    """pytorchcv's network, loaded through its layout there and back; the last map is
    averaged whole, whatever the input's size.
    """

    def peer(case):
        def loaded(state, training):
            from pytorchcv.model_provider import get_model

            with torch.device("meta"):
                ours = zoo.create(case.name, **case.model_args)
                theirs = get_model(arch)
            ours.load_state_dict(state, assign=True)
            theirs.load_state_dict(zoo.export_state_dict(ours, "pytorchcv"), assign=True)
            with torch.device("meta"):
                again = zoo.create(case.name, **case.model_args)
            own = again.state_dict()
            back = with_own_keys(resolve(again), own, theirs.state_dict(), "pytorchcv", arch)
            assert equal(back, ours.state_dict())
            for parent in list(theirs.modules()):
                if hasattr(parent, "final_pool"):
                    parent.final_pool = nn.AdaptiveAvgPool2d(1)
            disable_drop_path(theirs)
            return theirs.train(training)

        return loaded

    return peer


def case(arch, name, **options):
    made = Case(name, None, **options)
    made.peer = pytorchcv_peer(arch)(made)
    return made


THREE, CIFAR = {"stride_in": "3x3"}, {"shortcut": "B"}
PYTORCHCV = [
    case("alexnetb", "alexnet_owt", batch=1),
    case("resnet18", "resnet18", size=64),
    case("resnet50", "resnet50", size=64),
    case("resnet50b", "resnet50_v1_5", size=64),
    case("preresnet50", "preresnet50", size=64),
    case("preresnet50b", "preresnet50", size=64, model_args=THREE),
    case("resnext50_32x4d", "resnext50_32x4d", size=64),
    case("densenet121", "densenet121", size=64),
    case("squeezenet_v1_0", "squeezenet1_0", size=96),
    case("squeezenet_v1_1", "squeezenet1_1", size=96),
    case("squeezeresnet_v1_0", "squeezenet1_0_bypass", size=96),
    case("inceptionv3", "inception_v3", size=107, model_args={"count_include_pad": True}),
    case("resnet20_cifar10", "resnet20_cifar10", model_args=CIFAR),
    case("preresnet164bn_cifar10", "preresnet164_cifar10", model_args=THREE),
    case("densenet100_k12_bc_cifar10", "densenet_bc100_k12_cifar10"),
]
HEAVY = [
    case("vgg11", "vgg11", batch=1),
    case("bn_vgg11b", "vgg11_bn"),
    case("inceptionv4", "inception_v4", size=107),
    case("inceptionresnetv2", "inception_resnet_v2_tf", size=107),
    case("wrn28_10_cifar10", "wrn28_10_cifar10"),
    case("resnext29_16x64d_cifar10", "resnext29_16x64d_cifar10"),
]


@pytest.mark.parametrize("case", [*PYTORCHCV, *map(slow, HEAVY)], ids=str)
def test_logits_of_pytorchcv(case):
    assert error(case) < TOLERANCE


def of_pytorchcv():
    """Record, its peer's name of the network, constructor arguments."""
    for name, record, source in records():
        if source["layout"] == "pytorchcv":
            arch = source["file"].partition("-")[0]
            yield pytest.param(name, arch, record.get("model_args", {}), id=name)


QUICK = ("vgg11_bn.cv_in1k", "inception_v4.cv_in1k", "wrn28_10_cifar10.cv_cifar10")


@pytest.mark.parametrize(
    ("name", "arch", "args"),
    [
        each if each.id in QUICK else pytest.param(*each.values, id=each.id, marks=pytest.mark.slow)
        for each in of_pytorchcv()
    ],
)
def test_names_and_shapes_of_pytorchcv(name, arch, args):
    from pytorchcv.model_provider import get_model

    with torch.device("meta"):
        theirs = get_model(arch).state_dict()
        ours = zoo.create(name.partition(".")[0], **args)
    assert shapes(zoo.export_state_dict(ours, "pytorchcv")) == shapes(theirs)
    own = ours.state_dict()
    assert shapes(with_own_keys(resolve(ours), own, theirs, "pytorchcv", arch)) == shapes(own)


def test_networks_of_pytorchcv_with_equal_tensors_are_not_guessed_between():
    """preresnet50 and preresnet50b; resnet50 and resnet50b."""
    for name in ("preresnet50", "resnet50", "resnet50_v1_5"):
        for args in ({}, THREE):
            model = zoo.create(name, device="meta", **args)
            state = zoo.export_state_dict(model, "pytorchcv")
            with pytest.raises(WeightsError, match='is not guessed: pass layout="pytorchcv"'):
                zoo.load_state_dict(model, state)

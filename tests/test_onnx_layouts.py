"""Layouts of files that came through ONNX from Gluon and Caffe2: full logits of
networks that are written here in that format, made and named as the publisher does.
"""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_formats import field, onnx_file, onnx_tensor
from test_layouts import equal, records, redrawn, shapes, without_counters
from torch.nn import functional as F

import zoo
from zoo.api.checkpoint import with_own_keys
from zoo.api.source import layouts_of, resolve
from zoo.errors import WeightsError, ZooWarning
from zoo.files import load_state, read_about
from zoo.paths import weights_folder
from zoo.spec import Preprocessing
from zoo.weights import input_norm, manifest
from zoo.weights.formats import read
from zoo.weights.recognise import write_as

SHAPE = field(1, 2) + field(2, 7) + field(8, "reshape_attr_tensor118") + field(9, bytes(16))


def write_onnx(path, state):
    """With a shape for a node of the graph among the weights, as the files have."""
    path.write_bytes(onnx_file(SHAPE, *(onnx_tensor(key, value) for key, value in state.items())))
    return path


def of_file(name, path, layout, **model_args):
    """Our network with the numbers of an ONNX file."""
    model = zoo.create(name, device="meta", **model_args)
    state = with_own_keys(resolve(model), model.state_dict(), read(path, "onnx"), layout, "")
    state, norm = input_norm.split(state, model.state_dict())
    load_state(model, state, "")
    return model.eval(), norm


def assert_close(found, wanted):
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


# -------------------------------------------------------------------------------- Gluon


class Gluon:
    """Layers by Gluon's rules: each kind has its number in the order in which a block
    makes them, and its parameters have its name.
    """

    def __init__(self, prefix, device="cpu"):
        self.prefix, self.device = prefix, device
        self.counts, self.params = Counter(), {}

    def name(self, block, kind):
        self.counts[block, kind] += 1
        return f"{self.prefix}{block}{kind}{self.counts[block, kind] - 1}_"

    def param(self, name, *shape, low=-1.0, high=1.0):
        value = torch.empty(shape, device=self.device).uniform_(low, high)
        if value.ndim > 1:
            value *= (6 / value[0].numel()) ** 0.5
        self.params[name] = value
        return value

    def conv(self, block, inside, outside, kernel, stride=1, bias=False):
        name = self.name(block, "conv")
        weight = self.param(name + "weight", outside, inside, kernel, kernel)
        shift = self.param(name + "bias", outside) if bias else None
        return lambda x: F.conv2d(x, weight, shift, stride, kernel // 2)

    def norm(self, block, channels, affine=True):
        name = self.name(block, "batchnorm")
        gamma, beta = (self.param(name + part, channels) for part in ("gamma", "beta"))
        if not affine:
            gamma.fill_(1)
            beta.zero_()
        mean = self.param(name + "running_mean", channels)
        var = self.param(name + "running_var", channels, low=0.5, high=1.5)
        return lambda x: F.batch_norm(x, mean, var, gamma, beta)

    def dense(self, inside, outside):
        name = self.name("", "dense")
        weight = self.param(name + "weight", outside, inside)
        shift = self.param(name + "bias", outside)
        return lambda x: F.linear(x.mean((2, 3)), weight, shift)

    def unit_v1(self, block, inside, outside, stride, bottleneck):
        narrow = outside // 4
        if bottleneck:
            convs = [
                (inside, narrow, 1, stride, True),
                (narrow, narrow, 3),
                (narrow, outside, 1, 1, True),
            ]
        else:
            convs = [(inside, outside, 3, stride), (outside, outside, 3)]
        body = []
        for each in convs:
            body += [self.conv(block, *each), self.norm(block, each[1]), F.relu]
        down = []
        if stride > 1 or inside != outside:
            down = [self.conv(block, inside, outside, 1, stride), self.norm(block, outside)]
        return lambda x: F.relu(run(body[:-1], x) + run(down, x))

    def unit_v2(self, block, inside, outside, stride):
        narrow = outside // 4
        body = [self.norm(block, inside), F.relu, self.conv(block, inside, narrow, 1)]
        body += [self.norm(block, narrow), F.relu, self.conv(block, narrow, narrow, 3, stride)]
        body += [self.norm(block, narrow), F.relu, self.conv(block, narrow, outside, 1)]
        down = []
        if stride > 1 or inside != outside:
            down = [self.conv(block, inside, outside, 1, stride)]
        return lambda x: run(body, x) + run(down, run(body[:2], x) if down else x)

    def resnet(self, blocks, version, bottleneck=True, classes=5):
        layers = [self.norm("", 3, affine=False)] if version == 2 else []
        layers += [self.conv("", 3, 64, 7, 2), self.norm("", 64), F.relu]
        layers += [lambda x: F.max_pool2d(x, 3, 2, 1)]
        inside = 64
        for stage, count in enumerate(blocks, 1):
            outside = (256 if bottleneck else 64) << stage - 1
            for unit in range(count):
                stride = 2 if stage > 1 and not unit else 1
                shape = f"stage{stage}_", inside, outside, stride
                made = self.unit_v2(*shape) if version == 2 else self.unit_v1(*shape, bottleneck)
                layers.append(made)
                inside = outside
        layers += [self.norm("", inside), F.relu] if version == 2 else []
        layers.append(self.dense(inside, classes))
        return lambda x: run(layers, x)


def run(layers, x):
    for layer in layers:
        x = layer(x)
    return x


SMALL = {"blocks": (2, 2, 1, 1), "num_classes": 5}


@pytest.mark.parametrize(("name", "bottleneck"), [("resnet18", False), ("resnet50", True)])
def test_logits_of_gluon(name, bottleneck, tmp_path):
    """The biases of the bottleneck stand before batch norms."""
    gluon = Gluon("resnetv17_")
    network = gluon.resnet(SMALL["blocks"], 1, bottleneck)
    assert ("resnetv17_stage2_conv4_bias" in gluon.params) == bottleneck
    model, _ = of_file(name, write_onnx(tmp_path / "net.onnx", gluon.params), "gluon", **SMALL)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(model(x), network(x))
    back = without_counters(zoo.export_state_dict(model, "gluon"))
    assert shapes(back) == {
        key.replace("resnetv17_", "resnetv10_"): shape
        for key, shape in shapes(gluon.params).items()
    }
    again = zoo.create(name, **SMALL)
    zoo.load_state_dict(again, back, layout="gluon")
    assert equal(without_counters(again.state_dict()), without_counters(model.state_dict()))


@pytest.mark.parametrize("name", ["resnet34", "resnet101", "resnet152", "preresnet101"])
def test_names_of_gluon(name):
    """All units of the deep ones."""
    version, bottleneck = 2 if name.startswith("pre") else 1, name != "resnet34"
    model = zoo.create(name, device="meta")
    gluon = Gluon(f"resnetv{version}0_", "meta")
    blocks = resolve(name).model_args["blocks"]
    gluon.resnet(blocks, version, bottleneck, classes=1000)
    assert shapes(without_counters(zoo.export_state_dict(model, "gluon"))) == shapes(gluon.params)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A Gluon ResNet v2 that weights record `preresnet50.mine` means: the peer's
    network, and the published file.
    """
    for variable, folder in (("ZOO_MIRROR", "mirror"), ("ZOO_CACHE", "cache")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path / "manifests")
    for folder in ("mirror", "manifests"):
        (tmp_path / folder).mkdir()
    own = (weights_folder() / "preact_resnet.toml").read_text(encoding="utf-8")
    (tmp_path / "manifests" / "preact_resnet.toml").write_text(
        own.partition("[defaults]")[0]
        + '[weights."preresnet50.mine"]\npreprocessing = {}\ninput_norm = true\n'
        'model_args = {stride_in = "3x3", blocks = [2, 2, 1, 1], num_classes = 5}\n'
        '[[weights."preresnet50.mine".sources]]\n'
        'file = "mine.onnx"\nformat = "onnx"\nlayout = "gluon"\n'
    )
    gluon = Gluon("resnetv24_")
    network = gluon.resnet(SMALL["blocks"], 2)
    return network, write_onnx(tmp_path / "mirror" / "mine.onnx", gluon.params)


def test_records_say_which_files_have_a_norm_on_the_image():
    for name, record, source in records():
        layout = layouts_of(resolve(name)).get(source["layout"])
        steps = layout.operations if layout else ()
        assert record.get("input_norm", False) == ({"input_norm": 3} in steps), name


def normalised(x, preprocessing):
    mean, std = (
        torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std)
    )
    return (x - mean) / std


@pytest.mark.filterwarnings("ignore::zoo.errors.ZooWarning")
def test_the_norm_on_the_image_goes_into_the_preprocessing(published):
    """By full logits, border and all; said in the converted file, and so the same
    without the original one. Nothing asks for it before the file is there.
    """
    network, original = published
    x = torch.rand(2, 3, 64, 64)
    wanted = network(normalised(x, Preprocessing()))
    transform = zoo.transforms("preresnet50.mine")
    model = zoo.create("preresnet50.mine", pretrained=True).eval()
    assert model.preprocessing.mean != Preprocessing().mean
    with torch.no_grad():
        assert_close(model(normalised(x, model.preprocessing)), wanted)
    (converted,) = Path(os.environ["ZOO_CACHE"]).glob("**/*.safetensors")
    assert read_about(converted)["preprocessing"]["mean"] == [*model.preprocessing.mean]
    original.unlink()
    again = zoo.create("preresnet50.mine", pretrained=True)
    assert again.preprocessing == model.preprocessing
    image = torch.randint(256, (3, 300, 300), dtype=torch.uint8)
    assert torch.equal(transform(image), zoo.transforms(model)(image))
    assert resolve(converted).preprocessing == model.preprocessing


@pytest.mark.filterwarnings("ignore::zoo.errors.ZooWarning")
@pytest.mark.parametrize("said", ["input_norm = true\n", ""])
def test_a_norm_on_the_image_that_the_record_contradicts(published, said):
    folder = manifest.weights_folder()
    text = (folder / "preact_resnet.toml").read_text()
    (folder / "preact_resnet.toml").write_text(text.replace("input_norm = true\n", said))
    if said:
        path = published[1]
        state = read(path, "onnx")
        write_onnx(path, {key: state[key] for key in state if "v24_batchnorm0" not in key})
    with pytest.raises(WeightsError, match=f"has {'no' if said else 'a'} batch norm on the image"):
        zoo.create("preresnet50.mine", pretrained=True)


def test_a_users_file_with_a_norm_on_the_image(tmp_path):
    """Loaded twice, it changes the preprocessing once."""
    gluon = Gluon("resnetv20_")
    network = gluon.resnet(SMALL["blocks"], 2)
    args = {**SMALL, "stride_in": "3x3"}
    model = zoo.create("preresnet50", **args).eval()
    own = model.preprocessing
    for _ in range(2):
        with pytest.warns(ZooWarning, match="is in its preprocessing now: mean -?0"):
            zoo.load_state_dict(model, gluon.params, layout="gluon")
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(model(normalised(x, model.preprocessing)), network(normalised(x, own)))
    torch.save(gluon.params, tmp_path / "gluon.pt")
    with pytest.warns(ZooWarning, match="the batch norm on the image"):
        other = zoo.create("preresnet50", checkpoint_path=tmp_path / "gluon.pt", **args)
    assert other.preprocessing == model.preprocessing
    back = zoo.export_state_dict(model, "gluon")  # with a norm that does nothing
    with pytest.warns(ZooWarning, match="the batch norm on the image"):
        zoo.load_state_dict(model, back, layout="gluon")
    assert model.preprocessing.mean == pytest.approx(own.mean, abs=1e-6)
    assert model.preprocessing.std == pytest.approx(own.std, abs=1e-6)
    for part, value in (("gamma", 0.0), ("running_var", -1.0)):
        wrong = {**gluon.params, f"resnetv20_batchnorm0_{part}": torch.full((3,), value)}
        with pytest.raises(WeightsError, match="no deviation above 0"):
            zoo.load_state_dict(model, wrong, layout="gluon")


def test_a_norm_on_the_image_that_scales_and_shifts():
    mean, bias = torch.randn(2, 3)
    weight, var = torch.empty(2, 3).uniform_(0.5, 2)
    norm = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": var}
    x = torch.rand(1, 3, 4, 4)
    wanted = F.batch_norm(normalised(x, Preprocessing()), mean, var, weight, bias)
    found = normalised(x, input_norm.composed(Preprocessing(), norm, ""))
    torch.testing.assert_close(found, wanted)
    for wrong in ({**norm, "bias": bias[:2]}, {"weight": weight}):
        with pytest.raises(WeightsError, match="none of 3 channels"):
            input_norm.composed(Preprocessing(), wrong, "a file")


def test_resnets_v2_18_and_34_of_gluon_are_others():
    """Their first unit's shortcut takes the raw input."""
    for name in ("preresnet18", "preresnet34", "preresnet200"):
        assert "gluon" not in layouts_of(resolve(name))


@pytest.mark.parametrize("name", ["vgg16", "vgg19_bn", "squeezenet1_1"])
def test_gluon_numbers_layers_through(name):
    """The same tensors at the same places as from torchvision's names."""
    from torchvision import models

    with torch.device("meta"):
        peer = models.get_model(name)
        own = zoo.create(name).state_dict()
    theirs = without_counters(peer.state_dict())
    kinds = {torch.nn.Conv2d: "conv", torch.nn.BatchNorm2d: "batchnorm", torch.nn.Linear: "dense"}
    parts = {"batchnorm": {"weight": "gamma", "bias": "beta"}}
    counts, gluon = Counter(), {}
    for module, layer in peer.named_modules():
        if kind := kinds.get(type(layer)):
            for part, value in theirs.items():
                if part.rpartition(".")[0] == module:
                    end = part.rpartition(".")[2]
                    end = parts.get(kind, {}).get(end, end)
                    gluon[f"vgg3_{kind}{counts[kind]}_{end}"] = value
            counts[kind] += 1
    if name.startswith("squeeze"):
        gluon = {key.replace("vgg3_", "squeezenet0_"): value for key, value in gluon.items()}
    found = with_own_keys(resolve(name), own, gluon, "gluon", "")
    wanted = with_own_keys(resolve(name), own, theirs, "torchvision", "")
    assert found.keys() == wanted.keys() == without_counters(own).keys()
    assert all(found[key] is wanted[key] for key in wanted)
    assert write_as(found, layouts_of(resolve(name))["gluon"]).keys() == {
        key.replace("vgg3_", "vgg0_") for key in gluon
    }


# ------------------------------------------------------------------------------- Caffe2


def bgr(state, first):
    return {key: value.flip(1) if key == first else value for key, value in state.items()}


def test_logits_of_caffe2s_resnet(tmp_path):
    """torchvision's network under its names: equal, as the stride is in the 3x3."""
    from torchvision.models.resnet import Bottleneck, ResNet

    peer = redrawn(ResNet(Bottleneck, [*SMALL["blocks"]], num_classes=5)).eval()
    letters = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "downsample.0": "1"}
    letters |= {"bn1": "2a_bn", "bn2": "2b_bn", "bn3": "2c_bn", "downsample.1": "1_bn"}
    layers = {"conv1": "conv1", "bn1": "res_conv1_bn", "fc": "pred"}
    layers |= {
        f"layer{stage}.{unit}.{ours}": f"res{stage + 1}_{unit}_branch{theirs}"
        for stage, count in enumerate(SMALL["blocks"], 1)
        for unit in range(count)
        for ours, theirs in letters.items()
    }
    ends = {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    state = {}
    for key, value in bgr(without_counters(peer.state_dict()), "conv1.weight").items():
        layer, _, end = key.rpartition(".")
        end = ends[end] if layers[layer].endswith("_bn") else end[0]
        state[f"gpu_0/{layers[layer]}_{end}_0"] = value
    path = write_onnx(tmp_path / "net.onnx", state)
    model, _ = of_file("resnet50_v1_5", path, "caffe2", **SMALL)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(model(x), peer(x))
    assert equal(without_counters(zoo.export_state_dict(model, "caffe2")), state)


def test_logits_of_caffe2s_densenet(tmp_path):
    """Its batch norms scale and shift, and so does a layer behind each."""
    from torchvision.models import DenseNet

    blocks = (2, 1, 1, 2)
    peer = redrawn(DenseNet(32, blocks, num_classes=5)).eval()
    layers = {"features.conv0": "conv1", "features.norm0": "conv1/bn", "classifier": "fc6"}
    for stage, count in enumerate(blocks, 1):
        for n in range(1, count + 1):
            for m in (1, 2):
                dense, name = (
                    f"features.denseblock{stage}.denselayer{n}",
                    f"conv{stage + 1}_{n}/x{m}",
                )
                layers |= {f"{dense}.conv{m}": name, f"{dense}.norm{m}": f"{name}/bn"}
        transition, name = f"features.transition{stage}", f"conv{stage + 1}_blk"
        layers |= {f"{transition}.conv": name, f"{transition}.norm": f"{name}/bn"}
    layers["features.norm5"] = "conv5_blk/bn"
    ends = {"weight": "w", "bias": "b", "running_mean": "mean", "running_var": "var"}
    state = {}
    for key, value in bgr(without_counters(peer.state_dict()), "features.conv0.weight").items():
        layer, _, end = key.rpartition(".")
        state[f"{layers[layer]}_{ends[end]}_0"] = value
    state["fc6_w_0"] = state["fc6_w_0"][:, :, None, None]
    for key in [key for key in state if key.endswith("_mean_0")]:
        norm = key.removesuffix("_mean_0")
        scale, bias = torch.empty_like(state[key]).uniform_(0.5, 2), torch.randn_like(state[key])
        state |= {f"{norm}_scale_0": scale, f"{norm}_bias_0": bias}
        outer = state[f"{norm}_w_0"] / scale  # together what they were
        state[f"{norm}_b_0"] = state[f"{norm}_b_0"] - outer * bias
        state[f"{norm}_w_0"] = outer
    path = write_onnx(tmp_path / "net.onnx", state)
    args = {"blocks": blocks, "growth": 32, "num_classes": 5}
    model, _ = of_file("densenet121", path, "caffe2", **args)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert_close(model(x), peer(x))
    back = without_counters(zoo.export_state_dict(model, "caffe2"))
    assert shapes(back) == shapes(state)
    own = model.state_dict()
    state = with_own_keys(resolve(model), own, back, "caffe2", "")
    assert equal(state, without_counters(own))


@pytest.mark.parametrize("name", ["caffenet", "googlenet", "vgg19"])
def test_names_of_caffe_translated(name):
    """Caffe's layers with other ends."""
    model = zoo.create(name, device="meta")
    ends = {"0": "_w_0", "1": "_b_0"}
    caffe = [f"{key[:-2]}{ends[key[-1]]}" for key in zoo.export_state_dict(model, "caffe")]
    assert [*zoo.export_state_dict(model, "caffe2")] == caffe
    expected = {"caffenet": "fc8_b_0", "googlenet": "inception_3a/1x1_w_0", "vgg19": "conv5_4_w_0"}
    assert expected[name] in caffe

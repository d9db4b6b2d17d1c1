"""Weights files as others write them: containers, wrappers, peers' key names, and files
that hold no weights.
"""

import argparse
import json
import pickle
import zipfile
from copy import deepcopy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.optim.swa_utils import AveragedModel

import zoo
from zoo.api.checkpoint import _differences
from zoo.api.source import layouts_of, resolve
from zoo.cli import cli
from zoo.errors import UsageError, WeightsError, ZooWarning
from zoo.files import load_state, read_state, write_state
from zoo.weights.manifest import Layout

NAME, ARGS = "squeezenet1_1", {"num_classes": 3}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(5)
    return zoo.create(NAME, **ARGS).eval()


def same(first, second):
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def saved(tmp_path, content, name="file.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


def prefixed(prefix, state):
    return {prefix + key: tensor for key, tensor in state.items()}


CONTENTS = {
    "plain": lambda state: state,
    "compiled": lambda state: prefixed("_orig_mod.", state),
    "compiled and parallel": lambda state: prefixed("module._orig_mod.", state),
    "parallel": lambda state: {"state_dict": prefixed("module.", state), "epoch": 3},
    "a part compiled": lambda state: {
        key.replace("features.", "features._orig_mod."): tensor for key, tensor in state.items()
    },
    "sharded": lambda state: prefixed("_fsdp_wrapped_module.", state),
    "lightning": lambda state: {"state_dict": prefixed("model.", state), "loops": {"a": 1}},
    "net": lambda state: {"state_dict": prefixed("net.", state)},
    "a name of the user's own": lambda state: prefixed("encoder.body.", state),
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer_state_dict": {}},
    "two containers": lambda state: {"checkpoint": {"model": state}},
    "averaged": lambda state: {"state_dict_ema": state, "arch": NAME},
    "AveragedModel": lambda state: {
        "model_ema": {"n_averaged": torch.tensor(4), **prefixed("module.", state)}
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTENTS)
def test_containers_and_wrappers(kind, model, tmp_path):
    """The same for a file, a state dict at hand, and the weights of a run."""
    content = CONTENTS[kind](model.state_dict())
    file = saved(tmp_path, content)
    assert same(zoo.create(NAME, checkpoint_path=file), model)
    again = zoo.create(NAME, **ARGS)
    zoo.load_state_dict(again, content)
    assert same(again, model)
    again = zoo.create(NAME, **ARGS)
    load_state(again, read_state(file), "a file")
    assert same(again, model)


def test_a_peers_keys_inside_of_a_wrapper(model, tmp_path):
    theirs = {"state_dict": prefixed("module.", zoo.export_state_dict(model, "torchvision"))}
    file = saved(tmp_path, theirs)
    assert same(zoo.create(NAME, checkpoint_path=file, layout="torchvision"), model)


def test_what_lies_beside_the_network_is_named(model, tmp_path):
    extra = {**prefixed("model.", model.state_dict()), "criterion.weight": torch.ones(3)}
    file = saved(tmp_path, {"state_dict": extra})
    with pytest.warns(ZooWarning, match=r"under 'model\.' are taken, not criterion\.weight"):
        assert same(zoo.create(NAME, checkpoint_path=file), model)


def test_averaged_weights_before_the_last(model, tmp_path):
    other = zoo.create(NAME, **ARGS).state_dict()
    file = saved(tmp_path, {"state_dict": other, "state_dict_ema": model.state_dict()})
    with pytest.warns(ZooWarning, match="the averaged weights state_dict_ema are taken"):
        assert same(zoo.create(NAME, checkpoint_path=file), model)


def test_two_networks_are_not_guessed_between(model, tmp_path):
    state = model.state_dict()
    both = saved(tmp_path, prefixed("student.", state) | prefixed("teacher.", state))
    with pytest.raises(WeightsError, match=r"under 'student\.' and 'teacher\.'; pass"):
        zoo.create(NAME, checkpoint_path=both)
    both = saved(tmp_path, {"student": state, "teacher": state})
    with pytest.raises(WeightsError, match=r"holds 2 state dicts: student, teacher; zoo\.load_sta"):
        zoo.create(NAME, checkpoint_path=both)


def test_wrapped_networks_take_weights(model):
    """Into torch.compile's, DataParallel's and AveragedModel's inner module."""
    for wrap in (partial(torch.compile, backend="eager"), nn.DataParallel):
        own = zoo.create(NAME, **ARGS)
        zoo.load_state_dict(wrap(own), model.state_dict())
        assert same(own, model)
        own = zoo.create(NAME, **ARGS)
        load_state(wrap(own), model.state_dict(), "a file")
        assert same(own, model)
    averaged = AveragedModel(model).state_dict()
    zoo.load_state_dict(own, averaged)
    assert same(own, model)


def test_a_compiled_networks_file_has_plain_keys(model, tmp_path):
    """As finetune writes it; it opens as any other."""
    about = {"architecture": NAME, "model_args": ARGS, "num_classes": 3}
    write_state(
        tmp_path / "mine.safetensors", torch.compile(model, backend="eager").state_dict(), about
    )
    assert read_state(tmp_path / "mine.safetensors").keys() == model.state_dict().keys()
    assert same(zoo.create(tmp_path / "mine.safetensors"), model)


def test_a_run_of_a_compiled_network(tmp_path, digit_folder):
    """Its weights are those of the network itself."""
    own = zoo.create("lenet5_modern", num_classes=2)
    run = zoo.finetune(
        torch.compile(own, backend="eager"),
        digit_folder("photos", {"one": 4, "two": 4}),
        epochs=1,
        out=tmp_path / "run",
        progress=False,
        cpu=True,
    )
    for file in ("best.safetensors", "last.safetensors"):
        assert read_state(run.path / file).keys() == own.state_dict().keys()
    trained = zoo.create(run.path)
    assert same(trained, run.load_best(zoo.create("lenet5_modern", num_classes=2)))
    assert same(trained, run.load_best(torch.compile(own, backend="eager"))._orig_mod)
    assert zoo.export_state_dict(run.path).keys() == own.state_dict().keys()


def test_keys_of_its_own_are_no_wrapper():
    """A network whose keys all begin with `model.` keeps them."""
    own = nn.Module()
    own.model = nn.Linear(2, 2)
    other = deepcopy(own)
    nn.init.zeros_(other.model.weight)
    load_state(own, prefixed("module.", other.state_dict()), "a file")
    assert same(own, other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "arch": "x"}, r"holds no state dict .*; its keys: epoch, arch"),
        ({f"key{i}": i for i in range(20)}, r"its keys: key0, key1, .*key7, …"),
        ([1, 2], "holds no state dict .* but a list"),
        (torch.ones(2), "holds no state dict .* but a Tensor"),
        ({"conv1.weight": torch.ones(1), "fc.bias": torch.ones(1)},
         r"no tensor of SqueezeNet: its keys are conv1\.weight, fc\.bias and not features\.stage1"),
    ],
)  # fmt: skip
def test_the_keys_that_are_there(content, message, tmp_path):
    with pytest.raises(WeightsError, match=message):
        zoo.create(NAME, checkpoint_path=saved(tmp_path, content))


# --------------------------------------------------------------- files of other kinds


def pages(path):
    path.write_text("<!DOCTYPE html>\n<html><title>Sign in</title></html>")


def pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 5\n")


def half(path):
    torch.save({"a": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])


def half_of_an_old_one(path):
    torch.save({"a": torch.zeros(5000)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:9000])


def half_safetensors(path):
    write_state(path, {"a": torch.zeros(5000)})
    path.write_bytes(path.read_bytes()[:9000])


def archive(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("photos/cat.jpg", "x")


def scripted(path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), path)


OTHERS = {
    "Namespace": (
        lambda path: torch.save({"args": argparse.Namespace(lr=1), "model": {}}, path),
        r"holds a pickled argparse\.Namespace, .*save the tensors alone where it was made",
    ),
    "numpy scalar": (
        lambda path: torch.save({"best": np.float64(1)}, path),
        r"holds a pickled numpy\.(_core|core)\.multiarray\.scalar, .*save the tensors alone",
    ),
    "module": (
        lambda path: torch.save(nn.Linear(1, 1), path),
        r"holds a pickled torch\.nn\.modules\.linear\.Linear, .*model\.state_dict\(\)",
    ),
    "old Namespace": (
        lambda path: torch.save(
            argparse.Namespace(), path, _use_new_zipfile_serialization=False
        ),
        r"holds a pickled argparse\.Namespace",
    ),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps({"a": [1.5]}, protocol=4)),
        "neither torch.save nor safetensors wrote it",
    ),
    "HTML page": (pages, "it is a web page, of a login or an error; download"),
    "LFS pointer": (pointer, "it is a Git LFS pointer, not the file itself; `git lfs pull`"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty; fetch or copy it again"),
    "half": (half, "it is cut off: the end of the archive is missing; fetch"),
    "half of an old one": (half_of_an_old_one, "it is cut off, or"),
    "half a safetensors file": (half_safetensors, "it is cut off: 9,000 of 20,... bytes or more"),
    "JSON": (lambda path: path.write_text(json.dumps({"a": 1})), "it is text that begins '.\"a\": 1.'"),
    "Keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n"), r"an HDF5 file \(Keras\)"),
    "archive": (archive, r"it is a ZIP archive of photos/cat\.jpg"),
    "TorchScript": (scripted, r"it is a TorchScript archive; torch\.jit\.load"),
    "noise": (lambda path: path.write_bytes(bytes(range(200, 256))), "neither torch.save nor"),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_file_that_is_refused_says_what_it_holds(kind, suffix, tmp_path):
    make, message = OTHERS[kind]
    make(path := tmp_path / f"file{suffix}")
    with pytest.raises(WeightsError, match=rf"file{suffix}: not a readable.*{message}") as caught:
        zoo.create("lenet5", checkpoint_path=path)
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert "weights_only" not in text


def test_a_wrong_suffix_does_not_matter(model, tmp_path):
    write_state(tmp_path / "a.bin", model.state_dict())
    torch.save(model.state_dict(), tmp_path / "b.safetensors")
    for name in ("a.bin", "b.safetensors"):
        assert same(zoo.create(NAME, checkpoint_path=tmp_path / name), model)


# ----------------------------------------------------------------------------- layouts


def test_keys_that_fit_one_peer_are_recognised(tmp_path):
    """And said; whatever the number of classes, and inside of a wrapper."""
    model = zoo.create("resnet18", num_classes=5)
    theirs = zoo.export_state_dict(model, layout="torchvision")
    file = saved(tmp_path, {"state_dict": prefixed("module.", theirs)})
    with pytest.warns(ZooWarning, match=r"file\.pth: read with the key names of torchvision"):
        assert same(zoo.create("resnet18", checkpoint_path=file), model)


def test_networks_of_equal_tensors_are_never_guessed_between(tmp_path):
    model = zoo.create("resnet50_v1_5", num_classes=2)
    theirs = zoo.export_state_dict(model, layout="torchvision")
    file = saved(tmp_path, theirs)
    with pytest.raises(WeightsError, match=r"is not guessed: pass layout=\"torchvision\"; the same "
                       r"tensors fit resnet50 as well"):  # fmt: skip
        zoo.create("resnet50_v1_5", checkpoint_path=file)
    with pytest.raises(WeightsError, match="pass layout="):
        zoo.load_state_dict(model, theirs)
    zoo.load_state_dict(model, theirs, layout="torchvision")
    message = r"is of torchvision's resnet50, which is `resnet50_v1_5` here: zoo\.create"
    with pytest.raises(WeightsError, match=message):
        zoo.create("resnet50", checkpoint_path=file)
    with pytest.raises(UsageError, match="torchvision's resnet50 is `resnet50_v1_5` here"):
        zoo.create("resnet50", checkpoint_path=file, layout="torchvision")


def test_a_peers_other_network_of_that_name():
    """Where not even the shapes are equal."""
    peer = zoo.create("alexnet_owt", device="meta")
    theirs = zoo.export_state_dict(peer, layout="torchvision")
    with pytest.raises(WeightsError, match="torchvision's alexnet, which is `alexnet_owt` here"):
        zoo.load_state_dict(zoo.create("alexnet", device="meta"), theirs)


def test_arguments_that_no_tensor_shows_are_never_guessed():
    """akamaster's option A pads on both sides, and has no tensors at all."""
    state = zoo.export_state_dict(zoo.create("resnet20_cifar10"), layout="akamaster")
    with pytest.raises(WeightsError, match=r'pass layout="akamaster"; the same tensors fit '
                       r"plain20_cifar10 and resnet20_cifar10 with shortcut_pad='both'"):  # fmt: skip
        zoo.load_state_dict(zoo.create("resnet20_cifar10"), state)
    both = zoo.create("resnet20_cifar10", shortcut_pad="both")
    with pytest.raises(WeightsError, match=r"fit plain20_cifar10 as well"):
        zoo.load_state_dict(both, state)
    zoo.load_state_dict(both, state, layout="akamaster")


def test_a_layout_brings_the_arguments_of_its_networks(tmp_path):
    """They are said; one that is given stays, and what that means is said."""
    state = zoo.export_state_dict(zoo.create("resnet20_cifar10"), layout="akamaster")
    file = saved(tmp_path, state)

    def built(**more):
        given = {"checkpoint_path": file, "layout": "akamaster", **more}
        return zoo.create("resnet20_cifar10", **given).origin.model_args

    with pytest.warns(ZooWarning) as said:
        assert built() == {"shortcut_pad": "both", "num_classes": 10}
    assert [str(each.message) for each in said] == [
        "resnet20_cifar10: the network is built with shortcut_pad='both', as those of akamaster are"
    ]
    assert built(shortcut_pad="both")["shortcut_pad"] == "both"  # nothing to be said
    words = r"of akamaster computes something else .* this resnet20_cifar10: .* shortcut_pad='both'"
    with pytest.warns(ZooWarning, match=words):
        assert built(shortcut_pad="after")["shortcut_pad"] == "after"
    with pytest.warns(ZooWarning, match=words):
        zoo.load_state_dict(zoo.create("resnet20_cifar10"), state, layout="akamaster")


def test_a_layout_of_two_networks_takes_either():
    """Gluon has its 50-layer network with the stride in either convolution."""
    source = resolve("preresnet50")
    layout = Layout(also={"stride_in": "3x3"})
    assert not all(_differences(source, layout))
    other = replace(source, origin=replace(source.origin, model_args={"stride_in": "3x3"}))
    assert not all(_differences(other, layout))
    assert _differences(other, Layout()) == [{}]
    assert _differences(other, Layout({}, {"stride_in": "1x1"})) == [{"stride_in": "1x1"}]


def test_records_have_the_arguments_of_their_layouts():
    for name in zoo.list_pretrained():
        source = resolve(name)
        known = layouts_of(source)
        for layout in {each.layout for each in source.record.sources} & known.keys():
            assert not all(_differences(source, known[layout])), (name, layout)


def test_layouts_are_listed():
    shown = CliRunner().invoke(cli, ["info", "resnet50"]).stdout
    assert "layouts:    pytorchcv; gluon; torchvision's resnet50 is resnet50_v1_5 here" in shown
    shown = CliRunner().invoke(cli, ["info", "resnet20_cifar10"]).stdout
    assert (
        "layouts:    akamaster (whose network has shortcut_pad='both'); pytorchcv (whose " in shown
    )
    assert zoo.info("vgg16").layouts["torchvision"] == {}
    assert dict(zoo.info("resnet20_cifar10").layouts) == {
        "akamaster": {"shortcut_pad": "both"},
        "caffe": {"shortcut": "B"},
        "pytorchcv": {"shortcut": "B"},
    }
    assert "torchvision" not in zoo.info("resnet50").layouts
    assert zoo.info("resnet50").named_by_peers["torchvision"] == "resnet50_v1_5"

"""Weights into networks that differ: other classes, other channels, missing and more
tensors; mapped files; shards and folders.
"""

import json
import os

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from zoo.errors import WeightsError, ZooWarning
from zoo.files import ALIGNMENT, load_state, read_state, write_state
from zoo.weights.loaded import Loaded, adapt_channels

NAME = "squeezenet1_1"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return zoo.create(NAME, num_classes=5).eval()


@pytest.fixture
def file(model, tmp_path):
    write_state(tmp_path / "own.safetensors", model.state_dict())
    return tmp_path / "own.safetensors"


def first_of(state):
    """The key of the convolution on the image."""
    return next(key for key, tensor in state.items() if tensor.ndim == 4)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# ------------------------------------------------------------------------ what differs


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_channels_are_adapted_as_timm_does(channels):
    timm = pytest.importorskip("timm.models._manipulate")
    weight = torch.randn(4, 3, 5, 5)
    theirs = timm.adapt_input_conv(channels, weight)
    assert torch.allclose(adapt_channels(weight, channels), theirs)
    half = adapt_channels(weight.half(), channels)
    assert half.dtype == torch.half


def test_a_grey_image_gives_what_it_gave(model, file):
    """In one channel, and again in three."""
    grey = torch.rand(2, 1, 64, 64)
    with pytest.warns(ZooWarning, match="is adapted: the sum of 3 channels") as said:
        one = zoo.create(NAME, checkpoint_path=file, in_chans=1).eval()
    assert one.in_chans == 1
    with torch.no_grad():
        assert torch.allclose(one(grey), model(grey.expand(-1, 3, -1, -1)), atol=1e-5)
    (details,) = (each.message.details for each in said)
    first = first_of(model.state_dict())
    assert details.adapted == {first: "the sum of 3 channels"}
    assert len(details.loaded) == len(model.state_dict()) - 1
    write_state(file, one.state_dict())
    assert zoo.create(NAME, checkpoint_path=file).in_chans == 1  # the file has as many
    with pytest.warns(ZooWarning, match="1 channels in turn as 3, times 0.333"):
        three = zoo.create(NAME, checkpoint_path=file, in_chans=3).eval()
    with torch.no_grad():
        assert torch.allclose(three(grey.expand(-1, 3, -1, -1)), one(grey), atol=1e-5)


def test_several_convolutions_on_the_image(tmp_path):
    """FractalNet's columns all begin there."""
    torch.manual_seed(0)
    state = zoo.create("fractalnet_c3").state_dict()
    write_state(tmp_path / "f", state)
    with pytest.warns(ZooWarning) as said:
        adapted = zoo.create("fractalnet_c3", checkpoint_path=tmp_path / "f", in_chans=1)
    details = next(each.message.details for each in said if each.message.details)
    ours = adapted.state_dict()
    different = [key for key in state if state[key].shape != ours[key].shape]
    assert [*details.adapted] == different
    assert all(torch.equal(ours[key], state[key].sum(1, keepdim=True)) for key in different)


def test_classes_and_channels_in_one_table(model, file):
    with pytest.warns(ZooWarning) as said:
        other = zoo.create(NAME, checkpoint_path=file, in_chans=1, num_classes=7)
    (warning,) = said
    assert "is adapted" in str(warning.message)
    assert "has 5 classes, 7 are wanted: the body is kept" in str(warning.message)
    table = warning.message.details
    assert [*table.new] == ["head.weight", "head.bias"]
    assert table.missing_keys == [*table.new]
    text = str(table)
    assert "5 classes there, 7 here" in text
    assert "the sum of 3 channels" in text
    assert json.dumps(table.to_dict())
    assert other.num_classes == 7


def test_strict_is_the_default(model):
    other = zoo.create(NAME, num_classes=5)
    found = zoo.load_state_dict(other, model.state_dict())
    assert isinstance(found, Loaded)
    assert not found.missing_keys
    assert not found.unexpected_keys
    state = model.state_dict()
    for change in (
        {"more": torch.ones(1)},
        {"head.weight": torch.ones(7, 512, 1, 1)},
        {first_of(state): state[first_of(state)][:, :1]},
        {"head.bias": torch.ones(5, dtype=torch.int8)},
        {"head.bias": torch.ones(5, dtype=torch.complex64)},
        {"head.bias": torch.ones(5).to_sparse()},
        {"head.bias": torch.ones(5, device="meta")},
    ):
        other = zoo.create(NAME, num_classes=5)
        before = {key: tensor.clone() for key, tensor in other.state_dict().items()}
        with pytest.raises(WeightsError) as caught:
            zoo.load_state_dict(other, {**state, **change})
        assert "\n" not in str(caught.value)
        assert equal(other.state_dict(), before), "half loaded"


def test_what_fits_is_loaded(model):
    state = dict(model.state_dict())
    first = first_of(state)
    del state["head.bias"]
    state |= {"head.weight": torch.ones(7, 512, 1, 1), "more": torch.ones(1)}
    other = zoo.create(NAME, num_classes=5, in_chans=1)
    head = other.head.bias.clone()
    found = zoo.load_state_dict(other, state, strict=False)
    assert found.new == {"head.weight": "7x512x1x1 there, 5x512x1x1 here", "head.bias": "not there"}
    assert found.skipped == {
        "head.weight": "7x512x1x1 there, 5x512x1x1 here",
        "more": "unknown to the network",
    }
    assert found.adapted == {first: "the sum of 3 channels"}
    assert torch.equal(other.head.bias, head)
    ours = other.state_dict()
    assert all(torch.equal(ours[key], state[key]) for key in found.loaded)
    assert torch.equal(ours[first], state[first].sum(1, keepdim=True))
    with pytest.raises(WeightsError, match="has no tensor of"):
        zoo.load_state_dict(other, {"a.weight": torch.ones(2)}, strict=False)
    with pytest.raises(WeightsError, match="no numbers to keep"):
        zoo.load_state_dict(zoo.create(NAME, device="meta"), state, strict=False)


def test_what_fits_of_any_module():
    own = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    peer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    found = zoo.load_state_dict(own, peer.state_dict(), strict=False)
    assert found.adapted == {"0.weight": "the sum of 3 channels"}


def test_a_name_that_is_there_twice(model):
    state = model.state_dict()
    twice = {**state, "_orig_mod.head.bias": torch.zeros(5)}
    with pytest.raises(WeightsError, match=r"holds head\.bias twice: as head\.bias and _orig_mod"):
        zoo.load_state_dict(zoo.create(NAME, num_classes=5), twice)


# ------------------------------------------------------------------------- mapped files


def test_a_file_is_mapped_and_never_changed(model, file):
    content = file.read_bytes()
    other = zoo.create(NAME, checkpoint_path=file).train()
    mapped = [each for each in other.parameters() if _in_file(each, file)]
    sizes = [sum(each.nbytes for each in some) for some in (mapped, other.parameters())]
    assert sizes[0] > 0.95 * sizes[1]
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    other(torch.rand(2, 3, 64, 64)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for each in other.parameters():
            each.fill_(7)
    assert file.read_bytes() == content
    again = zoo.create(NAME, checkpoint_path=file)
    assert equal(again.state_dict(), model.state_dict())
    write_state(file, other.state_dict())  # over the file that is mapped
    assert all((each == 7).all() for each in other.parameters())
    assert not equal(again.state_dict(), other.state_dict())
    assert equal(again.state_dict(), model.state_dict())


def _in_file(tensor, path):
    if not os.path.exists("/proc/self/maps"):
        pytest.skip("the system has no /proc/self/maps")
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().endswith(path.name):
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                if begin <= tensor.data_ptr() < end:
                    return True
    return False


def test_our_files_are_aligned_safetensors(tmp_path):
    state = {
        "odd": torch.randn(3),
        "large": torch.randn(64, 5),
        "number": torch.tensor(4),
        "half": torch.randn(7).half(),
        "brain": torch.randn(9).bfloat16(),
        "flag": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
        "turned": torch.randn(4, 6).T,
        "wide": torch.randn(32, 32),
    }
    write_state(tmp_path / "a", state, {"architecture": "x"})
    found = load_file(tmp_path / "a")
    assert equal(found, state)
    assert all(found[key].dtype == state[key].dtype for key in state)
    assert all(found[key].data_ptr() % ALIGNMENT == 0 for key in ("large", "wide"))


def test_results_are_the_same_to_the_last_bit(model, file, tmp_path):
    images = torch.rand(2, 3, 64, 64)
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    torch.save(model.state_dict(), tmp_path / "torch.pth")
    for path in (file, tmp_path / "plain.safetensors", tmp_path / "torch.pth"):
        with torch.no_grad():
            assert torch.equal(zoo.create(NAME, checkpoint_path=path).eval()(images), model(images))


def test_a_network_on_meta_takes_memory_of_its_own(model):
    """One tensor under two names, a part of a larger one, one turned: none is shared
    with another, nor with who gave it; and in the network's dtype.
    """
    shared = torch.randn(4, 4)
    large = torch.randn(100)
    state = {"0.weight": shared, "0.bias": large[:4], "1.weight": shared, "1.bias": large[4:8]}
    with torch.device("meta"):
        own = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    load_state(own, {**state, "1.weight": shared.double()}, "a")
    assert own[1].weight.dtype == torch.float32
    with torch.device("meta"):
        own = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    zoo.load_state_dict(own, state)
    with torch.no_grad():
        own[0].weight.zero_()
    assert torch.equal(own[1].weight, shared)
    assert own[0].bias.untyped_storage().nbytes() == 16
    assert all(each.requires_grad for each in own.parameters())


# --------------------------------------------------------------------- folders, shards


def test_what_accelerate_writes(model, tmp_path):
    accelerator = Accelerator(cpu=True)
    accelerator.save_model(model, tmp_path / "whole")
    accelerator.save_model(model, tmp_path / "shards", max_shard_size="500KB")
    accelerator.save_model(
        model, tmp_path / "pickles", max_shard_size="500KB", safe_serialization=False
    )
    assert len([*(tmp_path / "shards").glob("*.safetensors")]) > 1
    index = tmp_path / "shards" / "model.safetensors.index.json"
    for path in ("whole", "shards", index, "pickles"):
        other = zoo.create(NAME, checkpoint_path=tmp_path / path)
        assert equal(other.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "../x.safetensors"}}', "'../x.safetensors' is no file beside it"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "'/etc/passwd' is no file beside it"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "not beside it: absent.safetensors"),
        ('{"weight_map": {"a": ["x"]}}', "not an index"),
        ('{"weight_map": 3}', "not an index"),
        ("[" * 100_000, "not an index"),
        ("", "not an index"),
    ],
)
def test_an_index_that_is_refused(tmp_path, index, message):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match=message) as caught:
        read_state(tmp_path)
    assert "\n" not in str(caught.value)


def test_folders_that_are_refused(model, tmp_path):
    with pytest.raises(WeightsError, match=r"without a weights file \(model\.safetensors, pytorch"):
        zoo.create(NAME, checkpoint_path=tmp_path)
    for name in ("model.safetensors", "model_1.safetensors"):
        write_state(tmp_path / name, model.state_dict())
    with pytest.raises(WeightsError, match=r"several networks, model\.safetensors, model_1"):
        zoo.create(NAME, checkpoint_path=tmp_path)
    (tmp_path / "model_1.safetensors").rename(tmp_path / "more.safetensors")
    index = {"weight_map": {"a": "more.safetensors", "b": "model.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="two of its files hold "):
        zoo.create(NAME, checkpoint_path=tmp_path)


def test_lightnings_checkpoints(model, tmp_path):
    """As its trainer writes them, with hyper-parameters and what callbacks keep; its
    WeightAveraging puts the averaged weights where the last ones were.
    """
    wrapped = {f"model.{key}": tensor for key, tensor in model.state_dict().items()}
    content = {
        "epoch": 3,
        "global_step": 40,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": wrapped,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.ones(())}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 0.1, "layers": [1, 2], "name": NAME},
    }
    torch.save(content, tmp_path / "last.ckpt")
    other = zoo.create(NAME, checkpoint_path=tmp_path / "last.ckpt")
    assert equal(other.state_dict(), model.state_dict())
    last = {key: tensor + 1 for key, tensor in wrapped.items()}
    averaged = {
        **content,
        "current_model_state": last,
        "averaging_state": {"n_averaged": torch.tensor(4)},
    }
    torch.save(averaged, tmp_path / "averaged.ckpt")
    with pytest.warns(ZooWarning, match="current_model_state and .*averaged weights state_dict"):
        other = zoo.create(NAME, checkpoint_path=tmp_path / "averaged.ckpt")
    assert equal(other.state_dict(), model.state_dict())

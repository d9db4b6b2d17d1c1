"""What the public functions may be asked about: names, tags, files, runs, modules."""

import json

import pytest
import torch
from torch import nn

import zoo
from zoo import registry
from zoo.api.source import resolve
from zoo.errors import (
    DataError,
    InputError,
    UnknownModelError,
    UsageError,
    WeightsError,
    ZooWarning,
)
from zoo.files import read_about, read_state, write_state
from zoo.spec import Backbone, ImageInput, Origin, Preprocessing, TokenInput, image_shape


@pytest.fixture
def tagged(tmp_path, monkeypatch):
    """A network with the weights `lenet5_modern.mine` on record."""
    from zoo.weights import manifest

    source = '[[weights."lenet5_modern.mine".sources]]\nfile = "mine.pth"\nformat = "torch"\n'
    (tmp_path / "lenet.toml").write_text(source)
    monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path)


def test_names_and_tags(tagged):
    source = resolve("vgg11")
    assert (source.name, source.origin, source.task) == ("vgg11", Origin("vgg11"), "classify")
    assert source.preprocessing == Preprocessing(std=(1 / 255,) * 3)
    assert resolve("lenet5_modern.mine").origin == Origin("lenet5_modern", "mine")
    with pytest.raises(WeightsError, match=r"no weights 'lenet5_modern\.other'; there are: "
                       r"lenet5_modern\.mine"):  # fmt: skip
        resolve("lenet5_modern.other")
    with pytest.raises(WeightsError, match=r"no weights 'vgg11\.x'; vgg11 has none"):
        zoo.info("vgg11.x")
    with pytest.raises(UnknownModelError, match="no network 'vgg_16': did you mean vgg16"):
        resolve("vgg_16")
    with pytest.raises(UnknownModelError, match=r"no network .vgg_16\.tag."):
        resolve("vgg_16.tag")
    with pytest.raises(UsageError, match="5 is no network: expected a name, a run folder"):
        resolve(5)


def test_a_name_wins_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg11").mkdir()
    with pytest.warns(ZooWarning, match=r"'vgg11' is the network of that name; the folder is "
                      r"\./vgg11"):  # fmt: skip
        assert resolve("vgg11").origin == Origin("vgg11")
    for path in ("./vgg11", tmp_path / "vgg11", str(tmp_path / "vgg11")):
        with pytest.raises(UsageError, match=r"is no run folder: it has no config\.json"):
            resolve(path)
    (tmp_path / "other").mkdir()
    with pytest.raises(UsageError, match="is no run folder"):
        resolve("other")
    (tmp_path / "other" / "config.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        resolve("other")


def test_a_weights_file_of_ours_says_what_it_is(tmp_path):
    torch.manual_seed(2)
    model = zoo.create("lenet5_modern", num_classes=3, in_chans=3).eval()
    about = {"architecture": "lenet5_modern", "model_args": {"num_classes": 3, "in_chans": 3}}
    about |= {"num_classes": 3, "classes": ["a", "b", "c"]}
    about |= {"preprocessing": model.preprocessing.to_dict()}
    write_state(tmp_path / "mine.safetensors", model.state_dict(), about)
    assert read_about(tmp_path / "mine.safetensors") == json.loads(json.dumps(about))
    source = resolve(tmp_path / "mine.safetensors")
    assert source.classes == ("a", "b", "c")
    assert source.preprocessing.input_size == (3, 28, 28)
    again = zoo.create(str(tmp_path / "mine.safetensors")).eval()
    x = torch.randn(1, 3, 28, 28)
    assert torch.equal(again(x), model(x))
    assert zoo.profile(tmp_path / "mine.safetensors").macs == zoo.profile(model).macs
    assert read_state(tmp_path / "mine.safetensors").keys() == model.state_dict().keys()
    for file in ("bare.safetensors", "bare.pth"):
        if file.endswith("pth"):
            torch.save(model.state_dict(), tmp_path / file)
        else:
            write_state(tmp_path / file, model.state_dict())
        with pytest.raises(UsageError, match=f"{file} does not say of which network it is"):
            zoo.create(tmp_path / file)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_modules():
    model = zoo.create("vgg11", device="meta", num_classes=5)
    assert model.origin == Origin("vgg11", "", {"num_classes": 5})
    for what in (model, nn.DataParallel(model)):
        source = resolve(what)
        assert (source.name, source.origin) == ("vgg11", model.origin)
        assert source.variant is zoo.info("vgg11").variant
    source = resolve(nn.Linear(3, 2))
    assert (source.name, source.origin, source.inputs) == ("Linear", None, ())
    net = zoo.create("vgg11", device="meta", features_only=True)
    assert net.origin == Origin("vgg11")
    mine = nn.Linear(1, 1)
    mine.origin = "Krakow"  # an attribute of the user's own
    assert resolve(mine).origin is None
    with pytest.raises(UsageError, match=r"Linear was not made by zoo\.create: nothing is known"):
        zoo.info(mine)


@pytest.mark.parametrize(
    "verb",
    [
        zoo.info,
        zoo.transforms,
        zoo.profile,
        zoo.verify,
        zoo.memory,
        zoo.export_state_dict,
        lambda name: zoo.create(name, device="meta"),
        lambda name: zoo.compare([name]),
    ],
)
def test_the_registry_is_asked_once_per_call(verb, monkeypatch):
    asked = []
    lookup = registry.lookup
    monkeypatch.setattr(registry, "lookup", lambda name: (asked.append(name), lookup(name))[1])
    verb("lenet5_modern")
    assert asked == ["lenet5_modern"]


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (32, (3, 32, 32)),
        ("32", (3, 32, 32)),
        ((20, 30), (3, 20, 30)),
        ("1x20x30", (1, 20, 30)),
        ([1, 2, 3], (1, 2, 3)),
    ],
)
def test_one_reading_of_an_input_size(size, shape):
    assert image_shape(size) == shape


@pytest.mark.parametrize("size", [0, -1, "", "a", "3x", (1, 2, 3, 4), (), 2.5j, (3, 0, 8), None])
def test_what_is_no_input_size(size):
    with pytest.raises(InputError, match="expected the side in pixels"):
        image_shape(size)


def test_preprocessing_goes_through_json():
    own = Preprocessing((1, 32, 32), (0.1,), (0.9,), 1.0, "squash", "bicubic")
    assert Preprocessing.from_dict(json.loads(json.dumps(own.to_dict()))) == own
    assert own.resized("3x8x9") == Preprocessing(
        (3, 8, 9), (0.1,) * 3, (0.9,) * 3, 1.0, "squash", "bicubic"
    )
    assert Preprocessing.from_dict({"input_size": [3, 5, 5], "classifier": "fc"}).mean == (
        0.485,
        0.456,
        0.406,
    )


def test_inputs_make_examples():
    image = ImageInput((3, 8, 6), min_size=4)
    assert image.example(2).shape == (2, 3, 8, 6)
    assert image.example(2, device="meta", model_args={"in_chans": 1}).shape == (2, 1, 8, 6)
    assert ImageInput((3, 8, 6), frames=4).example().shape == (1, 4, 3, 8, 6)
    assert str(image) == "3x8x6, 4 or larger"
    assert str(ImageInput((1, 5, 5), fixed=True)) == "1x5x5 only"
    tokens = TokenInput(50, 7).example(40, model_args={"vocab_size": 5})
    assert (tokens.shape, tokens.dtype) == ((40, 7), torch.int64)
    assert 0 <= tokens.min() < tokens.max() < 5
    assert str(TokenInput(10_000, 35)) == "35 tokens of 10,000"
    with pytest.raises(InputError, match="this network takes 7 tokens of 50"):
        TokenInput(50, 7).resized(32)


def test_files_are_whole_or_not_there(tmp_path):
    from zoo.errors import ZooError
    from zoo.files import replaced, write

    write(tmp_path / "a.txt", "one")
    with pytest.raises(RuntimeError, match="stop"), replaced(tmp_path / "a.txt") as path:
        path.write_text("two")
        raise RuntimeError("stop")
    assert (tmp_path / "a.txt").read_text() == "one"
    with pytest.raises(ZooError, match=r"b\.txt cannot be written: No such file or directory"):
        write(tmp_path / "none" / "b.txt", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_backbone_by_another_name():
    assert Backbone("vgg19").output == "pre_logits"

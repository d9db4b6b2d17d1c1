"""From a name to a network with published weights: records, the cache, and what is said
on the way. Real files come from `ZOO_MIRROR`, real images from `ZOO_DATA`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from misbehaving_server import serving
from safetensors.torch import load_file, save_file
from torch.utils.data import TensorDataset

import zoo
from zoo import registry
from zoo.api import pretrained, records
from zoo.api.better import better
from zoo.cli import cli
from zoo.errors import UsageError, WeightsError, ZooWarning
from zoo.files import read_about
from zoo.spec import Preprocessing
from zoo.weights import manifest
from zoo.weights.records import CHECKED, Metric, read_record

OWN = [
    name for name in zoo.list_models() if registry.entry(name).distribution.startswith("classic")
]
AKAMASTER = [f"resnet{depth}_cifar10" for depth in (20, 32, 44, 56)]
TAG = "akamaster_cifar10"


@pytest.fixture
def mirror():
    folder = os.environ.get("ZOO_MIRROR") or pytest.skip("ZOO_MIRROR is not set")
    return Path(folder)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def written(tmp_path, monkeypatch, cache):
    """A function that puts a state dict into a mirror, and writes a manifest with it as
    `NAME.mine`; more keys of the record, and sources before it, as TOML.
    """
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path / "manifests")
    (tmp_path / "mirror").mkdir()
    (tmp_path / "manifests").mkdir()

    def write(
        state, more="", file="mine.safetensors", sources="", name="lenet5_modern", family="lenet"
    ):
        if state is not None:
            save_file(state, tmp_path / "mirror" / file)
        (tmp_path / "manifests" / f"{family}.toml").write_text(
            f'[weights."{name}.mine"]\n{more}\n{sources}\n'
            f'[[weights."{name}.mine".sources]]\nfile = "{file}"\nformat = "safetensors"\n'
        )
        return tmp_path / "mirror" / file

    return write


def notes(call):
    """What a call gives, and the notes that it makes."""
    with pytest.warns(ZooWarning) as said:
        result = call()
    return result, [str(each.message) for each in said]


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)


# ------------------------------------------------------------------------------ records


def test_every_network_has_weights_or_is_said_to_have_none():
    """A default that was never seen only where all others were not either."""
    for name in OWN:
        tag, nearest = records.default_tag(name), records.nearest_published(name)
        assert bool(tag) != bool(nearest), name
        known = records.weight_records(name)
        if not tag:
            assert not known
            first = re.match(r"\w+", nearest)[0]
            assert nearest == "train here" or records.default_tag(first), nearest
            continue
        assert tag in manifest.manifest(registry.entry(name).family)["defaults"].values()
        checked = {each.checked for each in known.values()}
        ours = known[f"{name}.{tag}"]
        assert ours.checked != "never seen" or checked == {"never seen"}, name
        images = zoo.info(name).variant.image
        assert ours.preprocessing or name == "nin" or not images
    assert len(zoo.list_pretrained()) >= 224


def test_a_file_name_means_one_file_everywhere():
    """In the cache and in a mirror it is all that tells files apart."""
    seen = {}
    for name in OWN:
        for record in records.weight_records(name).values():
            for each in record.sources:
                for file in (each.remote.file, *each.remote.aliases):
                    known = seen.setdefault(file, each.remote)
                    assert (known.size or each.remote.size) == (each.remote.size or known.size)
                    for kind in known.digests.keys() & each.remote.digests.keys():
                        assert known.digests[kind] == each.remote.digests[kind], file
                    both = {**known.digests, **each.remote.digests}
                    if {"sha256", "sha256_prefix"} <= both.keys():
                        assert both["sha256"].startswith(both["sha256_prefix"]), file


SOURCE = {"file": "a.pth", "format": "torch"}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"sources": [SOURCE], "licenze": "MIT"}, "has no key 'licenze': did you mean licence"),
        ({"licence": "MIT"}, "sources are missing"),
        ({"sources": [{"file": "a.pth"}]}, "a source without format"),
        ({"sources": [{**SOURCE, "md5": "0"}]}, r"sources has no key 'md5'"),
        ({"sources": [{**SOURCE, "sha1": "0"}]}, "'0' is no sha1 digest"),
        ({"sources": [{**SOURCE, "file": "../a"}]}, "'../a' is no file name"),
        ({"sources": [SOURCE], "checked": "yes"}, "checked='yes': expected one of ran here"),
        ({"sources": [SOURCE], "preprocessing": {"size": 3}}, "preprocessing has no key 'size'"),
        ({"sources": [SOURCE], "metrics": [{"top1": 3.0}]}, "without its data or protocol"),
    ],
)
def test_a_record_is_checked_when_it_is_read(entry, words):
    with pytest.raises(WeightsError, match=words) as raised:
        read_record("net.tag", entry)
    assert "\n" not in str(raised.value)


def test_the_file_with_a_wrong_record_is_named(written, tmp_path):
    path = written(None, more="licenze = 3").parents[1] / "manifests" / "lenet.toml"
    with pytest.raises(WeightsError, match=f"^{path}: weights 'lenet5_modern.mine' has no key"):
        zoo.list_pretrained("lenet*")
    path.write_text('[defaults]\nlenet5 = "none"\n')
    with pytest.raises(WeightsError, match=r"the default lenet5\.none is not among the weights"):
        zoo.list_pretrained("lenet*")


def test_records_are_read_without_torch():
    code = (
        "import sys; from click.testing import CliRunner; from zoo.cli import cli\n"
        "for args in (['list', '--pretrained'], ['weights', 'list'], ['weights', 'verify']):\n"
        "    assert not CliRunner().invoke(cli, args).exit_code, args\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# ------------------------------------------------------------------ the published files


@pytest.mark.parametrize("name", AKAMASTER)
def test_the_numbers_are_those_of_the_published_file(name, mirror):
    with pytest.warns(ZooWarning):
        model = zoo.create(name, pretrained=True).eval()
    (file,) = [each.remote.file for each in records.weight_records(name)[f"{name}.{TAG}"].sources]
    by_hand = zoo.create(
        name, checkpoint_path=mirror / file, layout="akamaster", shortcut_pad="both"
    )
    assert same(model.state_dict(), by_hand.state_dict())
    assert all(each.requires_grad for each in model.parameters())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(x), by_hand.eval()(x))
    assert (model.origin.tag, model.origin.model_args) == (TAG, {"shortcut_pad": "both"})
    cfg = model.pretrained_cfg
    assert cfg["url"].endswith(f"pretrained_models/{file}")
    assert (cfg["license"], cfg["tag"]) == ("BSD-2-Clause", TAG)
    assert model.preprocessing == Preprocessing((3, 32, 32), crop_pct=1.0)


def test_accuracy_on_real_images(mirror):
    """Every tenth test image of CIFAR-10 through the transform of the weights: 91.3 %
    right; of all 10,000 the published 91.73.
    """
    from torchvision import datasets

    folder = Path(os.environ.get("ZOO_DATA") or pytest.skip("ZOO_DATA is not set"))
    if not (folder / "cifar10" / "test").is_dir():
        pytest.skip("ZOO_DATA has no cifar10/test")
    transform = zoo.transforms(f"resnet20_cifar10.{TAG}")
    data = datasets.ImageFolder(folder / "cifar10" / "test", transform)
    chosen = [data[i] for i in range(0, len(data), 10)]
    with pytest.warns(ZooWarning), torch.no_grad():
        model = zoo.create("resnet20_cifar10", pretrained=True).eval()
        logits = model(torch.stack([x for x, _ in chosen]))
    labels = torch.tensor([label for _, label in chosen])
    right = (logits.argmax(1) == labels).float().mean().item()
    assert right == pytest.approx(0.913, abs=0.002)


def test_the_second_load_converts_hashes_and_writes_nothing(mirror, cache, monkeypatch):
    _, said = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True))
    assert said == [
        f"resnet20_cifar10.{TAG}: 1,099,231 bytes; licence: BSD-2-Clause; this project ran them",
        f"resnet20_cifar10.{TAG}: the network is built with shortcut_pad='both', as these weights "
        "need it",
    ]

    def forbidden(*args, **kwargs):
        raise AssertionError

    for name in ("obtained", "convert", "measured", "locked", "write_state"):
        monkeypatch.setattr(pretrained, name, forbidden)
    monkeypatch.setenv("ZOO_MIRROR", "/nowhere")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    model, said = notes(lambda: zoo.create(f"resnet20_cifar10.{TAG}"))
    assert len(said) == 1  # the arguments alone
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    if sys.platform == "linux":
        assert f"{TAG}-12fca82f0beb.safetensors" in Path("/proc/self/maps").read_text()
    with torch.no_grad():
        model.head.weight.zero_()  # which the file does not see
    again, _ = notes(lambda: zoo.create(f"resnet20_cifar10.{TAG}"))
    assert again.head.weight.abs().sum() > 1


def test_what_the_converted_file_says(mirror, cache):
    with pytest.warns(ZooWarning):
        zoo.create("resnet20_cifar10", pretrained=True)
    (path,) = (cache / "converted").iterdir()
    assert path.name == f"resnet20_cifar10.{TAG}-12fca82f0beb.safetensors"
    about = read_about(path)
    assert about["source"]["sha256"].startswith("12fca82f0beb")
    assert (about["source"]["file"], about["licence"]) == ("resnet20-12fca82f.th", "BSD-2-Clause")
    assert len(about["converter"]) == 12
    assert path.stat().st_mode & 0o044 == 0o044
    model = zoo.create(path)  # it is a weights file of ours too
    assert (model.origin.tag, model.origin.model_args) == (TAG, {"shortcut_pad": "both"})


def test_a_converted_file_that_is_not_what_it_would_be_now_is_made_anew(mirror, cache, monkeypatch):
    def first_words():
        return [each.partition(": ")[2][:9] for each in notes(create)[1]]

    def create():
        return zoo.create("resnet20_cifar10", pretrained=True)

    assert first_words() == ["1,099,231", "the netwo"]
    assert first_words() == ["the netwo"]
    monkeypatch.setattr(pretrained, "CONVERTER", 999)
    assert first_words() == ["1,099,231", "the netwo"]
    assert first_words() == ["the netwo"]
    (path,) = (cache / "converted").iterdir()
    path.write_bytes(path.read_bytes()[:5000])
    assert first_words() == ["1,099,231", "the netwo"]


# ---------------------------------------------------------------- other arguments, tags


def test_other_classes_keep_the_body(mirror):
    model, said = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True, num_classes=37))
    assert f"resnet20_cifar10.{TAG}: the weights have 10 classes, 37 are wanted" in said[-1]
    whole, _ = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True))
    assert (model.num_classes, model.head.out_features) == (37, 37)
    assert same(model.features.state_dict(), whole.features.state_dict())
    assert 0 < model.head.weight.abs().max() < 1
    vectors, _ = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True, num_classes=0))
    assert vectors(torch.randn(2, 3, 32, 32)).shape == (2, 64)
    maps, _ = notes(lambda: zoo.create(f"resnet20_cifar10.{TAG}", features_only=True))
    assert same(maps.model.features.state_dict(), whole.features.state_dict())
    state = zoo.export_state_dict(whole, "akamaster")
    with pytest.warns(ZooWarning, match="built with"):
        assert same(zoo.export_state_dict(f"resnet20_cifar10.{TAG}", "akamaster"), state)


def test_a_tag_without_its_numbers(mirror):
    """The network as the weights need it; the numbers of a file of one's own."""
    model = zoo.create(f"resnet20_cifar10.{TAG}", pretrained=False)
    assert (model.origin.tag, model.origin.model_args) == (TAG, {"shortcut_pad": "both"})
    assert model.pretrained_cfg["url"] is None
    file = mirror / "resnet20-12fca82f.th"
    filled = zoo.create(f"resnet20_cifar10.{TAG}", checkpoint_path=file, layout="akamaster")
    assert filled.origin.model_args["shortcut_pad"] == "both"
    with pytest.raises(UsageError, match="two sets of weights"):
        zoo.create("resnet20_cifar10", pretrained=True, checkpoint_path=file)
    assert zoo.profile(f"resnet20_cifar10.{TAG}").params == 269_722


def test_other_channels_are_adapted_as_those_of_a_file(mirror):
    """A grey image gives what it gave in three channels; with another head as well."""
    whole, _ = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True))
    with pytest.warns(ZooWarning) as said:
        one = zoo.create("resnet20_cifar10", pretrained=True, in_chans=1)
    assert str(said[-1].message) == (
        f"resnet20_cifar10.{TAG}: the weights are for images of other channels, and "
        "features.conv1.conv.weight is adapted: the sum of 3 channels"
    )
    table = said[-1].message.details
    assert table.adapted == {"features.conv1.conv.weight": "the sum of 3 channels"}
    assert len(table.loaded) == len(whole.state_dict()) - 1
    grey = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = whole.eval()(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(one.eval()(grey), expected, atol=1e-4, rtol=1e-4)
    assert (one.in_chans, one.preprocessing.input_size) == (1, (1, 32, 32))
    assert len(one.preprocessing.mean) == 1
    wanted = {"in_chans": 4, "num_classes": 7}
    four, said = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True, **wanted))
    assert "3 channels in turn as 4, times 0.75; " in said[-1]
    assert "the weights have 10 classes, 7 are wanted: the body is kept" in said[-1]
    assert four(torch.rand(2, 4, 32, 32)).shape == (2, 7)


def test_channels_of_a_layer_that_is_no_convolution_are_refused(written):
    written(dict(zoo.create("ciresan_mlp1").state_dict()), name="ciresan_mlp1", family="ciresan")
    words = "in_chans=3 is not what the weights take, and they have no convolution on the image"
    with pytest.warns(ZooWarning), pytest.raises(UsageError, match=words) as raised:
        zoo.create("ciresan_mlp1", pretrained=True, in_chans=3)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ciresan_mlp2", "nobody publishes any; the nearest that has some: ciresan_mlp1"),
        ("plain18", "nobody publishes any; the nearest that has some: resnet18"),
        ("resnet20_cifar10.none", "there are: .*akamaster_cifar10"),
    ],
)
def test_no_weights(name, words):
    with pytest.raises(WeightsError, match=words) as raised:
        zoo.create(name, pretrained=True)
    assert "\n" not in str(raised.value)


def test_transforms_are_those_of_the_weights():
    stretched = zoo.info("googlenet").weights["googlenet.bvlc_in1k"].preprocessing
    assert (stretched.crop_mode, stretched.crop_pct) == ("squash", 0.875)
    steps = repr(zoo.transforms("googlenet.bvlc_in1k"))
    assert "Resize(size=[256, 256]" in steps
    assert "CenterCrop(size=" in steps
    assert "Resize(size=[256]" in repr(zoo.transforms("googlenet"))


def test_better_weights_of_a_variant_are_named(mirror, monkeypatch):
    """By the same data, protocol and measure alone."""
    known = {**records.weight_records("resnet50"), **records.weight_records("resnet50_v1_5")}
    paper, later = known["resnet50.cv_in1k"], known["resnet50_v1_5.tv_in1k_v2"]
    assert better(paper, later).endswith("(ILSVRC-2012 val, single centre crop)")
    assert not better(later, paper)
    other = replace(later, metrics=(Metric(data="ILSVRC-2012 val", protocol="ten", top1=99),))
    assert not better(paper, other)
    monkeypatch.setattr(pretrained, "converted", lambda source, progress: Path("nowhere"))
    source = pretrained.published(zoo.api.source.resolve("resnet50_v1_5"))
    assert source.name == "resnet50_v1_5.tv_in1k_v2"
    _, said = notes(lambda: pretrained.published(zoo.api.source.resolve("resnet50")))
    assert "resnet50_v1_5 " in said[0]
    assert " has better weights: " in said[0]


# --------------------------------------------------------------- records of other kinds


def test_half_precision_and_files_without_batch_counters(written):
    model = zoo.create("lenet5_modern")
    written({key: each.half() for key, each in model.state_dict().items()})
    loaded, said = notes(lambda: zoo.create("lenet5_modern", pretrained=True))
    assert "licence: not stated; this project never saw the file" in "; ".join(said)
    assert "their preprocessing is not known" in said[-1]
    assert {each.dtype for each in loaded.state_dict().values()} == {torch.float32}
    assert torch.equal(loaded.head.weight, model.head.weight.half().float())


def test_weights_of_a_part(written):
    model = zoo.create("lenet5_modern")
    state = {k: v for k, v in model.state_dict().items() if k.startswith("features.")}
    written(state, more='part = "features"')
    loaded, said = notes(lambda: zoo.create("lenet5_modern", pretrained=True))
    assert said[-1] == ("lenet5_modern.mine: the weights have no neck and no head: newly drawn")
    assert same(loaded.features.state_dict(), model.features.state_dict())
    assert not torch.equal(loaded.head.weight, model.head.weight)
    assert loaded.head.weight.abs().max() > 0


def test_a_file_that_is_not_of_the_network_is_refused(written, cache):
    model = zoo.create("lenet5_modern")
    state = dict(model.state_dict())
    for key, value in (
        ("head.weight", torch.zeros(10, 83)),
        ("head.weight", torch.full((10, 84), torch.nan)),
        ("more", torch.zeros(1)),
    ):
        file = written({**state, key: value})
        with pytest.raises(WeightsError, match=key.replace(".", r"\.")) as raised:
            zoo.create("lenet5_modern", pretrained=True)
        assert "\n" not in str(raised.value)
        assert not list(cache.glob("converted/*"))
        (cache / file.name).unlink()
        (cache / "receipts" / f"{file.name}.json").unlink()


def test_the_second_source_is_taken_where_the_first_is_not_to_be_had(written):
    first = '[[weights."lenet5_modern.mine".sources]]\nfile = "other.pth"\nformat = "torch"'
    model = zoo.create("lenet5_modern")
    file = written(dict(model.state_dict()), sources=first)
    loaded, _ = notes(lambda: zoo.create("lenet5_modern", pretrained=True))
    assert same(loaded.state_dict(), model.state_dict())
    assert loaded.pretrained_cfg["file"] == "mine.safetensors"
    file.unlink()
    unread = first.replace("torch", "safetensors") + '\nlayout = "nobody"'
    written(None, sources=unread, file="gone.safetensors")
    words = "other.pth has the key names of nobody, which are not known for lenet5_modern; gone"
    with pytest.raises(WeightsError, match=words):
        zoo.create("lenet5_modern", pretrained=True)


def test_a_file_at_hand_is_taken_before_the_network_is_asked(written, cache, monkeypatch, tmp_path):
    """In the manifest's order where several are at hand, and where none is."""
    state = dict(zoo.create("lenet5_modern").state_dict())
    with serving() as server:
        monkeypatch.delenv("ZOO_OFFLINE")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        first = (
            '[[weights."lenet5_modern.mine".sources]]\nformat = "safetensors"\n'
            f'file = "first.safetensors"\nurls = ["{server.address}/good/first.safetensors"]'
        )
        second = written(state, sources=first)
        server.files["/good/first.safetensors"] = second.read_bytes()

        def taken():
            model, _ = notes(lambda: zoo.create("lenet5_modern", pretrained=True))
            assert same(model.state_dict(), state)
            shutil.rmtree(cache / "converted")
            return model.pretrained_cfg["file"], server.served["good"]

        assert taken() == ("mine.safetensors", 0)  # from the mirror's folder
        second.unlink()
        assert taken() == ("mine.safetensors", 0)  # from the cache
        shutil.rmtree(cache)
        assert taken() == ("first.safetensors", 1)
        save_file(state, second)
        assert taken() == ("first.safetensors", 1)
        shutil.rmtree(cache)
        shutil.copy(second, second.with_name("first.safetensors"))
        assert taken() == ("first.safetensors", 1)


def test_a_cache_that_is_only_read(written, small_disk, monkeypatch):
    """The published file in it is converted anew each time, without writing; one that
    is not in it cannot be fetched.
    """
    state = dict(zoo.create("lenet5_modern").state_dict())
    file = written(state)
    shutil.copy(file, small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for _ in range(2):
        model, said = notes(lambda: zoo.create("lenet5_modern", pretrained=True, num_classes=3))
        assert said[0] == (
            f"lenet5_modern.mine: the cache {small_disk} is read-only and has only the published "
            "mine.safetensors: it is converted anew each time; ZOO_CACHE names another folder; "
            "licence: not stated; this project never saw the file"
        )
        assert len(said) == 3
        assert same(
            model.features.state_dict(), {k[9:]: v for k, v in state.items() if "feat" in k}
        )
        assert (model.origin.tag, model.pretrained_cfg["file"]) == ("mine", "mine.safetensors")
    exported, _ = notes(lambda: zoo.export_state_dict("lenet5_modern.mine"))
    assert same(exported, state)
    assert [path.name for path in small_disk.iterdir()] == ["mine.safetensors"]
    written(state, file="other.safetensors")
    words = f"lenet5_modern.mine is not in the cache {small_disk}, which is read-only: ZOO_CACHE "
    with pytest.raises(WeightsError, match=f"^{words}names another folder$"):
        zoo.create("lenet5_modern", pretrained=True)


# ----------------------------------------------------------------- finetune and predict


def photos(count=24):
    return TensorDataset(torch.randn(count, 3, 32, 32), torch.arange(count) % 4)


def test_fine_tuning_begins_with_the_default_weights(mirror, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = {"val": photos(8), "classes": list("abcd"), "epochs": 1, "progress": False}
    run, _ = notes(
        lambda: zoo.finetune(
            "resnet20_cifar10",
            photos(),
            lr=1e-12,
            weight_decay=0,
            out="run",
            **{**options, "progress": True},
        )
    )
    assert run.config["initial_weights"] == f"resnet20_cifar10.{TAG}"
    assert (run.config["tag"], run.config["model_args"]) == (TAG, {"shortcut_pad": "both"})
    assert f"from resnet20_cifar10.{TAG}; " in capfd.readouterr().err
    published, _ = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True))
    key = "features.stage1.0.conv1.weight"
    torch.testing.assert_close(run.model.state_dict()[key], published.state_dict()[key])
    monkeypatch.setattr(manifest, "weights_folder", lambda: tmp_path)  # the record is gone
    assert zoo.create("run").origin.model_args == {"shortcut_pad": "both"}
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    scratch = zoo.finetune("resnet20_cifar10", photos(), pretrained=False, **options)
    assert (scratch.config["initial_weights"], scratch.config["tag"]) == ("random", "")
    nothing = zoo.finetune("lenet5", "digits", pretrained=False, epochs=1, progress=False)
    assert nothing.config["initial_weights"] == "random"


def test_fine_tuning_is_never_random_in_silence(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_MIRROR", "")
    data = {"val": photos(8), "classes": list("abcd"), "progress": False}
    for words, call in (
        ("is not here, and ZOO_OFFLINE", lambda: zoo.finetune("resnet18", photos(), **data)),
        (
            "nobody publishes any",
            lambda: zoo.finetune("nin_cifar100", photos(), pretrained=True, **data),
        ),
    ):
        with pytest.raises(WeightsError, match=words):
            call()
    done = CliRunner().invoke(cli, ["finetune", "x", "--data", "digits", "--help"])
    assert "--pretrained / --from-scratch" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_predictions_by_name(mirror, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 32), "red").save(tmp_path / "red.png")
    names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    found, _ = notes(lambda: zoo.predict("resnet20_cifar10", tmp_path / "red.png", classes=names))
    model, _ = notes(lambda: zoo.create("resnet20_cifar10", pretrained=True))
    x = zoo.transforms(f"resnet20_cifar10.{TAG}")(Image.open(tmp_path / "red.png"))[None]
    with torch.no_grad():
        assert found[0].label == names[int(model.eval()(x).argmax())]


# --------------------------------------------------------------------- the command line


def invoke(*args):
    with pytest.warns(ZooWarning) if args[1] in ("get", "convert") else nullcontext():
        return CliRunner().invoke(cli, args)


def test_lists_and_info():
    text = CliRunner().invoke(cli, ["list", "--pretrained", "resnet20*"]).stdout
    (line,) = [each for each in text.splitlines() if TAG in each]
    assert re.split(r"  +", line)[1:6] == ["1.1", "91.73", "BSD-2-Clause", "ran here", "CIFAR-10 test, one view of 32x32"]  # fmt: skip
    rows = json.loads(CliRunner().invoke(cli, ["list", "--pretrained", "--json"]).stdout)
    assert [row["name"] for row in rows] == zoo.list_pretrained()
    assert {row["checked"] for row in rows} == CHECKED.keys()
    assert all(row["bytes"] or row["about_bytes"] for row in rows)
    facts = zoo.info("resnet20_cifar10").facts()["weights"].splitlines()
    assert (
        f"resnet20_cifar10.{TAG} (default); 1,099,231 bytes; 91.73 % top-1 (CIFAR-10 test, one "
        "view of 32x32); licence: BSD-2-Clause; this project ran them"
    ) in facts
    assert zoo.info("plain18").facts()["weights"] == (
        "nobody publishes any; the nearest that has some: resnet18"
    )
    known = json.loads(CliRunner().invoke(cli, ["info", "resnet18", "--json"]).stdout)
    assert known["weights"]["resnet18.tv_in1k_v1"]["licence"].startswith("not stated")


def test_the_verb_weights(mirror, cache, tmp_path):
    name = f"resnet20_cifar10.{TAG}"
    assert invoke("weights", "path").stdout.strip() == str(cache)
    gone = invoke("weights", "path", name)
    assert f"zoo weights get {name}" in str(gone.exception)
    path = Path(invoke("weights", "get", name).stdout.strip())
    assert path.is_file()
    assert invoke("weights", "path", "resnet20_cifar10").stdout.strip() == str(path)
    (row,) = [
        row
        for row in json.loads(invoke("weights", "list", "resnet20*", "--json").stdout)
        if row["cached"]
    ]
    assert (row["name"], row["cached"]) == (name, "converted")
    out = tmp_path / "out.safetensors"
    assert invoke("weights", "convert", name, "--out", str(out)).exit_code == 0
    assert same(load_file(out), load_file(path))
    assert invoke("weights", "verify").exit_code == 0
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    wrong = invoke("weights", "verify", "--json")
    assert wrong.exit_code == 1
    faults = {Path(row["path"]).name: row["fault"] for row in json.loads(wrong.stdout)}
    assert faults["resnet20-12fca82f.th"] == ""
    assert faults[path.name].startswith("changed since")
    assert "which weights?" in str(invoke("weights", "clear").exception)
    assert "no weights match" in str(invoke("weights", "clear", "nonsense").exception)
    assert invoke("weights", "clear", "resnet20*").stdout.count("removed") == 2
    assert not path.exists()
    assert invoke("weights", "clear", "--all").exit_code == 0

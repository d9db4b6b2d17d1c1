"""Weights that were trained here and lie in the package: whole, offline, and as good as
their records say.
"""

import json
import os
import re
import tomllib
from hashlib import sha256
from pathlib import Path

import pytest

import zoo
from zoo.training.recipe_files import open_recipe, recipe_of
from zoo.weights.manifest import default_tag, records

FOLDER = Path(__file__).parent.parent / "weights"
SHIPPED = {
    name: (path.stem, entry)
    for path in sorted(FOLDER.glob("*.toml"))
    for name, entry in tomllib.loads(path.read_text(encoding="utf-8")).get("weights", {}).items()
    if (FOLDER / f"{name}.safetensors").is_file()
}
DATA = Path(os.environ.get("ZOO_DATA") or "none")


def test_what_is_shipped_is_known():
    assert {f"{path.stem}" for path in FOLDER.glob("*.safetensors")} == set(SHIPPED)
    assert "lenet5_modern.zoo_mnist" in SHIPPED
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10 * 2**20


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_whole_and_loads_offline(name, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setenv("ZOO_MIRROR", "")
    family, _ = SHIPPED[name]
    record = records(family)[name]
    content = (FOLDER / f"{name}.safetensors").read_bytes()
    (source,) = record.sources
    assert source.remote.size == len(content)
    assert source.remote.digests["sha256"] == sha256(content).hexdigest()
    assert str(Path.home()).encode() not in content, "no place of the machine that trained it"
    model = zoo.create(name)
    assert model.num_classes == 10
    assert record.licence == "Apache-2.0"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_log_is_that_of_the_recipe(name):
    """As many epochs, and the course of the rate that the named command has."""
    _, entry = SHIPPED[name]
    words = entry["recipe"].split()
    assert words[:3] == ["zoo", "train", name.partition(".")[0]]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    recipe = recipe_of(words[2]) if "--recipe" not in given else open_recipe(given["--recipe"])
    log = (FOLDER / f"{name}.log.jsonl").read_text().splitlines()
    epochs = [json.loads(line) for line in log]
    assert [each["epoch"] for each in epochs] == [*range(1, recipe.recipe.epochs + 1)]
    assert max(each["lr"] for each in epochs) <= recipe.recipe.lr
    assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_as_good_as_its_record_says(name):
    data = DATA / ("mnist" if "mnist" in name else "cifar10")
    if not data.is_dir():
        pytest.skip("ZOO_DATA names no folder with data sets")
    _, entry = SHIPPED[name]
    (metric,) = entry["metrics"]
    wrong, images = re.search(r"([\d,]+) of ([\d,]+) wrong", metric["protocol"]).groups()
    found = zoo.evaluate(name, "mnist" if "mnist" in name else data, progress=False)
    assert found.images == int(images.replace(",", "")) == 10_000
    # a rounding of another processor may turn an image
    assert round(found.images * (1 - found.top1 / 100)) == pytest.approx(
        int(wrong.replace(",", "")), abs=2
    )
    assert metric["top1"] == pytest.approx(found.top1, abs=0.03)


def test_a_bare_name_takes_them_where_nobody_publishes_any():
    assert default_tag("lenet", "lenet5_modern") == "zoo_mnist"
    assert default_tag("resnet", "resnet20_cifar10") == "akamaster_cifar10"

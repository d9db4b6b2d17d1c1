"""The recipes of this package: each can be carried out, and what comes of it at the
milestones is what its paper says.
"""

import json
import re
from fnmatch import fnmatchcase
from itertools import takewhile

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

import zoo
from zoo.cli import cli
from zoo.data.datasets import DataSplit, ImageDataset
from zoo.errors import InputError, UsageError
from zoo.optimizers import make_optimizer
from zoo.spec import Preprocessing
from zoo.tasks.classify import Classify
from zoo.training.recipe import Recipe
from zoo.training.recipe_files import FOLDER, open_recipe, recipe_names, recipe_of
from zoo.training.schedule import make_schedule

NO_RECIPE = {  # networks whose training nobody describes, or not so that it could be one
    "alexnet_owt": "One weird trick's is for several GPUs, torchvision's is not stated",
    "highway_fc": "the depth study searched the rate of each depth",
    "nin": "of the network for ImageNet the solver was not seen",
}


class Tiny(nn.Module):
    preprocessing = Preprocessing(input_size=(3, 16, 16), crop_pct=0.875)

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("name", recipe_names())
def test_each_trains(name):
    """Two steps of a tiny network, with its augmentation, mixing, optimizer and
    schedule.
    """
    recipe = open_recipe(name).recipe
    torch.manual_seed(0)
    images = [Image.new("RGB", (20, 20), (40 * i, 20, 200 - 30 * i)) for i in range(6)]
    data = ImageDataset(images, [0, 1, 2, 0, 1, 2])
    split = DataSplit(
        name="", source="", split="", train=data, val=data, classes=("a", "b", "c"), size=(20, 20)
    )
    task, model = Classify(), Tiny()
    prepared = task.prepare(model, split, recipe.changed({"workers": 0, "input_size": 16}))
    optimizer = make_optimizer(
        recipe.optimizer, model.parameters(), recipe.lr, recipe.weight_decay,
        **recipe.optimizer_options(),
    )  # fmt: skip
    schedule = make_schedule(recipe, optimizer, 2, 1)
    before = model.conv.weight.detach().clone()
    for _ in range(2):
        items = [prepared.split.train[i] for i in range(6)]
        batch = torch.stack([x for x, _ in items]), torch.tensor([label for _, label in items])
        batch = task.on_device(batch, True)
        loss = task.loss(model(batch[0]), batch, model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        schedule.end_epoch(0.5)
    assert loss.isfinite()
    assert not torch.equal(model.conv.weight, before)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_each_says_what_is_ours(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    head = " ".join(takewhile(lambda line: line.startswith("# "), lines))
    assert "Ours" in head or re.search(r"`\w+`", head), "nor does it refer to another"
    assert max(map(len, lines)) <= 100


def test_every_network_has_one_recipe_or_a_reason():
    found = {}
    for name in recipe_names():
        for pattern in open_recipe(name).networks:
            matching = [each for each in zoo.list_models() if fnmatchcase(each, pattern)]
            assert matching, f"{name}: no network is called {pattern}"
            for each in matching:
                assert found.setdefault(each, name) == name
                assert recipe_of(each).name == name
    assert set(zoo.list_models()) == {*found, *NO_RECIPE}
    assert found.keys().isdisjoint(NO_RECIPE)
    assert recipe_of("resnet9000") is None


def rates(name, images, **changes):
    """The changes of the rate: {step: rate} of a training on so many images."""
    recipe = open_recipe(name).recipe.changed(changes)
    per_epoch = -(-images // (recipe.batch_size * recipe.accumulation))
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), recipe.lr)
    schedule = make_schedule(recipe, optimizer, recipe.epochs * per_epoch, per_epoch)
    found, last = {}, None
    for step in range(recipe.epochs * per_epoch):
        if schedule.get_last_lr()[0] != last:
            last = found[step] = schedule.get_last_lr()[0]
        schedule.step()
    return recipe.epochs * per_epoch, found


@pytest.mark.parametrize(
    ("name", "images", "steps", "expected"),
    [
        ("resnet_cifar10", 45_000, 64_064, {0: 0.1, 32_000: 0.01, 48_000: 0.001}),
        (
            "resnet110_cifar10", 45_000, 64_064,
            {0: 0.01, 400: 0.1, 32_000: 0.01, 48_000: 0.001},
        ),
        (
            "preresnet_cifar10", 45_000, 64_064,
            {0: 0.01, 400: 0.1, 32_000: 0.01, 48_000: 0.001},
        ),
        # in epochs: as many steps as images in a batch
        ("wide_resnet_cifar10", 128, 200, {0: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008}),
        ("resnext_cifar10", 128, 300, {0: 0.1, 150: 0.01, 225: 0.001}),
        ("densenet_cifar10", 64, 300, {0: 0.1, 150: 0.01, 225: 0.001}),
        ("densenet", 256, 90, {0: 0.1, 30: 0.01, 60: 0.001}),
        ("densenet264", 128, 100, {0: 0.1, 30: 0.01, 60: 0.001, 90: 1e-4}),
        ("resnet_v1_5", 256, 90, {0: 0.1, 30: 0.01, 60: 0.001}),
        ("resnext", 256, 90, {0: 0.1, 30: 0.01, 60: 0.001, 80: 1e-4}),
        ("preresnet", 256, 90, {0: 0.1, 30: 0.01, 60: 0.001}),
        (
            "overfeat", 128, 90,
            {0: 0.05, 30: 0.025, 50: 0.0125, 60: 0.00625, 70: 0.003125, 80: 0.0015625},
        ),
        ("stochastic_depth_cifar10", 128, 500, {0: 0.1, 250: 0.01, 375: 0.001}),
        ("stochastic_depth1202_cifar10", 128, 300, {0: 0.01, 10: 0.1, 150: 0.01, 225: 0.001}),
        ("stochastic_depth_svhn", 128, 50, {0: 0.1, 30: 0.01, 35: 0.001}),
        ("stochastic_depth", 128, 120, {0: 0.1, 30: 0.01, 60: 0.001, 90: 1e-4}),
        (
            "fractalnet_cifar10", 100, 400,
            {0: 0.02, 200: 0.002, 300: 2e-4, 350: 2e-5, 375: 2e-6},
        ),
        ("lenet5", 16, 20, {0: 0.005, 2: 0.002, 5: 0.001, 8: 5e-4, 12: 1e-4}),
        ("nin_cifar10", 49_000, 119_879, {0: 0.1, 100_000: 0.01}),
    ],
)  # fmt: skip
def test_rates_are_the_papers(name, images, steps, expected):
    """Each drop in its step."""
    found_steps, found = rates(name, images)
    assert found_steps == steps
    assert list(found) == list(expected)
    assert [*found.values()] == pytest.approx([*expected.values()])


def test_rates_within_a_few_steps_of_the_papers():
    """Where the held out images change the length of an epoch."""
    steps, found = rates("highway_cifar10", 49_000)
    assert (steps, *found) == pytest.approx((200_000, 0, 100_000, 150_000, 175_000), rel=1e-3)
    steps, found = rates("highway_mnist", 55_000)
    assert (steps, *found) == pytest.approx((180_000, 0, 60_000, 120_000), rel=1e-3)
    steps, found = rates("caffenet", 1_281_167)
    assert (steps, *found) == pytest.approx(
        (450_000, 0, 100_000, 200_000, 300_000, 400_000), rel=2e-3
    )
    steps, found = rates("squeezenet", 1_281_167, epochs=1)
    assert 68 * steps == pytest.approx(170_000, rel=2e-3)
    assert found[0] == 0.04
    assert found[steps - 1] == pytest.approx(0.04 / steps)
    _, found = rates("inception_v3", 32)
    assert [*found] == [*range(0, 100, 2)]
    assert found[98] == pytest.approx(0.045 * 0.94**49)
    _, found = rates("ciresan", 1)
    assert found[799] == pytest.approx(1e-6, rel=0.02)


def test_what_a_file_says_besides(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('networks = ["vgg11"]\ndata = "photos"\nepochs = 3\n')
    found = open_recipe(file)
    assert (found.name, found.networks, found.data) == ("mine", ("vgg11",), "photos")
    assert found.recipe.epochs == 3
    for text, error in (
        ('networks = "vgg11"', r"mine\.toml: networks='vgg11': needs a list of names"),
        ("data = 3", r"mine\.toml: data=3: needs the name of a data set, or a folder"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=error):
            open_recipe(file)


# --------------------------------------------------------------------------- zoo train


def test_train(tmp_path):
    data = TensorDataset(torch.rand(6, 1, 28, 28), torch.arange(6) % 2)
    given = {"data": data, "val": data, "classes": ("a", "b"), "progress": False, "cpu": True}
    run = zoo.train("lenet5_modern", **given, out=tmp_path / "a", epochs=1, optimizer="sgd")
    assert run.config["initial_weights"] == "random"
    recipe = run.config["recipe"]
    assert (recipe["schedule"], recipe["batch_size"]) == ("one-cycle", 64)
    assert (recipe["optimizer"], recipe["lr"]) == ("sgd", 0.1)
    assert recipe["val_fraction"] is None, "that of MNIST"
    other = Recipe(epochs=2, batch_size=3)
    again = zoo.train("lenet5_modern", **given, out=tmp_path / "b", recipe=other)
    assert (again.config["recipe"]["batch_size"], len(again.history)) == (3, 2)


def test_train_from_the_command_line(tmp_path):
    line = ["train", "lenet5_modern", "--data", "digits", "--epochs", "2", "--no-progress"]
    done = CliRunner().invoke(cli, [*line, "--cpu", "--out", str(tmp_path / "run"), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["network"], found["initial_weights"]) == ("lenet5_modern", "random")
    assert found["accuracy"] > 0.7


def test_auxiliary_heads_are_asked_for_by_the_recipe(tmp_path):
    images = torch.randn(4, 3, 80, 80)
    data = TensorDataset(images, torch.tensor([0, 1, 0, 1]))
    options = {"epochs": 1, "batch_size": 2, "progress": False, "cpu": True}
    run = zoo.train(
        "googlenet", data, val=data, classes=("a", "b"), out=tmp_path / "run", **options
    )
    assert run.config["model_args"]["aux"] is True
    assert run.config["recipe"]["lr_factor"] == 0.96
    assert [head.head.out_features for head in run.model.aux.values()] == [2, 2]
    with pytest.raises(UsageError, match="aux=True: Tiny is built already, without auxiliary"):
        zoo.finetune(Tiny(), data, val=data, aux=True, progress=False)


@pytest.mark.parametrize(
    ("what", "data", "says"),
    [
        ("nin", "digits", "no paper's recipe is known for nin: recipe=… names another"),
        ("resnet18", None, "the recipe resnet names no data set: give data=…"),
        (nn.Linear(1, 1), "digits", "Linear has weights, and train begins from nothing"),
        ("vgg11.tv_in1k_v1", "digits", "has weights, and train begins from nothing"),
        ("resnet9000", "digits", "no network 'resnet9000'"),
    ],
)
def test_what_train_refuses(what, data, says):
    with pytest.raises((UsageError, LookupError), match=says):
        zoo.train(what, data)

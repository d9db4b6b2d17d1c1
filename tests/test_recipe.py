"""Recipe is the only declaration of training options: what is made from it agrees with
it.
"""

import json
import math
import typing
from dataclasses import MISSING, fields

import numpy
import pytest
import torch
from click.testing import CliRunner

from zoo.cli import cli
from zoo.data.augment import AUGMENTATIONS
from zoo.data.splits import DEFAULT_VAL_FRACTION
from zoo.errors import InputError, UsageError
from zoo.optimizers import OPTIMIZERS
from zoo.training.recipe import OF_OPTIMIZER, OF_SCHEDULE, SCHEDULES, Recipe
from zoo.training.recipe_changes import RecipeChanges
from zoo.training.recipe_files import FOLDER, load_recipe

NAMES = [field.name for field in fields(Recipe)]
OPTIONS = {field.name: field.metadata["option"] for field in fields(Recipe)}


def test_changes_are_the_fields():
    assert typing.get_type_hints(RecipeChanges) == typing.get_type_hints(Recipe)


def test_every_field_has_a_default_and_a_help():
    for field in fields(Recipe):
        option = OPTIONS[field.name]
        assert field.default is not MISSING
        assert option.help.endswith(".") or ";" in option.help
        assert field.default is not None or option.default_words, field.name


def test_it_agrees_with_those_who_use_it():
    assert OPTIONS["augment"].choices == ("auto", *AUGMENTATIONS)
    assert OPTIONS["optimizer"].choices == tuple(OPTIMIZERS)
    assert OPTIONS["val_fraction"].default_words == str(DEFAULT_VAL_FRACTION)
    for words in (OPTIONS["lr"].default_words, OPTIONS["weight_decay"].default_words):
        assert "adamw" in words
    assert f"{OPTIMIZERS['adamw'].lr:g} adamw" in OPTIONS["lr"].default_words


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_the_package_loads(path):
    assert isinstance(load_recipe(path.stem), Recipe)
    assert load_recipe(path) == load_recipe(path.stem)


def test_the_default_recipe():
    assert load_recipe() == load_recipe("finetune") == Recipe()
    recipe = Recipe(epochs=3)
    assert load_recipe(recipe) is recipe


def test_config_json_gives_the_recipe_again():
    recipe = Recipe(
        epochs=2, batch_size="auto", input_size=(3, 32, 64), lr=0.1, cpu=True, schedule="step",
        lr_milestones=(0.5, 0.75), lr_factor=(0.1, 0.5),
    )  # fmt: skip
    assert Recipe().changed(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_another_optimizer_or_schedule_brings_its_own_defaults():
    assert {*OF_SCHEDULE} == {option for known in SCHEDULES.values() for option in known}
    assert {*OF_OPTIMIZER, *OF_SCHEDULE} <= {*NAMES}
    recipe = Recipe(
        optimizer="nesterov", lr=0.2, momentum=0.8, schedule="step", lr_milestones=(0.5, 0.75),
        lr_factor=(10.0, 0.1), warmup=0.05,
    )  # fmt: skip
    kept = Recipe(schedule="step", lr_milestones=(0.5, 0.75), lr_factor=(10.0, 0.1), warmup=0.05)
    assert recipe.changed({"optimizer": "adamw"}) == kept
    assert recipe.changed({"optimizer": "nesterov"}) == recipe
    assert recipe.changed({"optimizer": "sgd", "lr": 0.3}).lr == 0.3
    changed = recipe.changed({"schedule": "linear"})
    assert changed == Recipe(optimizer="nesterov", lr=0.2, momentum=0.8, schedule="linear")
    changed = recipe.changed({"lr_every": 3, "lr_factor": 0.5})
    assert (changed.lr_every, changed.lr_milestones, changed.warmup) == (3, None, 0.05)
    assert changed.changed({"lr_milestones": 0.5}).lr_milestones == (0.5,)


def test_files(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('epochs = 5\noptimizer = "nesterov"\ninput_size = [3, 32, 32]\nworkers = 0\n')
    expected = Recipe(epochs=5, optimizer="nesterov", input_size=(3, 32, 32), workers=0)
    assert load_recipe(file) == load_recipe(str(file)) == expected
    for text, error in (
        ("epoch = 5", r"mine\.toml: a recipe has no option 'epoch': did you mean epochs\?"),
        ("zzz = 5", r"a recipe has no option 'zzz'; its options: epochs, batch_size"),
        ("epochs = true", "epochs=True: needs a whole number from 1 on"),
        ('lr = "high"', "lr='high': needs a number"),
        ('optimizer = "lion"', r"recipe: optimizer='lion': expected 'sgd'"),
        ("epochs = ", "is no TOML file"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=error) as caught:
            load_recipe(file)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match=r"gone\.toml: No such file"):
        load_recipe(tmp_path / "gone.toml")
    with pytest.raises(
        UsageError, match=r"there is no recipe 'finetun': did you mean finetune or finetune_full"
    ):
        load_recipe("finetun")
    with pytest.raises(
        UsageError, match=r"there is no recipe 'x': expected alexnet, .*, zfnet or a TOML"
    ):
        load_recipe("x")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"epochs": 0}, "epochs=0: needs a whole number from 1 on"),
        ({"epochs": None}, "epochs=None: needs a whole number"),
        ({"batch_size": 2.5}, "batch_size=2.5: needs a whole number from 1 on, or 'auto'"),
        ({"batch_size": "many"}, "or 'auto'"),
        ({"workers": -1}, "workers=-1: needs a whole number from 0 on"),
        ({"optimizer": "lion"}, "optimizer='lion': expected 'sgd', 'momentum'"),
        ({"lr": 0.0}, "lr=0.0: needs a number above 0"),
        ({"lr": math.nan}, "lr=nan: needs a number above 0"),
        ({"weight_decay": -1e-9}, "weight_decay=-1e-09: needs a number from 0 on"),
        ({"lr_decay": 0.0}, "lr_decay=0.0: needs a number above 0 and at most 1"),
        ({"lr_decay": math.nan}, "lr_decay=nan: needs a number above 0"),
        ({"val_fraction": 1.0}, "val_fraction=1.0: needs a number between 0 and 1"),
        ({"val_fraction": 0}, "between 0 and 1"),
        ({"momentum": 1.0}, "momentum=1.0: needs a number from 0 to below 1"),
        ({"momentum": 0.5}, "momentum=0.5: adamw has none"),
        ({"optimizer": "nesterov", "momentum": 0.0}, "momentum=0: nesterov needs more"),
        ({"optimizer": "lbfgs", "mixup": 0.1}, "mixup and cutmix: lbfgs asks for the loss"),
        ({"optimizer": "lbfgs", "weight_decay": 0.1}, "weight_decay=0.1: lbfgs has none"),
        ({"rms_decay": 0.9}, "rms_decay=0.9: adamw has none"),
        ({"optimizer": "sgd", "eps": 1.0}, "eps=1.0: sgd has none"),
        ({"eps": 0.0}, "eps=0.0: needs a number above 0"),
        ({"schedule": "poly"}, "schedule='poly': expected 'cosine', 'one-cycle'"),
        ({"schedule": "step"}, "schedule='step': needs either lr_milestones or lr_every"),
        ({"schedule": "step", "lr_milestones": (0.5,), "lr_every": 3}, "needs either"),
        ({"schedule": "step", "lr_milestones": (0.5, 0.5)}, "needs rising parts"),
        ({"schedule": "step", "lr_milestones": (0.0, 0.5)}, "needs rising parts"),
        ({"schedule": "step", "lr_milestones": ()}, "needs rising parts"),
        ({"schedule": "step", "lr_milestones": (32.0, 48.0)}, "from 0 to below 1"),
        ({"schedule": "step", "lr_milestones": (0.5,), "lr_factor": (0.1, 0.1)}, "one per milest"),
        ({"schedule": "step", "lr_every": 2, "lr_factor": (0.1, 0.1)}, "one per milestone"),
        ({"lr_milestones": (0.5,)}, r"lr_milestones=\(0.5,\): schedule='cosine' has none"),
        ({"schedule": "plateau", "lr_every": 2}, "lr_every=2: schedule='plateau' has none"),
        ({"cycle_momentum": True}, "cycle_momentum=True: schedule='cosine' has none"),
        ({"schedule": "one-cycle", "cycle_momentum": True}, "adamw has no momentum to cycle"),
        ({"warmup": -0.1}, "warmup=-0.1: needs a number from 0 to below 1"),
        ({"clip": 0}, "clip=0: needs a number above 0"),
        ({"ema": 1.0}, "ema=1.0: needs a number from 0 to below 1"),
        ({"ema": 0.0}, "ema=0.0: needs a number above 0"),
        ({"accumulation": 0}, "accumulation=0: needs a whole number from 1 on"),
        ({"label_smoothing": 1}, "label_smoothing=1: needs a number from 0 to below 1"),
        ({"mixup": -1.0}, "mixup=-1.0: needs a number from 0"),
        ({"cutmix": "yes"}, "cutmix='yes': needs a number"),
        ({"input_size": 0}, "input_size=0: expected the side in pixels"),
        ({"input_size": "3x2x2x2"}, "input_size='3x2x2x2'"),
        ({"augment": "flip"}, "augment='flip': expected 'auto', 'photo'"),
        ({"cpu": "yes"}, "cpu='yes': expected True or False"),
        ({"mixed_precision": "int8"}, "mixed_precision='int8': expected 'no', 'bf16' or 'fp16'"),
    ],
)
def test_impossible_values(changes, expected):
    with pytest.raises(InputError, match=expected) as caught:
        Recipe(**changes)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_torch_are_numbers():
    given = Recipe(
        epochs=numpy.int64(3),
        batch_size=torch.tensor(8),
        lr=numpy.float32(0.5),
        weight_decay=numpy.float64(0),
        input_size=numpy.array([3, 32, 32]),
        cpu=numpy.bool_(True),
        augment=numpy.str_("none"),
    )
    expected = Recipe(
        epochs=3,
        batch_size=8,
        lr=0.5,
        weight_decay=0.0,
        input_size=(3, 32, 32),
        cpu=True,
        augment="none",
    )
    assert given == expected
    assert json.loads(json.dumps(given.to_dict())) == json.loads(json.dumps(expected.to_dict()))
    assert all(type(value).__module__ == "builtins" for value in given.to_dict().values())
    for value in (numpy.float64(2.5), numpy.array([1, 2]), numpy.bool_(True), numpy.int64(0)):
        with pytest.raises(InputError, match="needs a whole number from 1 on"):
            Recipe(epochs=value)


# ------------------------------------------------------------------------ command line


@pytest.fixture
def called(monkeypatch):
    """What `zoo finetune` hands to zoo.finetune, by the command line's arguments."""

    def call(*args):
        given = {}

        def stop(what, data, **options):
            given.update(options)
            raise UsageError("stopped")

        monkeypatch.setattr("zoo.finetune", stop, raising=False)
        with pytest.raises(UsageError, match="stopped"):
            CliRunner().invoke(
                cli, ["finetune", "vgg11", "--data", "x", *args], catch_exceptions=False
            )
        return {name: value for name, value in given.items() if name in (*NAMES, "recipe")}

    return call


def test_options_of_the_command_line(called):
    assert called() == {"recipe": "finetune"}
    assert called("--recipe", "mine.toml") == {"recipe": "mine.toml"}
    values = {
        "epochs": ("3", 3),
        "momentum": ("0.8", 0.8),
        "rms_decay": ("0.9", 0.9),
        "eps": ("1", 1.0),
        "schedule": ("step", "step"),
        "warmup": ("0.2", 0.2),
        "lr_milestones": ("0.5,0.75", (0.5, 0.75)),
        "lr_every": ("2", 2),
        "lr_factor": ("0.94", 0.94),
        "lr_patience": ("4", 4),
        "clip": ("2", 2.0),
        "clip_value": ("0.2", 0.2),
        "accumulation": ("4", 4),
        "ema": ("0.99", 0.99),
        "patience": ("7", 7),
        "label_smoothing": ("0.1", 0.1),
        "mixup": ("0.2", 0.2),
        "cutmix": ("1", 1.0),
        "batch_size": ("auto", "auto"),
        "optimizer": ("nesterov", "nesterov"),
        "lr": ("0.1", 0.1),
        "lr_decay": ("0.5", 0.5),
        "weight_decay": ("0", 0.0),
        "val_fraction": ("0.5", 0.5),
        "test_fraction": ("0.1", 0.1),
        "length": ("100", 100),
        "input_size": ("3x32x32", "3x32x32"),
        "augment": ("none", "none"),
        "cache": ("off", "off"),
        "workers": ("0", 0),
        "mixed_precision": ("bf16", "bf16"),
        "strategy": ("last:2", "last:2"),
        "head": ("svm", "svm"),
        "stage": ("stage3+pre_logits", "stage3+pre_logits"),
        "penalty": ("l1", "l1"),
        "margin": ("2", 2.0),
        "distance": ("cosine", "cosine"),
        "hidden": ("64,32", "64,32"),
        "minutes": ("5", 5.0),
    }
    switches = {
        "check",
        "cpu",
        "cycle_momentum",
        "channels_last",
        "probe_first",
        "tensorboard",
        "aux",
        "mirrored",
        "squared_hinge",
        "report",
    }
    assert {*values, *switches} == set(NAMES), "every field has an option"
    args = [part for name, (text, _) in values.items() for part in (_flag(name), text)]
    expected = {name: value for name, (_, value) in values.items()}
    flags = {"cpu": True, "cycle_momentum": True, "aux": True, "check": False}
    given = called(*args, "--cpu", "--cycle-momentum", "--aux", "--no-check")
    assert given == {"recipe": "finetune", **flags, **expected}
    assert called("--batch-size", "8", "--no-cpu") == {
        "recipe": "finetune",
        "batch_size": 8,
        "cpu": False,
    }


def _flag(name):
    return f"--{name.replace('_', '-')}"


def test_the_help_shows_every_option_with_its_default():
    text = " ".join(CliRunner().invoke(cli, ["finetune", "--help"]).stdout.split())
    for name in NAMES:
        assert _flag(name) in text
    for shown in (
        "[default: 30]",
        "[default: 32]",
        "[default: adamw]",
        "0.001 adamw, 0.01 nesterov",
    ):
        assert shown in text


def test_wrong_values_on_the_command_line():
    for args in (["--epochs", "0"], ["--batch-size", "some"], ["--augment", "flip"]):
        result = CliRunner().invoke(cli, ["finetune", "vgg11", "--data", "digits", *args])
        assert result.exit_code in (1, 2)
        assert result.exit_code == 2 or isinstance(result.exception, InputError)

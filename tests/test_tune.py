"""The search for a recipe: where it looks, what a trial is, what it leaves behind."""

import json
import sys

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.cli import cli
from zoo.errors import InputError, UsageError, ZooError
from zoo.training.recipe import Recipe
from zoo.training.recipe_files import load_recipe
from zoo.training.search import SearchTrial, by_score, recipe_toml, search_ranges


def test_where_it_looks():
    found = search_ranges(Recipe(optimizer="momentum"), [], None)
    assert found["lr"] == pytest.approx((0.01 / 30, 0.3))
    assert found["weight_decay"] == (1e-6, 0.1)
    assert list(search_ranges(Recipe(lr=0.5), ["lr"], None)) == ["weight_decay"]
    assert search_ranges(Recipe(lr=0.5), [], None)["lr"][1] == 15
    for ranges, fixed, error in (
        ({"rl": (1, 2)}, [], "'rl' is no number of a recipe"),
        ({"epochs": (1, 2)}, [], "'epochs' is no number of a recipe"),
        ({"lr": (0.1, 0.1)}, [], "lr from 0.1 to 0.1: need 0 < lowest < highest"),
        ({"lr": (0.1, 0.2)}, ["lr"], "lr is given as lr=…, too"),
        (None, ["lr", "weight_decay"], "nothing is left to search"),
    ):
        with pytest.raises(InputError, match=error):
            search_ranges(Recipe(), fixed, ranges)


def test_the_recipes_file_gives_the_recipe_again(tmp_path):
    recipe = Recipe(optimizer="sgd", lr=1e-5, input_size=(3, 32, 64), cpu=True, check=False)
    (tmp_path / "best.toml").write_text(recipe_toml(recipe, "why"))
    assert load_recipe(tmp_path / "best.toml") == recipe
    assert "epochs" not in (tmp_path / "best.toml").read_text()


def test_the_best_comes_first_and_what_diverged_last():
    trials = [SearchTrial(n, {}, score, 1, "") for n, score in enumerate((0.5, None, 0.7))]
    assert [each.number for each in by_score(trials, True)] == [2, 0, 1]
    assert [each.number for each in by_score(trials, False)] == [0, 2, 1]


def test_without_optuna_one_line_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    error = CliRunner().invoke(cli, ["tune", "lenet5_modern", "--data", "digits"]).exception
    assert isinstance(error, UsageError)
    assert str(error).endswith("not installed: pip install 'classic-zoo[tune]'")
    assert not list(tmp_path.iterdir())


def test_wrong_use():
    for given, error in (
        ({"trials": 0}, "trials=0: needs one or more"),
        ({"minutes": 0}, "minutes=0: needs a number above 0"),
        ({"sampler": "grid"}, "sampler='grid': expected 'random' or 'tpe'"),
    ):
        with pytest.raises(UsageError, match=error):
            zoo.tune("lenet5_modern", "digits", **given)
    done = CliRunner().invoke(cli, ["tune", "lenet5", "--data", "digits", "--range", "lr=1"])
    assert done.exit_code == 2
    assert "expected for example lr=1e-4:1e-1" in done.stderr


def test_a_search(tmp_path, monkeypatch):
    """On the command line, then in Python: the same seed draws the same values."""
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    args = ["tune", "lenet5_modern", "--from-scratch", "--data", "digits", "--cpu", "--epochs", "1"]
    args += ["--optimizer", "momentum", "--range", "lr=1e-4:1e-1", "--trials", "3", "--json"]
    done = CliRunner().invoke(cli, args, catch_exceptions=False)
    found = json.loads(done.stdout)
    folder = tmp_path / "runs" / "tune-lenet5_modern-1"
    assert found["path"] == "runs/tune-lenet5_modern-1"
    scores = [each["score"] for each in found["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    assert json.loads((folder / "trials.json").read_text()) == found["trials"]
    assert done.stderr.count("trial ") == 3
    best = load_recipe(folder / "best.toml")
    first = found["trials"][0]
    assert best == Recipe(optimizer="momentum", lr=first["values"]["lr"], cpu=True)
    run = zoo.evaluate(first["path"], "digits", progress=False)
    assert run.top1 >= 0
    config = json.loads((tmp_path / first["path"] / "config.json").read_text())
    assert config["recipe"]["lr"] == first["values"]["lr"]
    assert config["recipe"]["epochs"] == 1
    model = zoo.create("lenet5_modern")
    before = [each.clone() for each in model.parameters()]
    again = zoo.tune(
        model, "digits", 1, ranges={"lr": (1e-4, 1e-1)}, epochs=1, cpu=True, progress=False
    )
    assert all(map(torch.equal, before, model.parameters()))
    number = next(each for each in found["trials"] if each["number"] == 1)
    assert dict(again.best.values) == number["values"]


def test_a_trial_that_diverges_has_no_score(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)

    def broken(*given, **options):
        raise ZooError("the loss became nan")

    monkeypatch.setattr("zoo.api.tune.finetune", broken)
    with pytest.raises(ZooError, match="the loss of all 2 trials became no number"):
        zoo.tune("lenet5_modern", "digits", 2, out="here", progress=False)
    assert [each["score"] for each in json.loads((tmp_path / "here/trials.json").read_text())] == [
        None,
        None,
    ]
    assert not (tmp_path / "here" / "best.toml").exists()

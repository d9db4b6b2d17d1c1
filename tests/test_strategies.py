"""What of a network is trained: probes, the last groups, everything, or what fits."""

import json
import math
import warnings
from types import SimpleNamespace

import pytest
import torch

import zoo
from zoo.api.trial import trial
from zoo.data.digits import open_digits
from zoo.errors import UsageError, ZooWarning
from zoo.files import read_state
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.strategy import Strategy
from zoo.transfer import choose, quick_probe
from zoo.transfer.budget import Speed, cheaper, plan_within, smaller_batches

FAST = {"progress": False, "check": False, "cpu": True}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A network that knows digits a little."""
    out = tmp_path_factory.mktemp("begun") / "run"
    return zoo.finetune(
        "lenet5_modern", "digits", pretrained=False, epochs=2, out=out, report=False, **FAST
    )


def tuned(begun, out, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZooWarning)  # that the head is new, what was chosen
        return zoo.finetune(begun.path, "digits", out=out, **{**FAST, **options})


def same(run):
    """The run's network, read again, predicts what was measured."""
    found = zoo.evaluate(run.path, "digits", progress=False)
    assert found.top1 == pytest.approx(100 * run.accuracy, abs=1e-4)


def test_a_probe_is_a_run(begun, tmp_path):
    run = tuned(begun, tmp_path / "run", strategy="probe")
    assert run.finished
    assert run.config["recipe"]["strategy"] == "probe"
    assert "head" not in run.config, "the network's own head has the numbers"
    assert run.accuracy > begun.accuracy, "digits of features that were made for digits"
    before, after = (read_state(each.path / "best.safetensors") for each in (begun, run))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed == {"head.weight", "head.bias"}
    same(run)
    probes = json.loads((run.path / "probes.json").read_text())
    assert len(probes["trials"]) == 20
    text = (run.path / "README.md").read_text()
    assert "chosen on the same" not in text, "cross-validation on the training images chose"
    assert "--strategy probe" in text
    again = tuned(begun, tmp_path / "again", strategy="probe")
    assert again.accuracy == run.accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"head": "svm", "squared_hinge": True},
        {"head": "knn", "distance": "cosine"},
        {"head": "mlp", "hidden": "32"},
        {"stage": "conv1+pre_logits", "mirrored": True},
        {"stage": "input", "penalty": "elastic"},
    ],
)
def test_other_heads_and_stages_are_networks_too(begun, tmp_path, options):
    groups = list(zoo.layer_groups(zoo.create("lenet5_modern")))
    if "conv1" in options.get("stage", ""):
        options = {**options, "stage": f"{groups[0]}+pre_logits"}
    run = tuned(begun, tmp_path / "run", strategy="probe", **options)
    assert run.accuracy > 0.8
    same(run)
    weights = zoo.create(run.path / "best.safetensors")  # without the folder
    assert type(weights) is type(run.model)
    assert len(zoo.predict(run.path, tmp_path / "run" / "curves.png")) == 1


def test_trials_begin_as_the_run_does(begun, tmp_path):
    """A fifth of the rate, frozen groups, and a head that is fitted."""
    with trial(begun.path, "digits", Recipe(strategy="last:1", cpu=True), verb="check") as tried:
        assert tried.recipe.lr == pytest.approx(0.2 * 1e-3)
        trained = [name for name, each in tried.model.named_parameters() if each.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    write_parity(tmp_path / "train", 12, skip=0)
    write_parity(tmp_path / "val", 3, skip=12)
    with trial(begun.path, tmp_path, Recipe(cpu=True), verb="check") as tried:
        assert tried.chance_loss is None, "the new head knows the classes"
    with trial(
        "lenet5_modern", "digits", Recipe(cpu=True), verb="check", pretrained=False
    ) as tried:
        assert tried.recipe.lr is None
        assert tried.chance_loss == pytest.approx(math.log(10))


def test_a_probe_writes_for_tensorboard(begun, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings(action="ignore"):
        run = tuned(begun, tmp_path / "run", strategy="probe", tensorboard=True)
    assert list((run.path / "tensorboard").iterdir())


def test_a_probe_per_stage(begun, tmp_path):
    run = tuned(begun, tmp_path / "run", strategy="probe-stages")
    probes = json.loads((run.path / "probes.json").read_text())
    assert len(probes["stages"]) > 2
    assert run.config["recipe"]["stage"] == "+".join(probes["best"])
    assert (run.path / "depth.png").read_bytes()[:4] == b"\x89PNG"
    same(run)


def test_the_last_groups(begun, tmp_path):
    run = tuned(begun, tmp_path / "run", strategy="last:2", epochs=2, report=False)
    groups = list(zoo.layer_groups(zoo.create("lenet5_modern")))
    before, after = (read_state(each.path / "last.safetensors") for each in (begun, run))
    model = zoo.create("lenet5_modern")
    for number, (name, group) in enumerate(zoo.layer_groups(model).items()):
        inside = {id(each) for each in group.parameters()}
        keys = [key for key, each in model.named_parameters() if id(each) in inside]
        same_as_before = all(torch.equal(before[key], after[key]) for key in keys)
        assert same_as_before == (number < len(groups) - 2), name
    assert run.config["recipe"]["lr"] == pytest.approx(0.2 * 1e-3), "trained before: a fifth"


@pytest.mark.slow
def test_auto(begun, tmp_path, monkeypatch):
    """As the course's table says, by images per class and a quick probe."""
    for accuracy, few, much, expected in (
        (0.99, 30, 300, "probe"),
        (0.7, 200, 300, "probe"),
        (0.7, 30, 300, "last:2"),
        (0.7, 30, 100, "full"),
    ):
        found = SimpleNamespace(cross_validated=accuracy)
        monkeypatch.setattr(choose, "quick_probe", lambda *_, found=found: found)
        monkeypatch.setattr(choose, "FEW", few)
        monkeypatch.setattr(choose, "MUCH", much)
        with pytest.warns(ZooWarning, match=f"strategy {expected}: 144 images per class"):
            run = zoo.finetune(
                begun.path,
                "digits",
                out=tmp_path / f"{expected}-{few}",
                epochs=1,
                report=False,
                **FAST,
            )
        assert run.config["recipe"]["strategy"] == expected
    scratch = tuned(begun, tmp_path / "x", strategy="full", epochs=1, report=False)
    assert scratch.config["recipe"]["strategy"] == "full"
    assert begun.config["recipe"]["strategy"] == "full", "from random weights"


def test_a_quick_probe_looks_at_few(begun, tmp_path, monkeypatch):
    seen = []
    real = quick_probe.part_features
    monkeypatch.setattr(
        quick_probe, "part_features", lambda model, prepared, *a, **k: seen.append(
            len(prepared.train)) or real(model, prepared, *a, **k),
    )  # fmt: skip
    run = tuned(begun, tmp_path / "run", epochs=1, report=False)
    assert seen == [200], "20 of each digit"
    assert run.config["recipe"]["strategy"] in ("probe", "last:2")


def test_a_new_head_is_fitted_before_the_rest(begun, tmp_path):
    """On even and odd digits: 2 classes, and the network has 10."""
    folder = tmp_path / "parity"
    for part, images in (("train", 12), ("val", 3)):
        write_parity(folder / part, images, skip=0 if part == "train" else 12)
    texts = []
    for first in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run = zoo.finetune(
                begun.path, folder, strategy="full", epochs=1, lr=1e-9, probe_first=first,
                out=tmp_path / str(first), report=False, **FAST,
            )  # fmt: skip
        said = [str(each.message) for each in caught if "fitted first" in str(each.message)]
        texts.append((said, run.history[-1]["val_accuracy"]))
    (said, fitted), (nothing, random_head) = texts
    assert len(said) == 1
    assert "% by cross-validation" in said[0]
    assert not nothing
    assert fitted > 0.8 > random_head
    run = tuned(begun, tmp_path / "same", strategy="full", epochs=1, lr=1e-9, report=False)
    before, after = (read_state(each.path / "last.safetensors") for each in (begun, run))
    assert torch.allclose(before["head.weight"], after["head.weight"]), "a head that fits stays"


def write_parity(folder, count, skip):
    """Some digits of each kind as PNGs, in the classes even and odd."""
    digits = open_digits().train
    for number in range(10):
        own = [index for index, target in enumerate(digits.targets) if target == number]
        place = folder / ("odd" if number % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        for index in own[skip : skip + count]:
            digits.images[index].save(place / f"{number}-{index}.png")


def plan(minutes, strategy="full", most=30, batch_sizes=(32,), per_image=None):
    """What fits where 1,000 images are trained at these speeds."""
    seen = []

    def measure(tried, size):
        seen.append((str(tried), size))
        return Speed((per_image or {}).get((str(tried), size), 0.01), 0.005)

    found = plan_within(
        60 * minutes, measure, (1000, 200), most=most,
        strategies=cheaper(Strategy.parse(strategy)), batch_sizes=batch_sizes,
    )  # fmt: skip
    return str(found.strategy), found.batch_size, found.epochs, seen


def test_what_fits_into_minutes():
    assert Speed(training=0.01, evaluation=0.005).epoch(1000, 200) == pytest.approx(11)
    assert plan(1)[:3] == ("full", 32, 5)
    assert plan(60)[:3] == ("full", 32, 30), "the recipe's epochs are enough"
    speeds = {("full", 32): 0.1, ("last:2", 32): 0.01}
    assert plan(1, per_image=speeds) == ("last:2", 32, 5, [("full", 32), ("last:2", 32)])
    assert plan(6, per_image=speeds)[:3] == ("full", 32, 3), "enough of the better one"
    assert plan(2, most=1, per_image=speeds)[:3] == ("full", 32, 1), "no more were wanted"
    assert plan(0.1, per_image=speeds)[:3] == ("probe", 32, 1)
    assert plan(0.1, "last:3")[:3] == ("last:3", 32, 1), "asked for: at least an epoch"


def test_which_batch_fits_into_minutes():
    sizes = smaller_batches(64)
    assert sizes == [64, 32, 16]
    assert smaller_batches(8) == [8]
    assert plan(1, batch_sizes=sizes)[1] == 16, "the smallest that is as fast"
    speeds = {("full", 16): 0.012}
    assert plan(1, batch_sizes=sizes, per_image=speeds)[1] == 32
    speeds = {("full", 32): 0.02, ("full", 16): 0.001}
    assert plan(1, batch_sizes=sizes, per_image=speeds)[1] == 64


def test_minutes(begun, tmp_path, monkeypatch):
    with pytest.warns(ZooWarning, match=r"batches of 32\): 1 of 30 epochs are more than the"):
        run = zoo.finetune(
            "lenet5_modern", "digits", pretrained=False, minutes=0.0001, out=tmp_path / "run",
            report=False, **FAST,
        )  # fmt: skip
    assert len(run.history) == run.config["recipe"]["epochs"] == 1
    assert run.config["recipe"]["strategy"] == "full", "random weights: nothing to probe"
    found = SimpleNamespace(cross_validated=0.5)
    monkeypatch.setattr(choose, "quick_probe", lambda *_: found)
    with pytest.warns(ZooWarning, match="probe: 0.0001 minutes are too few to train more"):
        run = zoo.finetune(
            begun.path, "digits", minutes=0.0001, out=tmp_path / "probe", report=False, **FAST
        )
    assert run.config["recipe"]["strategy"] == "probe"
    with pytest.warns(ZooWarning, match="batches of (143|71|35)"):
        run = zoo.finetune(
            "lenet5_modern", "digits", pretrained=False, minutes=1, epochs=1, batch_size="auto",
            out=tmp_path / "auto", report=False, **FAST,
        )  # fmt: skip
    assert run.config["recipe"]["batch_size"] in (143, 71, 35)


def test_checks_are_made_on_a_copy(begun, tmp_path):
    runs = [
        tuned(begun, tmp_path / str(check), strategy="full", epochs=1, report=False, check=check)
        for check in (False, True)
    ]
    first, second = (read_state(run.path / "last.safetensors") for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_what_a_probe_is_not_for(begun, tmp_path):
    for options, expected in (
        ({"strategy": "probe", "stage": "conv9"}, "has no stage 'conv9'"),
        ({"strategy": "probe", "head": "mlp", "hidden": "a"}, "hidden='a': needs sizes"),
        ({"strategy": "last:99"}, "99"),
        ({"strategy": "some"}, "strategy='some' is not known"),
        ({"strategy": "probe", "loss": lambda *_: 0}, "a probe has a loss of its own"),
    ):
        with pytest.raises(UsageError, match=expected):
            tuned(begun, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert Run.open(begun.path).finished

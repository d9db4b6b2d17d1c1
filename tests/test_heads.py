"""Features of frozen networks, and the heads that are fitted on them."""

import copy
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.data import stored
from zoo.errors import DataError, InputError, UsageError, ZooWarning
from zoo.tasks.classify import Classify
from zoo.training.recipe import Recipe
from zoo.transfer import features as features_file
from zoo.transfer.features import compute_features
from zoo.transfer.fitted import accuracy, deepest_good, logits_of
from zoo.transfer.folds import stratified_folds
from zoo.transfer.head_options import HeadOptions, fit_head_on_features
from zoo.transfer.knn import NearestNeighbours
from zoo.transfer.linear import KINK, Objective, fit_linear
from zoo.transfer.minimize import minimize
from zoo.transfer.probe import plain, probe, probe_stages, with_probe
from zoo.transfer.probe_module import Probe, with_fitted_head
from zoo.transfer.probe_plot import draw_templates
from zoo.transfer.stages import stage_features, stage_names


@pytest.fixture(scope="module")
def digits():
    """400 digits as rows (N, 64) in float64."""
    from sklearn.datasets import load_digits

    pixels, numbers = load_digits(return_X_y=True)
    return torch.tensor(pixels[:400]) / 16, torch.tensor(numbers[:400])


@pytest.fixture
def lenet():
    torch.manual_seed(0)
    return zoo.create("lenet5_modern")


def objective(x, y, classes=10, **changes):
    return Objective(x, y, torch.ones(1, len(y), dtype=x.dtype), classes, **changes)


def standardised(x):
    std, mean = torch.std_mean(x, 0, correction=0)
    return (x - mean) / std.clamp_min(1e-6), std.clamp_min(1e-6)


# ------------------------------------------------------------------------ the minimiser


@pytest.mark.parametrize(("penalty", "ratio"), [("l2", 0.0), ("l1", 1.0), ("elastic", 0.5)])
def test_softmax_is_that_of_scikit_learn(digits, penalty, ratio):
    from sklearn.linear_model import LogisticRegression

    x, y = digits[0][:200, 8:40], digits[1][:200]
    strength = 1e-2
    solver = {"solver": "saga", "l1_ratio": ratio} if ratio else {"solver": "lbfgs"}
    peer = LogisticRegression(C=1 / (strength * len(y)), tol=1e-7, max_iter=20_000, **solver)
    peer.fit(x.numpy(), y.numpy())
    smooth = objective(x, y, l2=strength * (1 - ratio))
    start = x.new_zeros(1, (x.shape[1] + 1) * 10)
    l1 = smooth.of_weights(start, strength * ratio)
    found, converged = minimize(smooth, start, l1=l1, tolerance=1e-7, steps=2000)
    theirs = torch.tensor([*peer.coef_.T.tolist(), peer.intercept_.tolist()]).to(x).view(1, -1)
    ours, theirs = (
        float(smooth(torch.tensor([0]), flat)[0] + (l1 * flat.abs()).sum())
        for flat in (found, theirs)
    )
    assert converged
    assert ours == pytest.approx(theirs, abs=1e-6)
    weights = found.view(-1, 10)[:-1]
    assert (int((weights != 0).sum()) == int((peer.coef_ != 0).sum())) or not ratio


def test_hinge_is_the_sum_over_wrong_classes():
    x, y = torch.randn(6, 4, dtype=torch.double), torch.tensor([0, 1, 2, 0, 1, 2])
    weights = torch.randn(5, 3, dtype=torch.double, requires_grad=True)
    scores = x @ weights[:-1] + weights[-1]
    over = [
        max(0, scores[i, j] - scores[i, y[i]] + 2) for i in range(6) for j in range(3) if j != y[i]
    ]
    for loss, total in (("hinge", sum(over)), ("squared_hinge", sum(each**2 for each in over))):
        smooth = objective(x, y, 3, loss=loss, margin=2.0)
        value, gradient = smooth(torch.tensor([0]), weights.detach().view(1, -1))
        (slope,) = torch.autograd.grad(total / 6, weights, retain_graph=True)
        assert abs(float(value - total.detach() / 6)) <= (KINK * 2 if loss == "hinge" else 1e-9)
        if all(each == 0 or each > 2 * KINK for each in over) or loss == "squared_hinge":
            assert torch.allclose(gradient.view(5, 3), slope)


def test_hinge_of_two_classes_is_the_binary_machine(digits):
    """Their weights are opposite there, and the squares count twice."""
    from sklearn.svm import SVC

    pair = digits[1] < 2
    x, y = digits[0][pair], digits[1][pair]
    x = x + 0.8 * torch.randn(x.shape, dtype=x.dtype)
    ours = fit_linear(x, y, 2, None, loss="hinge", strengths=(0.1,)).module
    z, _ = standardised(x)
    peer = SVC(kernel="linear", C=2 / (len(y) * 0.1), tol=1e-6).fit(z.numpy(), y.numpy())
    found = logits_of(ours, x)
    theirs = torch.tensor(peer.decision_function(z.numpy()))
    assert (found[:, 1] - found[:, 0] - theirs).abs().max() < 0.1 * theirs.abs().max()


def test_many_problems_are_each_alone(digits):
    x, y = digits[0][:120], digits[1][:120]
    rows = torch.stack([torch.arange(120) % 3 != part for part in range(3)]).double()
    together = Objective(x, y, rows, 10, l2=0.01)
    start = x.new_zeros(3, 65 * 10)
    found, _ = minimize(together, start, tolerance=1e-6)
    for part in range(3):
        kept = rows[part] > 0
        alone, _ = minimize(objective(x[kept], y[kept], l2=0.01), start[:1], tolerance=1e-6)
        assert torch.allclose(found[part], alone[0], atol=1e-4)


def test_wide_rows_are_fitted_in_the_space_that_they_span(digits):
    x, y = digits[0][:40], digits[1][:40]
    assert x.shape[1] > len(x)
    found = fit_linear(x, y, 10, None, strengths=(0.1,)).module
    z, std = standardised(x)
    flat, _ = minimize(objective(z, y, l2=0.1), x.new_zeros(1, 650), tolerance=1e-6)
    wanted = flat.view(65, 10)[:-1]
    assert torch.allclose(found.weight.T * std[:, None], wanted, atol=0.003)
    assert wanted.abs().max() > 0.1


# ------------------------------------------------------------------------------- choice


def test_folds_hold_of_each_class_as_many():
    y = torch.tensor([0] * 10 + [1] * 7 + [2] * 5)
    parts = stratified_folds(y, 5, seed=1)
    for number in range(3):
        counts = parts[y == number].bincount(minlength=5)
        assert counts.max() - counts.min() <= 1
    assert parts.bincount().max() - parts.bincount().min() <= 1
    assert parts.equal(stratified_folds(y, 5, seed=1))
    assert not parts.equal(stratified_folds(y, 5, seed=2))
    with pytest.warns(ZooWarning, match="the smallest class has 2 images: 2 folds"):
        assert stratified_folds(torch.tensor([0, 0, 1, 1, 1]), 5).max() == 1
    with pytest.raises(InputError, match="class 1 has one image"):
        stratified_folds(torch.tensor([0, 0, 1]), 5)


@pytest.mark.parametrize("kind", ["linear", "svm", "knn", "mlp"])
def test_every_head_learns_and_says_how_it_was_chosen(digits, kind):
    x, y = digits[0].float(), digits[1]
    values = {"linear": (1.0, 1e-2), "svm": (1.0, 1e-2), "knn": (1, 3, 250), "mlp": (0.1,)}[kind]
    options = HeadOptions(kind=kind, values=values, hidden=(32,), folds=3)
    found = fit_head_on_features(x[:300], y[:300], 10, options)
    assert accuracy(found.module, x[300:], y[300:]) > 0.85
    again = fit_head_on_features(x[:300], y[:300], 10, options)
    assert logits_of(found.module, x).equal(logits_of(again.module, x))
    tried = [dict(trial.values) for trial in found.trials]
    assert len(tried) == {"mlp": 0, "knn": 2}.get(kind, len(values))  # k=250: a fold has 200 rows
    if tried:
        best = max(trial.accuracy for trial in found.trials)
        assert found.trials[tried.index(found.values)].accuracy == best


def test_a_worse_strength_is_not_chosen(digits):
    found = fit_linear(
        digits[0], digits[1], 10, stratified_folds(digits[1], 3), strengths=(1e3, 0.01)
    )
    assert found.values == {"strength": 0.01}
    with pytest.raises(InputError, match="strengths"):
        fit_linear(*digits, 10, None, strengths=(0.0,))


@pytest.mark.parametrize("distance", ["l2", "l1", "cosine"])
def test_neighbours_are_those_of_scikit_learn(digits, distance):
    from sklearn.neighbors import KNeighborsClassifier

    x, y = digits
    x = x + 1e-3 * torch.randn(x.shape, dtype=x.dtype)  # no two distances are the same
    ours = NearestNeighbours(x[:300], y[:300], 10, k=5, distance=distance)
    peer = KNeighborsClassifier(5, metric=distance).fit(x[:300].numpy(), y[:300].numpy())
    logits = ours(x[300:])
    assert logits.argmax(1).tolist() == peer.predict(x[300:].numpy()).tolist()
    shares = torch.tensor(peer.predict_proba(x[300:].numpy()))
    assert torch.allclose(logits.softmax(1).double(), shares, atol=1e-4)
    with pytest.raises(InputError, match="k=301: expected 1 to 300"):
        NearestNeighbours(x[:300], y[:300], 10, k=301)


def test_neighbours_are_searched_in_blocks(digits, monkeypatch):
    from zoo.transfer import knn

    x = digits[0]
    whole = knn.nearest_rows(x[300:], x[:300], 3, "l2")
    monkeypatch.setattr(knn, "BLOCK_ENTRIES", 1000)
    assert knn.nearest_rows(x[300:], x[:300], 3, "l2").equal(whole)


# ----------------------------------------------------------------------------- features


def test_features_are_what_the_stages_give(lenet):
    images = torch.randn(4, 1, 28, 28)
    names = stage_names(lenet)
    assert names == ["input", *list(lenet.layer_groups())[:-1], "pre_logits"]
    lenet.train()
    loader = DataLoader(TensorDataset(images, torch.arange(4)), 3)
    found = compute_features(lenet, loader, names, mirrored=True)
    assert lenet.training
    assert found.stages == tuple(names)
    assert found.y.tolist() == [0, 1, 2, 3]
    assert found.x.shape == (4, sum(found.widths.values()))
    assert found.x.dtype == torch.float32
    lenet.eval()
    with torch.no_grad():
        for views, mirrored in (((images,), False), ((images, images.flip(-1)), True)):
            rows = [lenet.forward_head(lenet.forward_features(each), True) for each in views]
            wanted = torch.stack(rows).mean(0)
            given = compute_features(lenet, loader, mirrored=mirrored)
            assert torch.allclose(given.x, wanted, atol=1e-6)
            maps = [lenet.forward_intermediates(each, [0])[1][0] for each in views]
            first = compute_features(lenet, loader, names[1], mirrored=mirrored).x
            assert torch.allclose(first, torch.stack(maps).mean((0, 3, 4)), atol=1e-6)
    assert found.of("input").x.equal(((images + images.flip(-1)) / 2).flatten(1))
    with pytest.raises(UsageError, match=r"no stage 'pre_logit'.*did you mean pre_logits"):
        compute_features(lenet, loader, "pre_logit")


def test_features_are_found_again_until_something_changes(lenet, tmp_path, monkeypatch):
    passes = []
    all_batches = features_file._Pass.all
    monkeypatch.setattr(
        features_file._Pass, "all", lambda *a: passes.append(a[2]) or all_batches(*a)
    )
    images = torch.randn(6, 1, 28, 28)
    loader = DataLoader(TensorDataset(images, torch.arange(6)), 4)

    def again(stages="pre_logits", given=loader, **options):
        passes.clear()
        return compute_features(lenet, given, stages, cache=tmp_path, **options).x

    first = again()
    assert passes == [["pre_logits"]]
    assert again().equal(first)
    assert not passes
    again(("c3", "pre_logits"))
    assert passes == [["c3"]]
    again(mirrored=True)
    assert passes
    again(given=DataLoader(TensorDataset(images + 1, torch.arange(6)), 4))
    assert passes
    again(given=DataLoader(TensorDataset(images, torch.arange(6)), 4, shuffle=True))
    assert passes
    with torch.no_grad():
        next(lenet.parameters()).mul_(1.01)
    assert not again().equal(first)
    assert passes
    again()
    assert not passes
    forward = type(lenet).forward_features
    monkeypatch.setattr(type(lenet), "forward_features", lambda self, x: forward(self, -x))
    with pytest.warns(ZooWarning, match="'pre_logits' are of another network: computed anew"):
        again()
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-40])
    with pytest.warns(ZooWarning, match="is damaged"):
        again()


def test_old_features_make_room(lenet, tmp_path, monkeypatch):
    loader = DataLoader(TensorDataset(torch.randn(6, 1, 28, 28), torch.arange(6)), 4)
    for number, stage in enumerate(("c1", "c3", "pre_logits")):
        compute_features(lenet, loader, stage, cache=tmp_path)
        for path in tmp_path.iterdir():  # older by an hour each time
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 3600 * 10**9))
        assert len(list(tmp_path.iterdir())) == number + 1
    largest = max(path.stat().st_size for path in tmp_path.iterdir())
    compute_features(lenet, loader, "c1", cache=tmp_path)  # used now
    monkeypatch.setattr(stored, "MOST_BYTES", 3 * largest)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    compute_features(lenet, loader, "input", cache=tmp_path)  # larger than all of them
    assert len(list(tmp_path.iterdir())) < 4
    monkeypatch.setattr(stored, "MOST_BYTES", 0)
    compute_features(lenet, loader, ("input", "c3"), mirrored=True, cache=tmp_path)
    (newest,) = tmp_path.iterdir()
    assert newest not in before, "what was written last stays, whatever its size"


def test_features_refuse_what_they_cannot_be_right_about(lenet):
    images = torch.zeros(2, 1, 28, 28)
    with pytest.raises(DataError, match="not finite"):
        compute_features(lenet, DataLoader(TensorDataset(images / 0, torch.arange(2))))
    with pytest.raises(DataError, match="class number 1 with 1 classes"):
        data = TensorDataset(images, torch.tensor([0, 1]))
        compute_features(lenet, DataLoader(data, 2), classes=("one",))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

        def layer_groups(self):
            return {"body": self.body, "head": self.head}

        def forward(self, x):
            return self.head(self.body(self.body(x)))

    with pytest.raises(UsageError, match="'body' runs more than once"):
        stage_features(Twice(), torch.zeros(1, 4), ["body"])


def test_features_of_torchvision_are_those_of_its_own_extractor():
    import torchvision
    from torchvision.models.feature_extraction import create_feature_extractor

    model = torchvision.models.resnet18().eval()
    images = torch.randn(2, 3, 64, 64)
    names = {"layer2": "layer2", "flatten": "pre_logits"}
    with torch.no_grad():
        found = stage_features(model, images, list(names.values()))
        for name, value in create_feature_extractor(model, list(names))(images).items():
            wanted = value.mean((2, 3)) if value.ndim == 4 else value
            assert torch.allclose(found[names[name]], wanted, atol=1e-5)
        head = nn.Linear(512, 3)
        wanted = head(found["pre_logits"])
        module = with_fitted_head(model, ["pre_logits"], head, images)
        assert module is model
        assert torch.allclose(model(images), wanted, atol=1e-4)


def test_zoo_features(lenet, digit_folder):
    folder = digit_folder("photos", {"one": 5, "two": 5})
    train = zoo.features(lenet, folder, stage=("c1", "input"), progress=False)
    val = zoo.features(lenet, folder, stage=("c1", "input"), part="val", progress=False)
    assert (len(train), len(val)) == (8, 2)
    assert train.classes == ("one", "two")
    assert train.widths == {"c1": 6, "input": 784}
    assert val.y.tolist() == [0, 1]
    data = TensorDataset(torch.zeros(3, 1, 28, 28), torch.tensor([0, 1, 1]))
    assert zoo.features(lenet, data).y.tolist() == [0, 1, 1]
    with pytest.raises(UsageError, match="part=… is for a folder"):
        zoo.features(lenet, data, part="val")
    with pytest.raises(UsageError, match="no stage 'c9'"):
        zoo.features(lenet, folder, stage="c9")


# ------------------------------------------------------------------------------- probes

FEW = HeadOptions(values=(0.1, 0.01), folds=3)


def digit_probe(model, **options):
    split, task, recipe = Classify().open("digits"), Classify(), Recipe(batch_size=256)
    found = probe(model, split, task, recipe, **options)
    prepared = task.prepare(model, split, plain(recipe)).split
    mirrored = options.get("mirrored", False)
    return with_probe(model, prepared, task, recipe, found, mirrored=mirrored)


def share_right(model):
    """On the validation digits, by the network itself."""
    return zoo.evaluate(model, "digits", classes=list("0123456789"), progress=False).top1 / 100


@pytest.mark.parametrize("stage", ["pre_logits", "c3"])
def test_the_network_predicts_what_the_probe_measured(lenet, stage, tmp_path):
    result = digit_probe(lenet, stages=stage, head=FEW)
    assert isinstance(result.module, Probe) == (stage == "c3")
    assert result.accuracy > 0.7
    assert share_right(result.module) == pytest.approx(result.accuracy)
    assert result.to_dict()["chosen"] == dict(result.head.values)
    assert "95 % interval" in str(result)
    assert str(result).count("chosen") == 2


@pytest.mark.parametrize("kind", ["linear", "knn", "mlp"])
def test_a_probe_is_rebuilt_from_its_entry(lenet, kind):
    body = copy.deepcopy(lenet)
    options = HeadOptions(kind=kind, values=(3,) if kind == "knn" else (0.1,), hidden=(16,))
    result = digit_probe(lenet, stages=("c3", "pre_logits"), head=options, mirrored=True)
    images = torch.randn(3, 1, 28, 28)
    body.reset_classifier(10)
    made = Probe.from_config(result.module.to_config(), body)
    made.load_state_dict(result.module.state_dict())
    assert made.eval()(images).equal(result.module.eval()(images))
    assert not made.train().body.training
    assert made.head.training
    assert not any(each.requires_grad for each in made.body.parameters())
    with pytest.raises(InputError, match=r"entry head of config\.json lacks 'head'"):
        Probe.from_config({"stages": ["c3"], "mirrored": False}, body)


def test_a_head_that_computes_otherwise_gets_no_numbers():
    """SqueezeNet's own head has a ReLU, NiN's too: a new one has none."""
    torch.manual_seed(0)
    model = zoo.create("squeezenet1_1", num_classes=3).eval()
    images = torch.randn(4, 3, 64, 64)
    head = nn.Linear(512, 3)
    module = with_fitted_head(model, ["pre_logits"], head, images)
    assert module is model
    assert isinstance(model.head, nn.Conv2d)
    with torch.no_grad():
        rows = stage_features(model, images, ["pre_logits"])["pre_logits"]
        assert torch.allclose(model(images), head(rows), atol=1e-5)
    rbf = zoo.create("lenet5").eval()
    images = torch.randn(2, 1, 32, 32)
    assert isinstance(with_fitted_head(rbf, ["pre_logits"], nn.Linear(84, 10), images), Probe)


def test_few_images_choose_the_deeper_stage():
    """0.66 of 50 images is a chance of 0.067 around: 0.60 is as good, 0.55 not."""
    assert deepest_good([0.5, 0.66, 0.60], 50) == 2
    assert deepest_good([0.5, 0.66, 0.55], 50) == 1
    assert deepest_good([0.5, 0.66, 0.60], 5000) == 1
    assert deepest_good([1.0, 0.99], 50) == 0


def test_a_probe_per_stage(lenet, tmp_path):
    split = Classify().open("digits")
    found = probe_stages(lenet, split, Classify(), Recipe(batch_size=256), head=FEW)
    names = [each.stages[0] for each in found.results]
    assert names == ["c1", "c3", "c5", "f6", "pre_logits"]
    shares = [each.cross_validated for each in found.results]
    assert found.best is found.results[deepest_good(shares, 1437)]
    assert found.best.accuracy > 0.9
    found.plot(tmp_path / "depth.png")
    assert (tmp_path / "depth.png").stat().st_size > 5000
    assert str(found).count("\n") == 6
    assert found.to_dict()["best"] == list(found.best.stages)


def test_pixels_are_a_stage_and_their_weights_pictures(lenet, tmp_path):
    result = digit_probe(lenet, stages="input", head=HeadOptions(kind="svm", values=(0.3,)))
    assert result.accuracy > 0.9
    draw_templates(result.head.module, (1, 28, 28), list("0123456789"), tmp_path / "weights.png")
    assert (tmp_path / "weights.png").stat().st_size > 5000
    with pytest.raises(UsageError, match="linear head on 1x32x32 pixels"):
        draw_templates(result.head.module, (1, 32, 32), (), Path("no.png"))

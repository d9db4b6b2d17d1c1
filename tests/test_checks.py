"""What is checked before a run: each fault is planted and found, and a sound network is
left in peace, as it was.
"""

import copy
import json
import math
import random
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.cli import cli
from zoo.errors import InputError, UsageError, ZooError
from zoo.optimizers import make_optimizer
from zoo.training.checks import check_before
from zoo.training.step import Step
from zoo.transfer.param_groups import param_groups

STEP = Step(loss=lambda outputs, batch, model: F.cross_entropy(outputs, batch[1]))


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4)
    )


def batches(count=3):
    torch.manual_seed(1)
    x = torch.randn(count * 40, 6)
    return [*zip(x.split(40), (x @ torch.randn(6, 4)).argmax(1).split(40), strict=True)]


def checked(model, data=None, step=STEP, **options):
    given = {"chance_loss": math.log(4), "decay": 0.01, "seconds": 60.0, "lr": 0.05} | options
    lr = given.pop("lr")
    return check_before(
        model,
        batches() if data is None else data,
        step,
        make_optimizer=lambda net: make_optimizer(
            "momentum", param_groups(net), lr, given["decay"]
        ),
        **given,
    )


def finding(found, name):
    return next(each for each in found.findings if each.check == name)


def test_a_sound_network_has_no_problem():
    found = checked(net())
    assert found.ok
    assert all(each.ok for each in found.findings)
    assert list(found.dead_relus) == ["2"]
    assert found.dead_relus["2"] == 0
    assert json.loads(json.dumps(found.to_dict()))["ok"] is True
    assert "first loss" in str(found)


def state_of_all(model):
    tensors = [*model.state_dict().values(), *(each.grad for each in model.parameters())]
    modes = [module.training for module in model.modules()]
    numpy = np.random.get_state()
    return (
        [None if each is None else each.clone() for each in tensors],
        [torch.get_rng_state()],
        (modes, random.getstate(), numpy[1].tolist(), numpy[2:]),
        [len(module._forward_hooks) for module in model.modules()],
    )


class Restless(TensorDataset):
    """Draws from all generators."""

    def __getitem__(self, index):
        random.random()
        np.random.rand()
        return super().__getitem__(index)


def test_the_model_and_all_random_states_are_as_before_bit_for_bit():
    model = net().eval()
    model[4].weight.grad = torch.ones(4, 32)
    x, y = map(torch.cat, zip(*batches(), strict=True))
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(Restless(x, y), 40, shuffle=True, generator=generator)
    before, drawn = state_of_all(model), generator.get_state()
    found = checked(model, loader)
    assert finding(found, "a few examples fitted").ok
    after = state_of_all(model)
    for one, other in zip(before[0] + before[1], after[0] + after[1], strict=True):
        assert one is other is None or torch.equal(one, other)
    assert before[2:] == after[2:]
    assert torch.equal(generator.get_state(), drawn)


def test_what_the_task_remembers_is_as_before():
    class Baseline:
        seen = 0

        def loss(self, outputs, batch, model):
            self.seen += 1
            return F.cross_entropy(outputs, batch[1])

    task = Baseline()
    assert checked(net(), step=Step(loss=task.loss)).ok
    assert task.seen == 0


@pytest.mark.parametrize(
    ("scale", "ok", "expected"),
    [
        (
            50.0,
            False,
            r"guessing gives ln\(classes\) = 1\.39; the logits have std \d+ at the start",
        ),
        (0.01, True, r"1\.39; guessing gives"),
    ],
)
def test_the_first_loss_and_the_heads_initialisation(scale, ok, expected):
    model = net()
    model[4].weight.data *= scale
    found = finding(checked(model), "first loss")
    assert found.ok is ok
    assert re.search(expected, found.text), found.text


def test_a_loss_of_another_kind_is_held_to_what_equal_logits_give():
    twice = Step(loss=lambda outputs, batch, model: 2 * F.cross_entropy(outputs, batch[1]))
    model = net()
    model[4].weight.data *= 0.01
    found = finding(checked(model, step=twice), "first loss")
    assert found.ok
    assert "equal logits give 2.77 with this loss" in found.text
    assert finding(checked(model, chance_loss=None), "first loss").ok is None


def test_a_head_that_knows_the_classes_is_no_problem():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for x, y in batches() * 40:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    found = finding(checked(model), "first loss")
    assert found.ok is None
    assert "knows these classes already" in found.text


def test_regularisation():
    model = net()
    text = finding(checked(model), "with regularisation").text
    squares = sum(
        float(each.detach().square().sum()) for each in (model[0].weight, model[4].weight)
    )
    assert f" + {0.005 * squares:.2g} = " in text
    assert finding(checked(model, decay=0.0), "with regularisation").ok is None
    model[0].weight.requires_grad_(False)
    model[4].weight.requires_grad_(False)
    found = finding(checked(model), "with regularisation")
    assert found.ok is False
    assert "weight decay 0.01 adds nothing" in found.text


@pytest.mark.parametrize(
    ("lr", "expected"),
    [(1e-7, "learning rate 1e-07 is too low or too high"), (1e20, "lower the learning rate")],
)
def test_examples_that_cannot_be_fitted(lr, expected):
    found = finding(checked(net(), lr=lr), "a few examples fitted")
    assert found.ok is False
    assert expected in found.text


class Branches(nn.Module):
    """A branch that is never taken, one that is taken half of the time, or one that is
    multiplied by 0.
    """

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.skips_parameters = kind == "random"
        self.main = nn.Linear(6, 4)
        self.other = nn.Linear(6, 4)

    def forward(self, x):
        if self.kind == "never" or (self.kind == "random" and torch.rand(()) < 0.5):
            return self.main(x)
        return self.main(x) + (0 if self.kind == "zero" else 1) * self.other(x)


@pytest.mark.parametrize(
    ("kind", "ok", "expected"),
    [
        ("never", False, "2 of 4 parameter tensors have none: other.weight, other.bias"),
        ("zero", False, "2 of 4 parameter tensors have zeros only: other.weight, other.bias"),
        ("random", True, "all 4 parameter tensors have one"),
    ],
)
def test_gradients(kind, ok, expected):
    found = finding(checked(Branches(kind)), "gradients")
    assert (found.ok, found.text) == (ok, expected)


def test_a_branch_that_opens_after_a_step_has_a_gradient():
    """As a residual branch whose last factor begins at 0."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))
    nn.init.zeros_(model[2].weight)
    assert finding(checked(model), "gradients").ok
    late = finding(checked(model, seconds=0.0), "gradients")
    assert late.ok is None
    assert "zeros only: 0.weight, 0.bias" in late.text


def test_dead_relus_per_layer():
    model = nn.Sequential(
        nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU6(), nn.Linear(10, 4)
    )
    model[0].bias.data[:9] = -1e3
    found = checked(model)
    assert found.dead_relus["1"] == pytest.approx(0.9)
    assert finding(found, "dead ReLUs").ok is False
    assert "more than 80% in 1" in finding(found, "dead ReLUs").text
    functions = checked(nn.Linear(6, 4))
    assert finding(functions, "dead ReLUs").ok is None
    assert "functions are not seen" in finding(functions, "dead ReLUs").text


def test_dead_units_of_a_module_that_is_called_twice():
    from zoo.training.dead_units import DeadUnits

    relu = nn.ReLU(inplace=True)
    model = nn.Sequential(relu, nn.Conv2d(2, 4, 1), relu)
    nn.init.zeros_(model[1].weight)
    model[1].bias.data = torch.tensor([-1.0, -1, -1, 1])
    units = DeadUnits(model)
    model(torch.stack([torch.zeros(2, 3, 3), torch.full((2, 3, 3), -1.0)]))
    model(torch.tensor([-1.0, 1]).view(1, 2, 1, 1))
    assert units.shares() == {"0": pytest.approx(4 / 6)}
    units.remove()
    assert not model._forward_pre_hooks
    assert not relu._forward_hooks


def test_time_and_empty_data():
    found = checked(net(), seconds=0.0)
    assert finding(found, "a few examples fitted").ok is None
    assert found.seconds < 5
    with pytest.raises(ZooError, match="the data are empty"):
        checked(net(), [])


def test_a_network_that_cannot_be_copied_is_not_tried():
    model = net()
    model.log = (line for line in ())
    found = checked(model)
    assert found.ok
    assert found.findings[0].text.startswith("Sequential cannot be copied, so nothing was tried")


# -------------------------------------------------------------------------------- verbs


def test_by_name_and_on_data():
    found = zoo.check("lenet5_modern", "digits", pretrained=False, seconds=5, cpu=True)
    assert finding(found, "first loss").ok
    assert finding(found, "a few examples fitted").ok
    assert finding(found, "gradients").ok
    own = zoo.create("lenet5_modern", num_classes=7)
    before = copy.deepcopy(own.state_dict())
    assert zoo.check(own, "digits", seconds=0.01, cpu=True).findings
    assert own.head.out_features == 7
    assert all(torch.equal(each, before[key]) for key, each in own.state_dict().items())
    assert finding(zoo.check("ciresan_mlp1", seconds=1, cpu=True), "gradients").ok
    with pytest.raises(UsageError, match="what Linear is for is not known: give data"):
        zoo.check(nn.Linear(6, 4), cpu=True)
    with pytest.raises(UsageError, match="seconds=0: needs a number above 0"):
        zoo.check("lenet5_modern", seconds=0)


def test_on_the_command_line():
    run = CliRunner()
    args = ["check", "lenet5_modern", "--from-scratch", "--data", "digits"]
    args += ["--seconds", "1", "--cpu"]
    done = run.invoke(cli, [*args, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["findings"][0]["check"] == "first loss"
    done = run.invoke(cli, [*args, "--optimizer", "sgd", "--lr", "1e30"])
    assert done.exit_code == 1
    assert "lower the learning rate" in done.stdout
    refused = run.invoke(cli, ["check", "lenet5_modern", "--gradients", "--lr", "1"]).exception
    assert isinstance(refused, UsageError)
    assert isinstance(run.invoke(cli, [*args, "--batch-size", "0"]).exception, InputError)

"""The course of the learning rate, against numbers worked out by hand and torch's."""

import json
import math

import pytest
import torch
from torch import nn

from zoo.training.recipe import Recipe
from zoo.training.schedule import make_schedule


def sgd(lr=0.1):
    return torch.optim.SGD(nn.Linear(2, 2).parameters(), lr, momentum=0.9)


def rates(recipe, steps, per_epoch=1, lr=0.1):
    """The rate of each step, in a training of so many."""
    schedule = make_schedule(recipe, sgd(lr), steps, per_epoch)
    found = []
    for _ in range(steps):
        found += schedule.get_last_lr()
        schedule.step()
    return found


def test_cosine():
    found = rates(Recipe(), 100)
    assert found[:10] == pytest.approx([0.1 * (i + 1) / 10 for i in range(10)])
    assert (found[10], found[55]) == pytest.approx((0.1, 0.05))
    assert found[10:] == sorted(found[10:], reverse=True)
    assert 0 < found[-1] < 1e-4
    assert rates(Recipe(warmup=0), 100)[50] == pytest.approx(0.05)


def test_milestones_and_their_factors():
    """ResNet on CIFAR-10: 64,000 steps, a tenth from 32,000 and from 48,000 on."""
    found = rates(Recipe(schedule="step", lr_milestones=(0.5, 0.75)), 64_000)
    changes = [step for step in range(1, 64_000) if found[step] != found[step - 1]]
    assert changes == [32_000, 48_000]
    assert [found[step] for step in (0, *changes)] == pytest.approx([0.1, 0.01, 0.001])
    warm = Recipe(schedule="step", lr_milestones=(0.1, 0.5), lr_factor=(10, 0.2))
    assert rates(warm, 10, lr=0.01) == pytest.approx([0.01] + [0.1] * 4 + [0.02] * 5)


def test_every_so_many_epochs():
    """Inception-v3: times 0.94 every two epochs, whatever a warm-up before does."""
    recipe = Recipe(schedule="step", lr_every=2, lr_factor=0.94, warmup=0.1)
    found = rates(recipe, 60, per_epoch=6, lr=0.045)
    assert found[:6] == pytest.approx([0.045 * (i + 1) / 6 for i in range(6)])
    assert found[11] == pytest.approx(0.045)
    assert found[12] == pytest.approx(0.045 * 0.94)
    assert found[59] == pytest.approx(0.045 * 0.94**4)


def test_linear_and_constant():
    assert rates(Recipe(schedule="linear"), 10, lr=0.04)[::3] == pytest.approx(
        [0.04, 0.028, 0.016, 0.004]
    )
    assert rates(Recipe(schedule="constant", warmup=0.2), 10) == pytest.approx([0.05] + [0.1] * 9)


@pytest.mark.parametrize("steps", [10, 100, 391])
def test_one_cycle_is_torchs(steps):
    ours, theirs = sgd(), sgd()
    recipe = Recipe(schedule="one-cycle", optimizer="nesterov", cycle_momentum=True)
    schedule = make_schedule(recipe, ours, steps, 10)
    other = torch.optim.lr_scheduler.OneCycleLR(theirs, 0.1, total_steps=steps)
    for step in range(steps):
        for key in ("lr", "momentum"):
            assert ours.param_groups[0][key] == pytest.approx(theirs.param_groups[0][key])
        ours.step()
        theirs.step()
        schedule.step()
        if step < steps - 1:
            other.step()
    assert max(rates(recipe, steps)) == pytest.approx(0.1, rel=0.03)
    optimizer = sgd()
    make_schedule(Recipe(schedule="one-cycle"), optimizer, 10, 1)
    assert optimizer.param_groups[0]["momentum"] == 0.9, "only on request"


@pytest.mark.parametrize("higher", [True, False])
def test_plateau(higher):
    """A tenth after two epochs without a better value, and again."""
    recipe = Recipe(schedule="plateau", lr_patience=2)
    schedule = make_schedule(recipe, sgd(), 80, 10, higher_is_better=higher)
    found = []
    for value in (0.5, 0.6, 0.6, 0.59, 0.7, 0.7, math.nan, 0.7, 0.7):
        schedule.end_epoch(value if higher else -value)
        found += schedule.get_last_lr()
    expected = [0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001, 0.001, 0.0001]
    assert found == pytest.approx(expected)


def test_groups_keep_their_ratio():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    groups = [{"params": model[0].parameters(), "lr": 0.001}, {"params": model[1].parameters()}]
    schedule = make_schedule(Recipe(), torch.optim.SGD(groups, 0.1), 50, 10)
    for _ in range(50):
        low, high = schedule.get_last_lr()
        assert high == pytest.approx(100 * low)
        assert high > 0
        schedule.step()
    schedule.step()  # one too many
    assert schedule.get_last_lr() == [0, 0]


@pytest.mark.parametrize("order", ["optimizer first", "schedule first"])
@pytest.mark.parametrize("name", ["cosine", "plateau", "one-cycle"])
def test_it_goes_on_where_it_was(name, order):
    """To the bit, from numbers that JSON can hold, whichever is loaded first."""
    recipe = Recipe(schedule=name, lr_patience=1 if name == "plateau" else None)

    def go(schedule, count):
        found = []
        for step in range(count):
            schedule.step()
            if step % 5 == 4:
                schedule.end_epoch(1.0)
            found += schedule.get_last_lr()
        return found

    optimizer = sgd()
    schedule = make_schedule(recipe, optimizer, 60, 5)
    go(schedule, 23)
    state = json.loads(json.dumps(schedule.state_dict()))
    saved = optimizer.state_dict()
    expected = go(schedule, 37)
    other = sgd()
    if order == "optimizer first":
        other.load_state_dict(saved)
        resumed = make_schedule(recipe, other, 60, 5)
    else:
        resumed = make_schedule(recipe, other, 60, 5)
        other.load_state_dict(saved)
    resumed.load_state_dict(state)
    assert go(resumed, 37) == expected

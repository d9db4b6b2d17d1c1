"""The learning-rate range test: on a parabola, whose rates are known, and on digits."""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.cli import cli
from zoo.errors import DataError, InputError, UsageError, ZooError
from zoo.training.lr_range import RangeTest, range_test
from zoo.training.step import Step

ABOUT = {"name": "parabola", "data": "none", "optimizer": "sgd"}


class Parabola(nn.Module):
    """Loss (w - x)^2 / 2, where x is 1 and -1 in turn: a step of SGD moves w by rate
    times its distance from x, and from rate 2 on it diverges.
    """

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([5.0]))
        self.slow = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return ((self.w - x).square().sum() + (self.slow - 1).square().sum() * 1e-6) / 2


BATCHES = [(torch.ones(1),), (-torch.ones(1),)]
STEP = Step(loss=lambda outputs, batch, model: outputs)


def groups(model):
    return torch.optim.SGD([{"params": [model.w], "lr": 1.0}, {"params": [model.slow], "lr": 0.1}])


def ranged(**options):
    batches = options.pop("batches", BATCHES)
    return range_test(Parabola(), batches, STEP, groups, **{"highest": 1e3, **options, **ABOUT})


def test_rates_of_a_parabola():
    found = ranged(lowest=1e-4, steps=50)
    assert found.diverged
    factors = [after / before for before, after in zip(found.rates, found.rates[1:], strict=False)]
    assert factors == pytest.approx([(1e3 / 1e-4) ** (1 / 49)] * len(factors))
    w = 5.0  # each loss is that before its step
    for number, (rate, loss) in enumerate(zip(found.rates, found.losses, strict=True)):
        distance = w - (-1) ** number
        assert loss == pytest.approx(distance**2 / 2, rel=1e-3, abs=1e-5)
        w -= rate * distance
    assert 0.1 < found.lowest < found.rates[-1]
    assert found.suggestion == found.lowest / 10
    assert 0.01 < found.steepest < 2
    assert found.steepest <= found.lowest


def test_smoothing_begins_without_a_lag_and_ends_at_divergence():
    found = ranged(lowest=1e-4, steps=50)
    assert found.smoothed[0] == pytest.approx(found.losses[0])
    assert found.smoothed[1] == pytest.approx(
        (0.09 * found.losses[0] + 0.1 * found.losses[1]) / 0.19
    )
    assert found.smoothed[-1] > 4 * min(found.smoothed)
    assert max(found.smoothed[:-1]) <= max(4 * min(found.smoothed), found.smoothed[0])
    calm = ranged(lowest=1e-4, highest=1e-2, steps=10)
    assert not calm.diverged
    assert len(calm.rates) == 10
    assert "without divergence" in str(calm)


def test_groups_keep_the_ratio_of_their_rates():
    seen = []

    class Watching(torch.optim.SGD):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    def make(model):
        return Watching([{"params": [model.w], "lr": 0.5}, {"params": [model.slow], "lr": 0.05}])

    range_test(Parabola(), BATCHES, STEP, make, highest=0.1, steps=4, **ABOUT)
    assert [high / low for high, low in seen] == pytest.approx([10.0] * 4)
    assert seen[0][0] == pytest.approx(1e-7)


def test_the_model_and_the_random_state_are_as_before():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).eval()
    before = [each.clone() for each in model.state_dict().values()]
    generator = torch.Generator().manual_seed(2)
    data = TensorDataset(torch.randn(20, 3), torch.zeros(20, dtype=torch.long))
    loader = DataLoader(data, 5, shuffle=True, generator=generator)
    states = torch.get_rng_state(), generator.get_state()
    step = Step(loss=lambda o, batch, m: nn.functional.cross_entropy(o, batch[1]))

    def run():
        make = lambda net: torch.optim.SGD(net.parameters(), 1.0)  # noqa: E731
        return range_test(model, loader, step, make, steps=20, **ABOUT)

    assert run().losses == run().losses
    assert all(map(torch.equal, before, model.state_dict().values()))
    assert not model.training
    assert all(each.grad is None for each in model.parameters())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])


def test_what_cannot_be_ranged():
    for given in ({"lowest": 0.0}, {"lowest": 2.0, "highest": 1.0}, {"highest": math.inf}):
        with pytest.raises(InputError, match="need 0 < lowest < highest"):
            ranged(**given)
    with pytest.raises(InputError, match="steps=1: needs two or more"):
        ranged(steps=1)
    with pytest.raises(DataError, match="no batch to try rates on"):
        ranged(batches=[])
    broken = Step(loss=lambda outputs, batch, model: outputs * math.nan)
    with pytest.raises(ZooError, match="no number from the start"):
        range_test(Parabola(), BATCHES, broken, groups, **ABOUT)


def test_a_loss_that_is_no_number_ends_it():
    limited = Step(loss=lambda o, batch, model: o + (math.nan if o < 0.1 else 0))
    found = range_test(Parabola(), BATCHES, limited, groups, lowest=1e-3, highest=1.0, **ABOUT)
    assert found.diverged
    assert all(map(math.isfinite, found.losses))


def test_the_curve(tmp_path):
    found = ranged(lowest=1e-4, steps=50)
    found.plot(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")
    flat = RangeTest("a", "b", "sgd", [1.0, 2.0], [1.0, 1.0], [1.0, 1.0], False)
    flat.plot(tmp_path / "flat.png")
    with pytest.raises(UsageError, match=r"lr\.pdf: the curve is a \.png file"):
        found.plot(tmp_path / "lr.pdf")


def test_on_digits(tmp_path):
    args = ["lr-find", "lenet5_modern", "--from-scratch", "--data", "digits", "--cpu"]
    args += ["--optimizer", "momentum"]
    plot = str(tmp_path / "lr.png")
    done = CliRunner().invoke(cli, [*args, "--highest", "100", "--json", "--plot", plot])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["diverged"]
    assert 1e-3 < found["suggestion"] < 1, "where momentum trains LeNet-5"
    assert (tmp_path / "lr.png").is_file()
    refused = CliRunner().invoke(cli, [*args, "--plot", "lr.txt"]).exception
    assert isinstance(refused, UsageError)
    model = zoo.create("lenet5_modern")
    before = [each.clone() for each in model.parameters()]
    zoo.lr_find(model, "digits", steps=3, cpu=True)
    assert all(map(torch.equal, before, model.parameters()))

"""Analytic against numerical gradients: a wrong backward pass is found, a corner of the
loss is none.
"""

import json
import math

import pytest
import torch
from click.testing import CliRunner
from modules import Do
from torch import nn

import zoo
from zoo.cli import cli
from zoo.errors import InputError, UsageError


class Square(torch.autograd.Function):
    """x^2, whose backward pass is off by `factor`."""

    @staticmethod
    def forward(ctx, x, factor):
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient * ctx.factor, None


def squaring(factor):
    return nn.Sequential(
        nn.Linear(5, 4), Do(lambda x: Square.apply(x, factor)), nn.Linear(4, 3), nn.Tanh()
    )


INPUTS = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [1.001, 0.0, -1.0])
def test_a_wrong_backward_is_found_in_all_that_lies_before_it(factor):
    found = zoo.check_gradients(squaring(factor), inputs=INPUTS)
    assert not found.ok
    wrong = {row.name: row.wrong for row in found.rows}
    assert wrong == {"0.weight": 4, "0.bias": 4, "2.weight": 0, "2.bias": 0, "input 0": 4}
    row = next(row for row in found.rows if row.name == "0.weight")
    expected = abs(factor - 1) / max(abs(factor), 1)
    assert row.error == pytest.approx(min(expected, 2), rel=1e-3)
    assert row.analytic == pytest.approx(factor * row.numerical, rel=1e-5, abs=1e-12)
    assert "3 tensors with a wrong gradient" in str(found)


def test_a_right_one_agrees():
    found = zoo.check_gradients(squaring(1.0), inputs=INPUTS)
    assert found.ok
    assert all(row.error < 1e-7 for row in found.rows)
    assert [row.entries for row in found.rows] == [4, 4, 4, 3, 4]
    assert "gradient agree" in found.summary()


class Corner(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def forward(self, x):
        return (torch.relu(self.w) * x).sum() + (self.w * x).sum()


def test_a_corner_is_none():
    """At it (both sides differ), and within the step (the error falls with h)."""
    x = torch.ones(4)
    found = zoo.check_gradients(Corner(0.0, 3e-6, 0.5, -0.5), inputs=x)
    row = found.rows[0]
    assert (row.kinks, row.wrong, row.entries) == (2, 0, 4)
    assert found.ok


class Steep(torch.autograd.Function):
    """ReLU, whose backward pass says 5 everywhere."""

    @staticmethod
    def forward(ctx, x):
        return x.relu()

    @staticmethod
    def backward(ctx, gradient):
        return 5 * gradient


def test_a_wrong_gradient_at_a_corner_is_still_wrong():
    """It is 0 on one side and 1 on the other, and 5 is not between them."""
    found = zoo.check_gradients(Do(Steep.apply), inputs=torch.zeros(2, 2), loss=torch.sum)
    assert (found.rows[0].wrong, found.rows[0].kinks) == (4, 0)
    right = zoo.check_gradients(Do(torch.relu), inputs=torch.zeros(2, 2), loss=torch.sum)
    assert (right.rows[0].wrong, right.rows[0].kinks) == (0, 4)


def test_a_gradient_below_the_rounding_of_the_loss_is_too_small_to_tell():
    """A bias before batch norm in training mode: its gradient is 0 but for rounding."""
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Tanh())
    rows = {row.name: row for row in zoo.check_gradients(model, inputs=INPUTS).rows}
    assert rows["0.bias"].too_small == 4
    assert rows["0.weight"].too_small == 0
    assert zoo.check_gradients(model, inputs=INPUTS, mode="eval").rows[1].too_small == 0


def test_random_parts_and_state_are_the_same_in_each_evaluation():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 2))
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.net(x) * self.calls

    torch.manual_seed(5)
    model = Counting()
    before, state = torch.get_rng_state(), [each.clone() for each in model.state_dict().values()]
    found = zoo.check_gradients(model, inputs=INPUTS)
    assert found.ok
    assert found.to_dict() == zoo.check_gradients(model, inputs=INPUTS).to_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, state, model.state_dict().values()))
    assert all(each.grad is None for each in model.parameters())


def test_what_cannot_be_compared():
    lists = []

    def restless(x):
        lists.append(1)
        return x * len(lists)

    with pytest.raises(InputError, match="the loss is another one each time"):
        zoo.check_gradients(Do(restless), inputs=INPUTS)
    with pytest.raises(InputError, match=r"the loss comes out in torch\.float32, too coarse"):
        zoo.check_gradients(Do(torch.sum), inputs=INPUTS, loss=lambda output: output.float())
    with pytest.raises(InputError, match="the loss is nan: there is no gradient"):
        zoo.check_gradients(Do(lambda x: x.sum() * math.nan), inputs=INPUTS)
    with pytest.raises(UsageError, match="Do has neither a parameter nor an input"):
        zoo.check_gradients(Do(lambda x: x), inputs=torch.zeros(2, dtype=torch.long))
    with pytest.raises(InputError, match="Linear does not take this batch: RuntimeError"):
        zoo.check_gradients(nn.Linear(6, 2), inputs=INPUTS)
    with pytest.raises(InputError, match=r"the loss has the shape \(3, 5\): needs a scalar"):
        zoo.check_gradients(Do(torch.tanh), inputs=INPUTS, loss=lambda output: output)
    with pytest.raises(UsageError, match="is on the meta device"):
        zoo.check_gradients(nn.Linear(5, 2, device="meta"), inputs=INPUTS)
    with pytest.raises(UsageError, match="entries=0"):
        zoo.check_gradients(nn.Linear(5, 2), inputs=INPUTS, entries=0)


def test_by_name_with_the_loss_of_its_task():
    done = CliRunner().invoke(cli, ["check", "ciresan_mlp1", "--gradients", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["ok"]
    assert found["loss"] > 0
    assert [row["name"] for row in found["rows"]][-1] == "input 0"
    assert zoo.check_gradients("lenet5_modern", batch_size=1, entries=1).ok


def test_a_wrong_gradient_is_exit_code_1(monkeypatch):
    wrong = zoo.check_gradients(squaring(2.0), inputs=INPUTS)
    monkeypatch.setattr("zoo.check_gradients", lambda *given, **options: wrong)
    done = CliRunner().invoke(cli, ["check", "lenet5", "--gradients"])
    assert done.exit_code == 1
    assert "wrong gradient" in done.stdout

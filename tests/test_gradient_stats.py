"""`zoo profile --stats --mode train`: gradients and updates by hand, and the gradient
of a recurrent layer's state at each time step.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from modules import Do
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import zoo
from zoo.cli import cli
from zoo.errors import InputError, ZooWarning
from zoo.optimizers import make_optimizer


def profiled(model, inputs, **options):
    found = zoo.profile(model, inputs=inputs, mode="train", stats=True, **options)
    return found, {row.path: row for row in found.rows}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_norms_and_updates_by_hand(optimizer):
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 3)))
    model[2][0].bias.requires_grad_(False)
    x = torch.randn(6, 5)
    _, rows = profiled(model, x, optimizer=optimizer)
    assert all(each.grad is None for each in model.parameters())
    F.cross_entropy(model(x), torch.zeros(6, dtype=torch.long)).backward()
    first = torch.cat([each.grad.flatten() for each in model[0].parameters()])
    assert rows["0"].gradient == pytest.approx(first.norm().item(), rel=1e-5)
    assert rows["2"].gradient == rows["2.0"].gradient
    assert rows["2.0"].gradient == pytest.approx(model[2][0].weight.grad.norm().item(), rel=1e-5)
    both = (rows["0"].gradient ** 2 + rows["2"].gradient ** 2) ** 0.5
    assert rows[""].gradient == pytest.approx(both)
    assert rows["1"].gradient is rows["1"].update is None
    weight = model[2][0].weight
    before = weight.detach().clone()
    make_optimizer(optimizer, [weight]).step()
    moved = (weight.detach() - before).norm() / before.norm()
    assert rows["2"].update == pytest.approx(moved.item(), rel=1e-4)
    assert rows["2"].std > 0


def test_only_in_training():
    _, rows = profiled(nn.Linear(5, 4), torch.randn(2, 5))
    assert rows[""].gradient > 0
    evaluated = zoo.profile(nn.Linear(5, 4), inputs=torch.randn(2, 5), stats=True)
    assert evaluated.rows[0].gradient is None
    assert "gradient" not in evaluated.to_markdown()
    frozen = nn.Linear(5, 4).requires_grad_(False)
    assert profiled(frozen, torch.randn(2, 5))[1][""].gradient is None
    with pytest.raises(InputError, match="optimizer='lbfgs'"):
        zoo.profile(nn.Linear(5, 4), inputs=torch.randn(2, 5), optimizer="lbfgs")


class Reader(nn.Module):
    """Reads a sequence, and gives what it knows at each step or at the end."""

    def __init__(self, rnn, ending):
        super().__init__()
        self.rnn, self.ending = rnn, ending
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        output, state = self.rnn(x)
        state = state[0] if isinstance(state, tuple) else state
        return self.head(state[-1] if self.ending == "state" else output[:, -1])


def by_hand(kind, layers, x, model):
    """Gradients of the last layer's hidden states, with the layers' own cells."""
    cell = {"RNN": nn.RNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}[kind]
    cells = []
    for layer in range(layers):
        made = cell(3 if not layer else 4, 4)
        for name, each in made.named_parameters():
            each.data = getattr(model.rnn, f"{name}_l{layer}").data
        cells.append(made)
    states, kept = [None] * layers, []
    for step in range(x.shape[1]):
        given = x[:, step]
        for layer, made in enumerate(cells):
            states[layer] = made(given, states[layer])
            given = states[layer][0] if kind == "LSTM" else states[layer]
            given.retain_grad()
            kept.append(given)
    F.cross_entropy(model.head(given), torch.zeros(len(x), dtype=torch.long)).backward()
    return [each.grad for each in kept[layers - 1 :: layers]]


@pytest.mark.parametrize("ending", ["output", "state"])
@pytest.mark.parametrize(("kind", "layers"), [("RNN", 1), ("LSTM", 2), ("GRU", 1)])
def test_the_state_at_each_time_step(kind, layers, ending):
    model = Reader(getattr(nn, kind)(3, 4, layers, batch_first=True), ending)
    x = torch.randn(2, 5, 3)
    found, _ = profiled(model, x)
    expected = by_hand(kind, layers, x, model)
    assert list(found.state_gradients) == ["rnn"]
    assert found.state_gradients["rnn"] == pytest.approx(
        [each.norm().item() for each in expected], rel=1e-4
    )
    assert found.macs == zoo.profile(model, inputs=x).macs


def test_layers_in_which_the_time_comes_first_and_cells():
    stacked = nn.LSTM(3, 4, 2)
    found, _ = profiled(nn.Sequential(stacked, Do(lambda pair: pair[0][-1])), torch.randn(7, 2, 3))
    norms = found.state_gradients["0"]
    assert len(norms) == 7
    assert 0 < norms[0] < norms[-1]

    class Cells(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x):
            state = None
            for part in x.unbind(1):
                state = self.cell(part, state)
            return state

    found, _ = profiled(Cells(), torch.randn(2, 20, 3))
    assert len(found.state_gradients["cell"]) == 20
    table = found.step_tables()[0]
    assert [row[0] for row in table.rows][:: len(table.rows) - 1] == ["1", "20"]
    assert len(table.rows) == 12


def test_what_is_not_run_step_by_step_is_said():
    both = nn.Sequential(nn.GRU(3, 4, bidirectional=True), Do(lambda pair: pair[0][-1]))
    with pytest.warns(ZooWarning, match="no gradient per time step of 0: bidirectional"):
        found, rows = profiled(both, torch.randn(5, 2, 3))
    assert found.state_gradients == {}
    assert rows["0"].gradient > 0
    packed = Do(lambda x: pack_padded_sequence(x, [5, 2]))
    model = nn.Sequential(packed, nn.GRU(3, 4), Do(lambda pair: pair[1][-1]))
    with pytest.warns(ZooWarning, match="no gradient per time step of 1"):
        assert profiled(model, torch.randn(5, 2, 3))[0].state_gradients == {}


def test_on_the_command_line():
    args = ["profile", "lenet5_modern", "--stats", "--mode", "train", "--optimizer", "adamw"]
    done = CliRunner().invoke(cli, args)
    assert done.stdout.splitlines()[0].split()[-2:] == ["gradient", "update/weights"]
    record = json.loads(CliRunner().invoke(cli, [*args, "--json"]).stdout)
    assert record["rows"][0]["gradient"] > 0
    assert 0 < record["rows"][0]["update"] < 0.5

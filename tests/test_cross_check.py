"""Second opinions: other counters side by side with ours, and what happens when one of
them fails.
"""

import csv
import io
import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from torch import nn

import zoo
from zoo.cli import cli
from zoo.errors import InputError, UsageError, ZooWarning


def opinion(*args, **kwargs):
    return zoo.cross_check(*args, **kwargs)


def kinds(found):
    return {each.what: (each.ours, each.theirs) for each in found.kinds}


@pytest.mark.parametrize("engine", ["fvcore", "torch"])
@pytest.mark.parametrize(
    "name",
    ["lenet5_modern", "alexnet", "resnet20_cifar10", "squeezenet1_1", "densenet40_k12_cifar10"],
)
def test_both_agree_on_multiply_adds(name, engine):
    found = opinion(name, engine)
    assert (found.failure, found.modules, found.agrees) == ("", (), True)
    assert found.macs.ours == found.macs.theirs == zoo.profile(name).macs
    theirs = sum(each.theirs for each in found.kinds)
    assert (
        found.total == theirs
        if engine == "fvcore"
        else found.total == 2 * found.macs.theirs == 2 * theirs
    )


def test_what_fvcore_counts_besides():
    found = opinion("densenet40_k12_cifar10", "fvcore", batch_size=2)
    ours = zoo.profile("densenet40_k12_cifar10", batch_size=2).other
    assert kinds(found)["normalisation"] == (ours["normalisation"], ours["normalisation"])
    assert found.uncounted["aten::avg_pool2d"] == 2
    assert found.total > found.macs.theirs


def test_recurrent_layers():
    x = torch.empty(20, 1, 512)
    blind, seeing = (
        opinion(nn.LSTM(512, 512), "fvcore", inputs=x),
        opinion(nn.LSTM(512, 512), "torch", inputs=x),
    )
    assert (blind.macs.ours, blind.macs.theirs, blind.macs.difference) == (
        41_943_040,
        0,
        -41_943_040,
    )
    assert blind.uncounted == {"aten::lstm": 1}
    assert seeing.agrees


def test_the_module_that_differs_is_named():
    layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True)
    found = opinion(layer, "fvcore", inputs=torch.empty(1, 20, 512))
    attention = 2 * 8 * 20 * 20 * 64
    assert found.macs.difference == -attention
    assert [(each.what, each.difference) for each in found.modules] == [("self_attn", -attention)]
    assert opinion(layer, "torch", inputs=torch.empty(1, 20, 512)).agrees


def test_a_training_step():
    found = opinion("resnet20_cifar10", "torch", batch_size=2, mode="train")
    profile = zoo.profile("resnet20_cifar10", batch_size=2, mode="train")
    assert found.agrees
    assert found.total == profile.flops + profile.backward_flops
    grouped = opinion(
        nn.Conv2d(4, 4, 3, groups=2),
        "torch",
        inputs=torch.empty(1, 4, 5, 5, requires_grad=True),
        mode="train",
    )
    # forwards, of the input's and the weight's gradient: 4x3x3 positions, 2 channels
    # and 3x3 values; torch multiplies the last by the groups once more
    weights = 4 * 2 * 9 * 9
    assert (grouped.macs.ours, grouped.macs.difference) == (3 * weights, weights)
    with pytest.raises(UsageError, match="fvcore counts forward passes only"):
        opinion("lenet5", "fvcore", mode="train")


def test_dicts_several_inputs_and_foreign_modules():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.randn(4, 4)  # no buffer

        def forward(self, a, b):
            return a @ self.table + F.relu(b @ self.table)

    x = torch.empty(3, 4)
    assert opinion(Sum(), "fvcore", inputs=(x, x)).macs.theirs == 2 * 3 * 16
    assert opinion(Sum(), "torch", inputs={"b": x, "a": x}).macs.theirs == 2 * 3 * 16
    with pytest.warns(
        ZooWarning,
        match="gives no second opinion on Sum: TypeError: it takes positional arguments only",
    ):
        assert opinion(Sum(), "fvcore", inputs={"a": x, "b": x}).macs.theirs is None


def test_nothing_is_changed():
    model = zoo.create("resnet20_cifar10").train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    for engine in ("fvcore", "torch"):
        opinion(model, engine)
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


# ----------------------------------------------------------------------------- failures


class Untraceable(nn.Module):
    """What torch.jit's tracer cannot follow: an output that is no tensor."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return {1, float(len(self.layer(x)))}


def test_a_module_that_fvcore_cannot_trace():
    with pytest.warns(
        ZooWarning, match=r"^fvcore 0\.\S+ gives no second opinion on Untraceable: \w+: ."
    ) as caught:
        found = opinion(Untraceable(), "fvcore", inputs=torch.empty(2, 4))
    assert all("\n" not in str(warning.message) for warning in caught)
    assert (found.macs.ours, found.macs.theirs, found.macs.difference) == (32, None, None)
    assert (found.total, found.modules, found.agrees) == (None, (), False)
    assert found.remarks()[0].startswith(f"fvcore {found.version} failed: ")
    assert found.cells() == [["matrix product", "32", "", ""], ["MACs", "32", "", ""]]


def test_an_engine_that_a_newer_torch_broke(monkeypatch):
    import torch.utils.flop_counter

    monkeypatch.delattr(torch.utils.flop_counter, "FlopCounterMode")
    with pytest.warns(
        ZooWarning,
        match="gives no second opinion on lenet5: ImportError: cannot import name "
        "'FlopCounterMode'",
    ):
        assert opinion("lenet5", "torch").macs.ours == 325_680


def test_a_broken_installation_of_fvcore(tmp_path):
    package = tmp_path / "fvcore"
    package.mkdir()
    (package / "__init__.py").write_text(
        "raise ImportError('compiled for another torch\\nand more')"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "zoo", "profile", "lenet5", "--engine", "fvcore"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines() if "MACs" in line] == [
        ["MACs", "325,680"]
    ]
    assert "ImportError: compiled for another torch" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("note: fvcore ")


def test_our_own_errors_are_errors():
    with pytest.raises(InputError, match="does not take the input"):
        opinion(nn.Linear(3, 3), "torch", inputs=torch.empty(1, 4))
    with pytest.raises(
        InputError, match=r"zoo\.cross_check: engine='ptflops': expected 'fvcore' or 'torch'"
    ):
        opinion("lenet5", "ptflops")


# ----------------------------------------------------------------------------- the verb


def test_the_verb():
    def run(*args):
        return CliRunner().invoke(cli, ["profile", "alexnet", "--engine", "fvcore", *args])

    found = opinion("alexnet", "fvcore")
    lines = run().stdout.splitlines()
    assert lines[0].split() == ["operations", "ours", "fvcore", "difference"]
    assert lines[5].split() == ["MACs", "724,406,816", "724,406,816", "0"]
    assert lines[-2:] == found.remarks()
    assert "aten::avg_pool3d (2x)" in lines[-1]
    assert str(found).splitlines() == lines
    assert run("--json").stdout == json.dumps(found.to_dict(), indent=2) + "\n"
    assert run("--markdown").stdout == found.to_markdown() + "\n"
    records = list(csv.DictReader(io.StringIO(run("--csv").stdout)))
    assert records[-1] == {
        "operations": "MACs",
        "ours": "724406816",
        "theirs": "724406816",
        "difference": "0",
    }
    assert isinstance(run("--stats").exception, UsageError)

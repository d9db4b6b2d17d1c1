"""Looking at one network: the table of its modules in all forms, and the statistics of
a batch that is really run.
"""

import csv
import io
import json
import random
import re
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from modules import Do
from torch import nn

import zoo
from zoo.cli import cli, console
from zoo.count import module_table
from zoo.errors import InputError, UsageError


def run(*args):
    return CliRunner().invoke(cli, ["profile", *args])


# -------------------------------------------------------------------------------- table


def test_the_tree_of_modules():
    done = run("lenet5", "--depth", "2", "--batch-size", "2")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    headers = [
        "module",
        "kind",
        "output",
        "parameters",
        "MACs",
        "FLOPs",
        "share",
        "other",
        "MiB",
        "saved",
        "receptive",
        "field",
    ]
    assert lines[0].split() == headers
    assert lines[2].split()[:7] == [
        "lenet5",
        "LeNet5",
        "2x10",
        "60,000",
        "651,360",
        "1,302,720",
        "100.0%",
    ]
    assert lines[3].startswith("  features   Sequential")
    assert lines[4].startswith("    c1       Sequential   2x6x28x28 ")
    assert lines[4].split()[-3:] == [
        f"{4 * 2 * 6 * 28 * 28:,}",
        "0.07",
        "5x5",
    ]  # bias, tanh, two products
    assert lines[-4] == (
        "lenet5, input 2x1x32x32: 60,000 parameters, 651,360 MACs (1,302,720 FLOPs), 4 "
        "convolutions or matrix products deep"
    )
    assert "modules lie deeper: --depth 5 shows all" in done.stderr
    deep = run("lenet5", "--depth", "5")
    assert len(deep.stdout.splitlines()) == 2 + len(zoo.profile("lenet5").rows) + 5
    assert deep.stderr == ""


@pytest.mark.parametrize(
    ("size", "shape"),
    [("96", [1, 3, 96, 96]), ("64x96", [1, 3, 64, 96]), ("3x64x96", [1, 3, 64, 96])],
)
def test_another_size(size, shape):
    record = json.loads(run("resnet18", "--input-size", size, "--json").stdout)
    assert record["inputs"] == [shape]
    assert {
        "path",
        "kind",
        "level",
        "calls",
        "output",
        "params",
        "macs",
        "flops",
        "other",
        "receptive_field",
    } < set(record["rows"][0])


@pytest.mark.parametrize("size", ["1x3x96x96", "big", "3x-1x4", ""])
def test_a_wrong_size(size):
    done = run("resnet18", "--input-size", size)
    assert done.exit_code != 0
    assert "size" in (done.stderr or str(done.exception))


def test_all_forms_hold_the_same_figures():
    profile = zoo.profile("alexnet", mode="train")
    table = run("alexnet", "--mode", "train", "--markdown", "--depth", "1").stdout
    assert table == profile.to_markdown(1) + "\n"
    header, _, whole, features, _, head = table.splitlines()
    assert header.endswith(
        "| MiB saved | receptive field | backward MACs | backward FLOPs | backward other |"
    )
    assert whole.startswith(
        "| `alexnet` | AlexNet | 1x1000 | 60,965,224 | 724,406,816 | 1,448,813,632 | 100.0% |"
    )
    assert features.startswith("| `features` | Sequential |  | 2,334,080 | 665,784,864 |")
    assert head.endswith("| all | 8,192,000 | 16,384,000 | 1,000 |")
    records = list(csv.DictReader(io.StringIO(run("alexnet", "--mode", "train", "--csv").stdout)))
    assert [record["path"] for record in records] == [row.path for row in profile.rows]
    conv = next(record for record in records if record["path"] == "features.stage2.conv")
    expected = ("1x256x27x27", "223948800", "447897600", "51x51")
    assert (
        conv["output"],
        conv["macs"],
        conv["backward_macs"],
        conv["receptive_field"],
    ) == expected
    assert (
        run("alexnet", "--json", "--mode", "train").stdout
        == json.dumps(profile.to_dict(), indent=2) + "\n"
    )
    assert len(profile.to_csv(0).splitlines()) == 2


def test_the_totals():
    lines = zoo.profile("vgg16").totals()
    assert lines[1:] == [
        "other operations: 33,258,984 (bias 13,556,712, activation 13,555,712, pooling 6,146,560)",
        f"activations saved for a backward pass: "
        f"{(72_757_152 - 2 * 4 * 4096 - 2 * 4096 * 4) / 2**20:,.2f} MiB "
        f"({72_757_152 - 2 * 4 * 4096 - 2 * 4096 * 4:,} bytes)",
        "operators: 5 counted, 3 free, 0 not counted",
    ]
    train = zoo.profile("lenet5_modern", mode="train").totals()
    assert (
        train[2] == "other operations of the backward pass: 14,602 (activation 6,508, bias 6,304, "
        "pooling 1,576, reduction 214)"
    )


class Fourier(nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs() @ x.new_ones(3, 2)


def test_operators():
    lines = run("lenet5_modern", "--operators").stdout.splitlines()
    assert lines[2].split() == ["aten::convolution", "counted", "bias", "2", "357,600", "6,304"]
    assert [line.split()[:2] for line in lines[4:9]] == [
        ["aten::relu", "counted"],
        ["aten::max_pool2d_with_indices", "counted"],
        ["aten::detach", "free"],
        ["aten::t", "free"],
        ["aten::view", "free"],
    ]
    assert lines[-1] == "operators: 4 counted, 3 free, 0 not counted"
    assert (
        run("lenet5_modern", "--operators", "--csv").stdout.splitlines()[1]
        == "aten::convolution,counted,bias,2,357600,6304"
    )
    assert "| aten::view | free |  |" in run("lenet5_modern", "--operators", "--markdown").stdout
    profile = zoo.profile(Fourier(), inputs=torch.empty(2, 4))
    assert ["aten::_fft_r2c", "not counted", "", "1", "0", "0"] in profile.operator_table().cells()
    assert ["aten::mm", "counted", "", "1", "12", "0"] in profile.operator_table().cells()
    assert profile.totals()[-1].endswith("1 not counted (aten::_fft_r2c called 1x)")


def test_bars():
    assert [module_table.bar(share) for share in (0, 1 / 64, 0.5, 0.99, 1)] == [
        " " * 8,
        "▏" + " " * 7,
        "████    ",
        "███████▉",
        "█" * 8,
    ]
    assert all(len(module_table.bar(i / 1000)) == 8 for i in range(1001))


def test_receptive_fields():
    seen = {row.path: row.receptive_field for row in zoo.profile("vgg16").rows}
    by_hand, field, jump = {}, 1, 1
    for stage, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        for number in range(1, convolutions + 1):
            field += 2 * jump
            by_hand[f"features.stage{stage}.conv{number}"] = (field, field)
        field += jump
        jump *= 2
        by_hand[f"features.stage{stage}.pool"] = (field, field)
    assert {path: seen[path] for path in by_hand} == by_hand
    assert seen["neck.pool"] == (212, 212)  # from 7x7 to 7x7
    assert seen["neck.fc6"] is None
    alexnet = {row.path: row.receptive_field for row in zoo.profile("alexnet").rows}
    assert [alexnet[f"features.stage{i}.conv"][0] for i in range(1, 6)] == [11, 51, 99, 131, 163]
    assert alexnet["features.stage1.norm"] == (11, 11)  # its window lies across the maps
    assert "all" not in zoo.profile(nn.Linear(3, 3), inputs=torch.empty(1, 3)).to_markdown()


@pytest.mark.parametrize(
    ("function", "size", "expected"),
    [
        (lambda x: F.max_pool2d(x.flatten(0, 1), 2), (2, 3, 4, 8, 8), (2, 2)),
        (lambda x: F.conv2d(x.flatten(0, 1), x.new_empty(4, 4, 3, 3)), (2, 3, 4, 8, 8), (3, 3)),
        (lambda x: F.avg_pool2d(x[None], 2), (3, 8, 8), (2, 2)),
        (lambda x: F.max_pool1d(x, 2), (2, 3, 8), (2,)),
        (lambda x: F.local_response_norm(x, 5), (2, 3, 8, 8), (1, 1)),
        (lambda x: F.adaptive_avg_pool3d(x, 1), (2, 3, 8, 8, 8), None),
        # unbatched
        (lambda x: F.conv2d(x, x.new_empty(4, 3, 3, 3)), (3, 8, 8), (3, 3)),
        (lambda x: F.conv1d(x, x.new_empty(4, 3, 3)), (3, 8), (3,)),
        (lambda x: x + F.conv2d(x, x.new_empty(3, 3, 3, 3), padding=1), (3, 8, 8), (3, 3)),
        (lambda x: F.max_pool2d(x, (1, 2)), (3, 8, 8), (1, 2)),
        # after a convolution the directions are those of the input
        (
            lambda x: F.conv1d(
                F.conv2d(x, x.new_empty(4, 3, 3, 3)).flatten(2), x.new_empty(4, 4, 2)
            ),
            (2, 3, 8, 8),
            None,
        ),
    ],
)
def test_receptive_fields_after_a_change_of_rank(function, size, expected):
    assert zoo.profile(Do(function), inputs=torch.empty(size)).rows[0].receptive_field == expected


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_shows_what_fits(monkeypatch, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    done = run("alexnet", "--mode", "train")
    lines = [
        re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()
        for line in done.stdout.split("\n\n")[0].splitlines()
    ]
    assert all(len(line) <= width for line in lines)
    columns = {80: set(), 100: {"output"}, 200: {"kind", "FLOPs", "receptive"}}[width]
    assert {"module", "MACs", "backward"} | columns <= set(lines[0].split())
    assert "████████ 100.0%" in lines[1] or width == 80
    assert len(lines) == 1 + len(zoo.profile("alexnet").rows)
    assert (
        "█"
        not in CliRunner(env={"FORCE_COLOR": None, "TTY_COMPATIBLE": None})
        .invoke(cli, ["profile", "alexnet"])
        .stdout
    )


def test_what_takes_long_is_said_on_stderr(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with console.status_after("counting"):
        pass
    assert "counting" not in capsys.readouterr().err
    monkeypatch.setattr(console, "PATIENCE", 0.01)
    with console.status_after("counting"):
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert (out, "counting" in err) == ("", True)


# --------------------------------------------------------------------------- statistics


class Units(nn.Module):
    """ReLUs as modules and functions, on maps, vectors and sequences, some units of
    which are always 0.
    """

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.linear = nn.Linear(4, 5)
        self.rows = nn.Linear(9, 2)
        with torch.no_grad():
            self.conv.weight.fill_(1)
            self.conv.bias.copy_(torch.tensor([-1e3, 1e3, -1e3, 0]))  # two dead
            self.linear.weight.fill_(0)
            self.linear.bias.copy_(torch.tensor([-1.0, 1, 1, 1, -1]))  # two dead
            self.rows.weight.fill_(0)
            self.rows.bias.copy_(torch.tensor([-1.0, 2]))  # one dead

    def forward(self, x):
        maps = self.relu(self.conv(x))  # (N, 4, 3, 3)
        vector = F.relu6(self.linear(maps.mean((2, 3))))  # (N, 5)
        sequence = F.relu(self.rows(maps.flatten(2)))  # (N, 4, 2)
        return self.relu(vector), sequence


def test_statistics_by_hand():
    images = torch.randn(7, 1, 3, 3)
    profile = zoo.profile(Units(), inputs=images, stats=True)
    rows = {row.path: row for row in profile.rows}
    conv = torch.stack(
        [images[:, 0] - 1e3, images[:, 0] + 1e3, images[:, 0] - 1e3, images[:, 0]], 1
    ).double()
    assert rows["conv"].mean == pytest.approx(conv.mean().item(), rel=1e-5)
    assert rows["conv"].std == pytest.approx(conv.std(correction=0).item(), rel=1e-5)
    assert rows["conv"].dead is None
    vector = torch.tensor([0.0, 1, 1, 1, 0]).repeat(7, 1).double()
    both = torch.cat([conv.relu().flatten(), vector.flatten()])  # of both calls
    assert rows["relu"].mean == pytest.approx(both.mean().item(), rel=1e-5)
    assert rows["relu"].std == pytest.approx(both.std(correction=0).item(), rel=1e-5)
    assert rows["relu"].dead == (2 + 2) / (4 + 5)
    assert rows["linear"].mean == pytest.approx(1 / 5)
    assert rows[""].dead == (2 + 2 + 2 + 1) / (4 + 5 + 5 + 2)
    assert profile.macs == zoo.profile(Units(), inputs=images).macs


def test_a_unit_is_dead_only_when_it_is_for_every_example_and_position():
    images = torch.full((2, 1, 3, 3), -5.0)
    dead = [
        row.dead for row in zoo.profile(nn.Sequential(nn.ReLU()), inputs=images, stats=True).rows
    ]
    assert dead == [1.0, 1.0]
    images[1, 0, 2, 2] = 1
    assert zoo.profile(nn.ReLU(), inputs=images, stats=True).rows[0].dead == 0
    hard = zoo.profile(nn.Sequential(nn.Hardtanh(), nn.ReLU6()), inputs=images - 9, stats=True)
    assert [row.dead for row in hard.rows] == [1.0, None, 1.0]


class Restless(nn.Module):
    """Changes all that a forward pass can change."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Dropout()
        )
        self.register_buffer("steps", torch.zeros(()))
        self.plain = torch.ones(3, 1, 1)
        self.seen = []

    def forward(self, x):
        self.steps += 1
        self.plain *= 2
        self.net[0].weight.data.mul_(2)
        x.mul_(1)
        self.seen.append(self.net(x) + self.plain + random.random() + np.random.rand())
        return self.seen[-1]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_model_and_the_random_state_are_as_before(mode):
    model = Restless().eval()
    model.net[1].train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()]
    images = torch.randn(4, 1, 8, 8)
    kept, plain = images.clone(), model.plain.clone()
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    first = zoo.profile(model, inputs=images, mode=mode, stats=True)
    again = zoo.profile(model, (1, 8, 8), 4, mode=mode, stats=True)
    assert first.rows[0].std > 0
    assert again.rows[0].std > 0
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.array_equal(np.random.get_state()[1], generators[2])
    assert torch.equal(images, kept)
    assert torch.equal(model.plain, plain)
    assert model.seen == []
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_name_gets_its_own_initialisation_and_the_same_images_each_time():
    state = torch.get_rng_state()
    one, two = (
        zoo.profile("resnet20_cifar10", batch_size=16, mode="train", stats=True) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert one.rows == two.rows
    rows = {row.path: row for row in one.rows}
    norm = next(row for path, row in rows.items() if row.kind == "BatchNorm2d")
    assert (norm.mean, norm.std) == (
        pytest.approx(0, abs=1e-5),
        pytest.approx(1, rel=1e-3),
    )  # in training it makes them so
    assert rows["features"].mean is None  # a list of stages, which is never called
    assert 0 <= rows[""].dead < 0.1
    assert zoo.profile("resnet20_cifar10").rows[0].mean is None


def test_another_batch_and_other_inputs():
    images = torch.full((2, 1, 8, 8), 3.0)
    assert zoo.profile(nn.Identity(), inputs=images, stats=True).rows[0].mean == 3
    assert (
        zoo.profile(nn.Identity(), inputs={"input": images.double()}, stats=True).rows[0].std == 0
    )
    normal = zoo.profile(nn.Conv2d(3, 3, 1).half(), 32, 4, stats=True)
    assert normal.rows[0].std > 0
    words = zoo.profile(nn.Embedding(9, 4), inputs=torch.zeros(2, 5, dtype=torch.long), stats=True)
    assert words.rows[0].std > 0
    assert (
        zoo.profile(nn.Flatten(), inputs=torch.zeros(2, 2, 2, dtype=torch.long), stats=True)
        .rows[0]
        .mean
        is None
    )


def test_what_has_no_statistics():
    with pytest.raises(
        UsageError, match="Conv2d is on the meta device: statistics need a network with numbers"
    ):
        zoo.profile(nn.Conv2d(3, 3, 1, device="meta"), 8, stats=True)
    with pytest.raises(
        InputError, match="Embedding does not take this batch: IndexError: index out of range"
    ):
        zoo.profile(nn.Embedding(9, 4), inputs=torch.full((2,), 9), stats=True)


def test_statistics_in_the_table():
    done = run("lenet5_modern", "--stats", "--batch-size", "4")
    lines = done.stdout.splitlines()
    assert lines[0].split()[-3:] == ["mean", "std", "dead"]
    profile = zoo.profile("lenet5_modern", batch_size=4, stats=True)
    row = next(row for row in profile.rows if row.path == "neck.act5")
    line = next(line for line in lines if line.split()[:1] == ["act5"])
    assert line.split()[-3:] == [f"{row.mean:.3g}", f"{row.std:.3g}", f"{row.dead:.1%}"]
    assert (
        json.loads(run("lenet5_modern", "--stats", "--batch-size", "4", "--json").stdout)["rows"][
            0
        ]["mean"]
        == profile.rows[0].mean
    )
    assert "dead" not in run("lenet5_modern").stdout

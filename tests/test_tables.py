"""Tables of many networks, claims as tables, and what the verbs print."""

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo import registry
from zoo.cli import cli, show
from zoo.errors import Note, PluginError, UnknownModelError, UsageError
from zoo.spec import Printed, Result
from zoo.tables.compare import row
from zoo.tables.text import figure, markdown, plain


def run(*args):
    return CliRunner().invoke(cli, args)


# ---------------------------------------------------------------------------------------------------------- compare


def test_compare_takes_patterns_names_and_modules_in_the_given_order():
    module = zoo.create("lenet5", device="meta")
    comparison = zoo.compare(["resnet18", "lenet5*", "resnet18", module])
    assert [each.name for each in comparison.rows] == ["resnet18", *zoo.list_models("lenet5*"), "lenet5"]
    ours, from_module = comparison.rows[1], comparison.rows[-1]
    assert (ours.year, ours.input, ours.params, ours.macs, ours.flops) == (1998, (1, 32, 32), 60_000, 325_680, 651_360)
    assert from_module == replace(ours, year=None, reported="")


def test_compare_at_another_size_and_a_foreign_module():
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2))
    comparison = zoo.compare([linear, "vgg11"], input_size=64)
    assert [each.input for each in comparison.rows] == [(3, 64, 64)] * 2
    assert (comparison.rows[0].name, comparison.rows[0].macs) == ("Sequential", 2 * 3 * 64 * 64)
    assert zoo.compare(linear, input_size=64).rows == comparison.rows[:1]


def test_an_error_is_reported_with_its_data_and_protocol():
    profile = zoo.profile("lenet5")
    results = (
        Result("top-1 error %", 24.4, "ILSVRC-2012 val", "ten crops", "Table 3"),
        Result("top-5 error %", 7.0, "ILSVRC-2012 val", "dense", "Table 3"),
        Result("top-5 error %", 6.7, "ILSVRC-2012 val", "ensemble of 7", "Table 3"),
    )
    assert row(profile, 2015, results).reported == "7.0 top-5 error % (ILSVRC-2012 val; dense)"
    assert row(profile, 2015, results[:1]).reported == "24.4 top-1 error % (ILSVRC-2012 val; ten crops)"
    assert row(profile).reported == ""


def test_formats_hold_the_same_figures():
    comparison = zoo.compare("vgg1[13]")
    markdown, table = comparison.to_markdown().splitlines(), str(comparison).splitlines()
    assert markdown[0] == "| name | year | depth | input | parameters | MACs | FLOPs | reported by the paper |"
    assert "| vgg11 | 2015 | 11 | 3x224x224 | 132,863,336 | 7,609,090,048 | 15,218,180,096 | 10.4 top-5 error %" in markdown[2]
    assert table[2].split()[:7] == ["vgg11", "2015", "11", "3x224x224", "132,863,336", "7,609,090,048", "15,218,180,096"]
    records = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert [record["macs"] for record in records] == ["7609090048", "11308466176"]
    assert comparison.to_dict()["rows"][1]["params"] == 133_047_848
    assert [record["name"] for record in records] == ["vgg11", "vgg13"]


def test_what_cannot_be_compared():
    with pytest.raises(UsageError, match=r"no network matches 'vvg\*'"):
        zoo.compare(["vgg11", "vvg*"])
    with pytest.raises(UnknownModelError, match="did you mean vgg19"):
        zoo.compare("vgg15")
    with pytest.raises(UsageError, match="nothing to compare"):
        zoo.compare([])
    with pytest.raises(UsageError, match="give input_size"):
        zoo.compare(nn.Linear(3, 3))


def test_a_broken_plug_in_is_left_out_of_a_pattern(monkeypatch):
    family = registry.family("lenet5")
    point = registry.EntryPoint("lenet5_broken", "nowhere_to_be_found:FAMILY", registry.GROUP)
    known = {**registry.entries(), "lenet5_broken": registry.Entry("lenet5_broken", point, "other 1.0")}
    monkeypatch.setattr(registry, "entries", lambda: known)
    with pytest.warns(Note, match="left out: 'lenet5_broken' comes from other 1.0"):
        comparison = zoo.compare("lenet5*")
    assert [each.name for each in comparison.rows] == [name for name in known if name in family.variants]


def test_progress_wraps_the_list():
    seen = []

    def progress(names):
        seen.extend(names)
        return names

    zoo.compare("lenet5*", progress=progress)
    assert seen == zoo.list_models("lenet5*")


# ----------------------------------------------------------------------------------------------------------- verify


@pytest.fixture
def wrong(monkeypatch):
    """The network `wrong`: LeNet-5 with a false claim."""
    monkeypatch.setattr(registry, "_registered", {})
    family = registry.family("lenet5")
    variant = family.variants["lenet5"]
    printed = (Printed("macs", 1000, "Table 7"), Printed("params", 61_000, "Table 8", unit=1000, reason="a misprint"))
    zoo.register(replace(family, variants={"wrong": replace(variant, claims=replace(variant.claims, printed=printed))}))
    return "wrong"


def test_a_verification_as_data_and_as_text(wrong):
    verification = zoo.verify(wrong)
    assert not verification.ok
    assert json.loads(json.dumps(verification.to_dict()))["checks"][2:] == [
        {
            "what": "macs",
            "where": "Table 7",
            "printed": 1000,
            "computed": 325_680,
            "agrees": False,
            "reason": "",
            "unit": 1,
            "ok": False,
        },
        {
            "what": "params",
            "where": "Table 8",
            "printed": 61_000,
            "computed": 60_000,
            "agrees": False,
            "reason": "a misprint",
            "unit": 1000,
            "ok": True,
        },
    ]
    assert str(verification).splitlines() == [
        "claim   where     printed  computed  verdict",
        "------  -------  --------  --------  -------------------",
        "params  exact      60,000    60,000  agrees",
        "macs    exact     325,680   325,680  agrees",
        "macs    Table 7     1,000   325,680  DIFFERS",
        "params  Table 8  ≈ 61,000    60,000  differs: a misprint",
        "wrong: 1 of 4 claims DO NOT HOLD: macs (Table 7): printed 1,000, computed 325,680",
    ]


def test_figures_as_text():
    assert [figure(value) for value in (1234567, 4.8 * 2**20, 138e6, (3, 224, 224), ((1, 2), (3,)), "text", None, True, ())] == [
        "1,234,567", "5,033,164.8", "138,000,000", "3x224x224", "1x2, 3", "text", "", "True", "",
    ]  # fmt: skip
    assert plain(["a", "number"], [["x", "1"], ["long", "23"]], ["a"]) == "a     number\n----  ------\nx          1\nlong      23"
    assert markdown(["a", "n"], [["x|y", "1"], ["two\nlines", ""]], ["a"]) == "| a | n |\n| :--- | ---: |\n| x\\|y | 1 |\n| two lines |  |"


# ------------------------------------------------------------------------------------------------------------ verbs


def test_zoo_profile():
    done = run("profile", "lenet5", "--depth", "2", "--batch-size", "2")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["module", "kind", "output", "parameters", "MACs", "FLOPs", "share"]
    assert lines[2].split() == ["lenet5", "LeNet5", "2x10", "60,000", "651,360", "1,302,720", "100.0%"]
    assert lines[3].startswith("  features   Sequential")
    assert lines[4].startswith("    c1       Sequential   2x6x28x28 ")
    assert lines[-1] == (
        "lenet5, input 2x1x32x32: 60,000 parameters, 651,360 MACs (1,302,720 FLOPs), 4 convolutions or matrix products deep"
    )
    assert "modules lie deeper: --depth 5 shows all" in done.stderr
    deep = run("profile", "lenet5", "--depth", "5")
    assert len(deep.stdout.splitlines()) == 2 + len(zoo.profile("lenet5").rows) + 2
    assert deep.stderr == ""


@pytest.mark.parametrize(("size", "shape"), [("96", [1, 3, 96, 96]), ("3x64x96", [1, 3, 64, 96])])
def test_zoo_profile_at_another_size(size, shape):
    done = run("profile", "resnet18", "--input-size", size, "--json")
    record = json.loads(done.stdout)
    assert record["inputs"] == [shape]
    assert {"path", "kind", "level", "calls", "output", "params", "macs", "flops"} < set(record["rows"][0])


@pytest.mark.parametrize("size", ["96x96", "big", "3x-1x4", ""])
def test_zoo_profile_with_a_wrong_size(size):
    done = run("profile", "resnet18", "--input-size", size)
    assert done.exit_code != 0
    assert "size" in (done.stderr or str(done.exception))


def test_zoo_compare():
    done = run("compare", "lenet5*", "resnet18")
    assert done.exit_code == 0
    assert done.stdout.rstrip("\n") == str(zoo.compare(["lenet5*", "resnet18"]))
    comparison = zoo.compare("lenet5")
    assert run("compare", "lenet5", "--csv").stdout == comparison.to_csv()
    assert run("compare", "lenet5", "--markdown").stdout == comparison.to_markdown() + "\n"
    assert json.loads(run("compare", "lenet5", "--json").stdout) == json.loads(json.dumps(comparison.to_dict()))


def test_zoo_verify(wrong):
    one = run("verify", "lenet5")
    assert one.exit_code == 0
    assert one.stdout.rstrip().endswith(f"lenet5: all {len(zoo.verify('lenet5').checks)} claims hold")
    several = run("verify", "lenet5", "wrong")
    assert several.exit_code == 1
    assert [line.split(":")[0] for line in several.stdout.splitlines()] == ["lenet5", "wrong"]
    assert run("verify", "wrong").exit_code == 1
    failed = run("verify", "wrong", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)["ok"]) == (1, False)
    assert [record["name"] for record in json.loads(run("verify", "lenet5", "wrong", "--json").stdout)] == ["lenet5", "wrong"]


def test_zoo_verify_all(monkeypatch):
    point = registry.EntryPoint("broken", "nowhere_to_be_found:FAMILY", registry.GROUP)
    entries = {**registry.entries(), "broken": registry.Entry("broken", point, "other 1.0")}
    monkeypatch.setattr(zoo, "list_models", lambda: ["lenet5", "broken", "lenet5_modern"])
    monkeypatch.setattr(registry, "entries", lambda: entries)
    with pytest.warns(Note, match="left out: 'broken' comes from other 1.0"):
        done = run("verify", "--all")
    assert isinstance(run("verify", "broken").exception, PluginError)
    assert done.exit_code == 0
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["lenet5", "lenet5_modern"]
    for arguments in (("verify",), ("verify", "--all", "lenet5")):
        assert isinstance(run(*arguments).exception, UsageError)


def test_zoo_verify_as_one_citable_table(wrong):
    done = run("verify", "alexnet_owt", "lenet5", "squeezenet1_1", "wrong", "--markdown")
    assert done.exit_code == 1
    header, rules, alexnet, lenet, squeezenet, false = done.stdout.splitlines()
    assert header == "| network | paper | parameters | MACs | claims | verdict |"
    assert rules == "| :--- | :--- | ---: | ---: | ---: | :--- |"
    assert "NIPS, 2012, [doi:10.1145/3065386](https://doi.org/10.1145/3065386). | 61,100,840 | 714,188,480 | 2 | all hold |" in alexnet
    assert lenet.startswith("| `lenet5` | Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-Based Learning Applied to Document Recog")
    assert lenet.endswith("| all hold; 1 differs from the paper for a reason |")
    assert "arXiv, 2016, [arXiv:1602.07360](https://arxiv.org/abs/1602.07360). | 1,235,496 | 349,151,936 | 3 |" in squeezenet
    assert false.endswith("| 60,000 | 325,680 | 4 | 1 of 4 claims DO NOT HOLD: macs (Table 7): printed 1,000, computed 325,680 |")
    assert run("verify", "lenet5", "--markdown").stdout.splitlines()[2] == lenet


@pytest.mark.parametrize("verb", ["profile", "compare", "verify"])
def test_help_has_an_example(verb):
    assert f"Example: zoo {verb} " in run(verb, "--help").stdout


def test_a_process():
    good = subprocess.run([sys.executable, "-m", "zoo.cli", "profile", "lenet5", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(good.stdout)["macs"] == 325_680
    assert good.stderr == ""
    bad = subprocess.run([sys.executable, "-m", "zoo.cli", "profile", "vgg11", "--input-size", "16"], capture_output=True, text=True)
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr == "zoo: error: vgg11 takes images of 32x32 or larger, not 16x16: resize them\n"


# --------------------------------------------------------------------------------------------------------- terminal


def terminal(monkeypatch, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))


HEADERS = ["module", "kind", "MACs", "text"]
ROWS = [["a_rather_long_name_" + "x" * 30, "[Kind]", "1,234,567", "some words that are long enough to be wrapped " * 2]]


def shown(capsys):
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_wide_terminal_shows_everything(monkeypatch, capsys):
    terminal(monkeypatch, 250)
    show.table(HEADERS, ROWS, left=("module", "kind", "text"), wrap="text", optional=("kind",))
    lines = shown(capsys)
    assert lines[0].split() == HEADERS
    assert lines[1:] == ["  ".join(ROWS[0]).rstrip()]


def test_a_narrow_terminal_wraps_and_leaves_out_and_says_so(monkeypatch, capsys):
    terminal(monkeypatch, 86)
    with pytest.warns(Note, match="86 columns have no room for: kind"):
        show.table(HEADERS, ROWS, left=("module", "kind", "text"), wrap="text", optional=("kind",))
    lines = shown(capsys)
    assert lines[0].split() == ["module", "MACs", "text"]
    assert all(len(line) <= 86 for line in lines)
    start = lines[1].index("some words")
    assert lines[1][:start].split() == [ROWS[0][0], "1,234,567"]
    assert len(lines) > 2
    assert " ".join(line[start:] for line in lines[1:]).split() == ROWS[0][3].split()


def test_even_the_narrowest_terminal_cuts_nothing_off(monkeypatch, capsys):
    terminal(monkeypatch, 30)
    show.table(HEADERS[:1] + HEADERS[2:3], [[ROWS[0][0], "1,234,567"]], left=("module",))
    assert ROWS[0][0] in "".join(line.split(" ")[0] for line in shown(capsys)[1:])


def test_the_bar_comes_when_it_takes_long_and_goes_to_stderr(monkeypatch, capsys):
    terminal(monkeypatch, 80)
    assert list(show.progress(["a", "b"])) == ["a", "b"]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(show, "PATIENCE", -1)
    assert list(show.progress(["a", "b"])) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "/2" in err


def test_one_verification_does_not_need_torch_to_be_in_a_mode():
    with torch.inference_mode():
        assert zoo.verify("lenet5").ok

"""Tables of many networks, claims as tables, and what the verbs print."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.cli import cli, console
from zoo.errors import PluginError, UsageError, ZooWarning
from zoo.formatting import Table, figure, markdown, plain
from zoo.spec import UNEXPLAINED, PrintedFigure


def run(*args):
    return CliRunner().invoke(cli, args)


# ------------------------------------------------------------------------------- verify


@pytest.fixture
def wrong(monkeypatch):
    """The network `wrong`: LeNet-5 with a false claim."""
    monkeypatch.setattr(registry, "_registered", {})
    family = registry.family("lenet5")
    variant = family.variants["lenet5"]
    printed = (
        PrintedFigure("macs", 1000, "Table 7"),
        PrintedFigure("params", 61_000, "Table 8", resolution=1000, reason="a misprint"),
    )
    zoo.register_family(
        replace(
            family,
            variants={"wrong": replace(variant, claims=replace(variant.claims, printed=printed))},
        )
    )
    return "wrong"


def test_a_verification_as_data_and_as_text(wrong):
    verification = zoo.verify(wrong)
    assert not verification.ok
    record = json.loads(json.dumps(verification.to_dict()))
    assert (record["agree"], record["differ_for_a_reason"], record["differ_unexplained"]) == (
        2,
        1,
        1,
    )
    assert record["checks"][2:] == [
        {
            "quantity": "macs",
            "source": "Table 7",
            "printed": 1000,
            "computed": 325_680,
            "agrees": False,
            "reason": "",
            "resolution": 1,
            "ok": False,
        },
        {
            "quantity": "params",
            "source": "Table 8",
            "printed": 61_000,
            "computed": 60_000,
            "agrees": False,
            "reason": "a misprint",
            "resolution": 1000,
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
        "",
        "wrong: 1 of 4 claims DO NOT HOLD: macs (Table 7): printed 1,000, computed 325,680",
    ]


def test_figures_as_text():
    shown = {
        1234567: "1,234,567",
        4.8 * 2**20: "5,033,164.8",
        138e6: "138,000,000",
        (3, 224, 224): "3x224x224",
        ((1, 2), (3,)): "1x2, 3",
        "text": "text",
        None: "",
        True: "True",
        (): "",
    }
    assert {value: figure(value) for value in shown} == shown
    assert (
        plain(["a", "number"], [["x", "1"], ["long", "23"]], ["a"])
        == "a     number\n----  ------\nx          1\nlong      23"
    )
    assert (
        markdown(["a", "n"], [["x|y", "1"], ["two\nlines", ""]], ["a"])
        == "| a | n |\n| :--- | ---: |\n| x\\|y | 1 |\n| two lines |  |"
    )


# -------------------------------------------------------------------------------- verbs


def test_what_differs_unexplained_is_never_said_to_hold():
    verification = zoo.verify("googlenet")
    assert verification.ok
    assert verification.summary() == (
        "googlenet: 45 claims: 34 agree, 3 differ for a stated reason, 8 differ unexplained"
    )
    unexplained = [check for check in verification.checks if check.reason and not check.explained]
    assert len(unexplained) == verification.to_dict()["differ_unexplained"] == 8
    assert {check.verdict.partition(":")[0] for check in unexplained} == {"differs unexplained"}
    assert run("verify", "googlenet").stdout.splitlines()[-1] == verification.summary()


def test_a_reason_that_was_not_found_says_so_in_its_first_word():
    for name in zoo.list_models():
        for claim in zoo.info(name).variant.claims.printed:
            assert UNEXPLAINED not in claim.reason.removeprefix(f"{UNEXPLAINED}: ")


def test_zoo_verify(wrong):
    one = run("verify", "lenet5")
    assert one.exit_code == 0
    assert one.stdout.rstrip().endswith(
        "lenet5: 21 claims: 20 agree, 1 differs for a stated reason"
    )
    several = run("verify", "lenet5", "wrong")
    assert several.exit_code == 1
    *lines, blank, total = several.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["lenet5", "wrong"]
    assert (blank, total) == (
        "",
        "2 networks, 25 claims: 22 agree, 2 differ for a stated reason, 1 differs unexplained; "
        "1 DO NOT HOLD",
    )
    assert run("verify", "wrong").exit_code == 1
    failed = run("verify", "wrong", "--json")
    assert (failed.exit_code, json.loads(failed.stdout)["ok"]) == (1, False)
    assert [
        record["name"] for record in json.loads(run("verify", "lenet5", "wrong", "--json").stdout)
    ] == ["lenet5", "wrong"]


def test_zoo_verify_all(monkeypatch):
    point = registry.EntryPoint("broken", "nowhere_to_be_found:FAMILY", registry.GROUP)
    entries = {**registry.entries(), "broken": registry.Entry("broken", point, "other 1.0")}
    monkeypatch.setattr(zoo, "list_models", lambda: ["lenet5", "broken", "lenet5_modern"])
    monkeypatch.setattr(registry, "entries", lambda: entries)
    with pytest.warns(ZooWarning, match="left out: 'broken' comes from other 1.0"):
        done = run("verify", "--all")
    assert isinstance(run("verify", "broken").exception, PluginError)
    assert done.exit_code == 0
    *lines, _, total = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["lenet5", "lenet5_modern"]
    assert total.startswith("2 networks, ")
    assert total.endswith(" agree, 1 differs for a stated reason")
    for arguments in (("verify",), ("verify", "--all", "lenet5")):
        assert isinstance(run(*arguments).exception, UsageError)


def test_zoo_verify_as_one_citable_table(wrong):
    done = run("verify", "alexnet_owt", "lenet5", "squeezenet1_1", "wrong", "--markdown")
    assert done.exit_code == 1
    header, rules, alexnet, lenet, squeezenet, false = done.stdout.splitlines()
    assert header == "| network | paper | parameters | MACs | claims | verdict |"
    assert rules == "| :--- | :--- | ---: | ---: | ---: | :--- |"
    assert (
        "NIPS, 2012, [doi:10.1145/3065386](https://doi.org/10.1145/3065386). | 61,100,840 | "
        "714,188,480 | 2 | all agree |" in alexnet
    )
    assert lenet.startswith(
        "| `lenet5` | Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-Based Learning "
        "Applied to Document Recog"
    )
    assert lenet.endswith("| 20 agree, 1 differs for a stated reason |")
    assert (
        "arXiv, 2016, [arXiv:1602.07360](https://arxiv.org/abs/1602.07360). | 1,235,496 | "
        "349,151,936 | 3 | 2 agree, 1 differs unexplained |" in squeezenet
    )
    assert false.endswith(
        "| 60,000 | 325,680 | 4 | 1 of 4 claims DO NOT HOLD: macs (Table 7): printed 1,000, "
        "computed 325,680 |"
    )
    assert run("verify", "lenet5", "--markdown").stdout.splitlines()[2] == lenet


@pytest.mark.parametrize("verb", ["profile", "compare", "verify"])
def test_help_has_an_example(verb):
    assert f"Example: zoo {verb} " in run(verb, "--help").stdout


@pytest.mark.slow
def test_a_process():
    good = subprocess.run(
        [sys.executable, "-m", "zoo", "profile", "lenet5", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(good.stdout)["macs"] == 325_680
    assert good.stderr == ""
    bad = subprocess.run(
        [sys.executable, "-m", "zoo", "profile", "vgg11", "--input-size", "16"],
        capture_output=True,
        text=True,
    )
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert (
        bad.stderr == "zoo: error: vgg11 takes images of 32x32 or larger, not 16x16: resize them\n"
    )


def test_output_goes_anywhere():
    """A reader that has had enough is no failure; a stream without "≈" prints on."""
    command = f"set -o pipefail; {sys.executable} -m zoo info resnet50 | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "resnet50\n", "")
    done = subprocess.run(
        [sys.executable, "-m", "zoo", "verify", "vgg11"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )
    assert done.returncode == 0
    assert b"? 133,000,000" in done.stdout


# ----------------------------------------------------------------------------- terminal


def terminal(monkeypatch, width):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))


HEADERS = ["module", "kind", "MACs", "text"]
ROWS = [
    [
        "a_rather_long_name_" + "x" * 30,
        "[Kind]",
        "1,234,567",
        "some words that are long enough to be wrapped " * 2,
    ]
]

TABLE = Table(HEADERS, ROWS, left=("module", "kind", "text"), wrap="text", optional=("kind",))


def shown(capsys):
    return [
        re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()
        for line in capsys.readouterr().out.splitlines()
    ]


def test_a_wide_terminal_shows_everything(monkeypatch, capsys):
    terminal(monkeypatch, 250)
    console.show_sections([TABLE])
    lines = shown(capsys)
    assert lines[0].split() == HEADERS
    assert lines[1:] == ["  ".join(ROWS[0]).rstrip()]


def test_a_narrow_terminal_wraps_and_leaves_out_and_says_so(monkeypatch, capsys):
    terminal(monkeypatch, 86)
    with pytest.warns(ZooWarning, match="86 columns have no room for: kind"):
        console.show_sections([TABLE])
    lines = shown(capsys)
    assert lines[0].split() == ["module", "MACs", "text"]
    assert all(len(line) <= 86 for line in lines)
    start = lines[1].index("some words")
    assert lines[1][:start].split() == [ROWS[0][0], "1,234,567"]
    assert len(lines) > 2
    assert " ".join(line[start:] for line in lines[1:]).split() == ROWS[0][3].split()


def test_even_the_narrowest_terminal_cuts_nothing_off(monkeypatch, capsys):
    terminal(monkeypatch, 30)
    console.show_sections(
        [Table(HEADERS[:1] + HEADERS[2:3], [[ROWS[0][0], "1,234,567"]], left=("module",))]
    )
    assert ROWS[0][0] in "".join(line.split(" ")[0] for line in shown(capsys)[1:])


def test_the_bar_comes_when_it_takes_long_and_goes_to_stderr(monkeypatch, capsys):
    terminal(monkeypatch, 80)
    assert list(console.progress(["a", "b"])) == ["a", "b"]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(console, "PATIENCE", -1)
    assert list(console.progress(["a", "b"])) == ["a", "b"]
    out, err = capsys.readouterr()
    assert out == ""
    assert "/2" in err


def test_one_verification_does_not_need_torch_to_be_in_a_mode():
    with torch.inference_mode():
        assert zoo.verify("lenet5").ok

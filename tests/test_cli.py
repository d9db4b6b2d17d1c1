"""The command line as a whole: help, verbs that are none, and how it is started. Each
verb's own output is tested with what it shows.
"""

import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.api.catalogue import FILE, described, summaries, written
from zoo.cli import LATER, VERBS, cli
from zoo.errors import UsageError


def invoke(*args):
    return CliRunner().invoke(cli, args)


def test_help_as_a_verb():
    invoke("list")  # whose module is called as a builtin
    assert invoke("help").output == invoke("--help").output
    assert "Verbs:" in invoke("help").output
    assert invoke("help").exit_code == 0
    for verb in ("info", "list"):
        assert invoke("help", verb).output == invoke(verb, "--help").output


@pytest.mark.parametrize("verb", LATER)
def test_a_verb_that_comes_later(verb):
    """One true line: it is not here, and what is."""
    assert verb not in VERBS
    for args in ([verb], ["help", verb], [verb, "vgg16"]):
        error = invoke(*args).exception
        assert isinstance(error, UsageError)
        assert str(error).startswith(f"zoo {verb} is not in this version; ")
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["vgg16"], "vgg16 is a network and no verb: `zoo info vgg16` tells of it"),
        (["lst"], "there is no verb 'lst': did you mean list? `zoo --help` shows all"),
        (["qqqq"], "there is no verb 'qqqq'; `zoo --help` shows all"),
        (["help", "qqqq"], "there is no verb 'qqqq'; `zoo --help` shows all"),
    ],
)
def test_words_that_are_no_verbs(args, message):
    assert str(invoke(*args).exception) == message


def completed(words, cwd):
    """What bash is offered after these words, and which modules that took."""
    env = os.environ | {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    env |= {"_ZOO_COMPLETE": "bash_complete"}
    code = (
        "import atexit, sys\nsys.argv = ['zoo']\n"
        "atexit.register(lambda: print('loaded', *{'torch', 'numpy', 'rich'} & set(sys.modules)))\n"
        "from zoo.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=cwd, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    *lines, loaded = done.stdout.splitlines()
    return lines, loaded.split()[1:]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("zoo c", ["plain,compare", "plain,check", "plain,caption"]),
        ("zoo lst ", None),
        ("zoo info vgg16_", ["plain,vgg16_1x1", "plain,vgg16_bn", "plain,vgg16_runs/"]),
        ("zoo profile VGG16_b", ["plain,vgg16_bn"]),
        ("zoo finetune vgg16_b", ["plain,vgg16_bn"]),
        ("zoo finetune resnet18.tv", ["plain,resnet18.tv_in1k_v1", "plain,resnet18.tv_in1k"]),
        ("zoo predict ./vgg", ["file,./vgg"]),
        ("zoo compare alexnet nothing", ["file,nothing"]),
        ("zoo profile vgg16 --mode t", ["plain,train"]),
        (
            "zoo compare vgg16 --kind ",
            ["plain,operations", "plain,accuracy", "plain,parameters", "plain,weights"],
        ),
        ("zoo compare vgg16 --plot a", ["file,a"]),
        ("zoo memory --dev", ["plain,--device"]),
    ],
)
def test_completion(words, offered, tmp_path):
    """Of verbs, names, files and choices, without importing torch."""
    (tmp_path / "vgg16_runs").mkdir()
    lines, loaded = completed(words, tmp_path)
    assert "torch" not in loaded
    if offered is not None:
        assert lines == offered


def test_completion_is_documented():
    assert "_ZOO_COMPLETE=bash_source zoo" in invoke("--help").output


def test_as_a_module():
    for args in (["-m", "zoo", "list", "vgg16"], ["-m", "zoo", "--version"]):
        done = subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True)
        assert done.stdout in ("vgg16\n", f"zoo, version {zoo.__version__}\n")


def test_a_line_per_network():
    """Year, counts, and a result with its protocol; JSON has the same."""
    line = next(
        line for line in invoke("list", "--long").stdout.splitlines() if line.startswith("vgg16 ")
    )
    assert re.split(r"  +", line) == [
        "vgg16",
        "2015",
        "138,357,544",
        "15,470,264,320",
        "tv_in1k_v1 +5",
        "8.8 top-5 error % (ILSVRC-2012 val; single network, dense, S=256, Q=256)",
    ]
    (record,) = json.loads(invoke("list", "vgg16", "--long", "--json").stdout)
    assert (record["name"], record["year"], record["params"]) == ("vgg16", 2015, 138_357_544)
    assert record["tags"][0] == "tv_in1k_v1"
    assert len(record["tags"]) == 6
    assert record["result"]["protocol"] == "single network, dense, S=256, Q=256"
    assert "leave out --pretrained" in str(invoke("list", "--long", "--pretrained").exception)
    assert invoke("list", "no such", "--long").output == "no network matches\n"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (200, "8.8 top-5 error % (ILSVRC-2012 val; single network, dense, S=256, Q=256)"),
        (120, "8.8 top-5 error % (ILSVRC-2012 val; dense, S=256, Q=256)"),
        (95, "8.8 top-5 error % (ILSVRC-2012 val)"),
        (75, "8.8 top-5 error %"),
        (60, "8.8 top-5 error %"),  # without the weights
    ],
)
def test_results_are_as_short_as_the_terminal_needs(columns, shown):
    runner = CliRunner(env={"FORCE_COLOR": "1", "COLUMNS": str(columns), "NO_COLOR": "1"})
    header, line = runner.invoke(cli, ["list", "vgg16", "--long"]).stdout.splitlines()
    assert line.rstrip().endswith(f" {shown}")
    assert ("weights" in header) == (columns > 70)


def test_the_catalogue_is_that_of_the_rows():
    """Else `python docs/catalogue.py` writes it anew."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    own = written()
    assert list(found["networks"]) == list(own["networks"])
    assert found == json.loads(json.dumps(own))


@pytest.mark.parametrize("what", ["vgg16", "resnet50_v1_5", "VGG-16", "vgg16.tv_in1k_v1", "lenet5"])
def test_what_the_catalogue_describes_is_what_info_knows(what):
    assert described(what).sections() == zoo.info(what).sections()


def test_the_catalogue_describes_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg16").mkdir()  # of which a note is to be given
    for what in ("vgg16", "vgg16.nowhere", "./vgg16", "vgg"):
        assert described(what) is None


def test_networks_without_a_line_are_read_from_their_rows(monkeypatch):
    from other_tasks import LANGUAGE

    monkeypatch.setattr(registry, "_registered", {})
    zoo.register_family(LANGUAGE)
    (name,) = LANGUAGE.variants
    (found,) = summaries([name])
    assert found.params == LANGUAGE.variants[name].claims.params


def test_lists_what_contains_a_word():
    assert invoke("list", "vgg").stdout == invoke("list", "*vgg*").stdout
    assert "vgg16\n" in invoke("list", "vgg").stdout

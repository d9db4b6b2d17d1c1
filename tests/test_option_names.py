"""Messages on the command line name the options that were typed, in every verb."""

import warnings

import click
import pytest
from click.testing import CliRunner

from zoo.cli import VERBS, cli
from zoo.cli.option_names import in_options
from zoo.errors import UsageError, ZooWarning


@click.command()
@click.option("--fit", "memory")
@click.option("--batch-size")
@click.option("--input-size")
@click.option("--lr")
@click.option("--cpu/--no-cpu")
@click.option("--confirm", is_flag=True)
@click.option("--data")
def verb(**_):
    """Options as the verbs have them."""


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("batch_size=0: needs one", "--batch-size 0: needs one"),
        ("memory='24 big': give '24GiB'", "--fit '24 big': give '24GiB'"),
        ("as in memory='24GiB', or cpu=True", "as in --fit 24GiB, or --cpu"),
        ("leave out input_size and batch_size", "leave out --input-size and --batch-size"),
        ("confirm=True runs it; cpu=False", "--confirm runs it; --no-cpu"),
        ("give data=…, or input_size=(C, H, W)", "give --data …, or --input-size (C, H, W)"),
        ("pass lr=, a rate", "pass --lr, a rate"),
        # what is no argument of the verb stays
        ("the data of photos/batch_size/lr", "the data of photos/batch_size/lr"),
        ("no key 'batch_size', xlr=3, drop_rate=2", "no key 'batch_size', xlr=3, drop_rate=2"),
        ("a.toml: batch_size=0: needs one", "a.toml: batch_size=0: needs one"),
    ],
)
def test_an_argument_is_named_as_its_option(message, expected):
    assert in_options(message, verb) == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("memory lenet5 --fit 24gigs", "--fit 24gigs: give a size such as '24GiB' or"),
        ("memory lenet5 --input-size big", "--input-size big: expected the side in pixels"),
        ("memory resnet18 --input-size 32 --batch-size 1", "--batch-size 1: needs 2 or more: "),
        ("memory lenet5 --fit 1GiB --batch-size 2", "--fit finds the batch: leave out"),
        ("profile lenet5 --input-size 0", "--input-size 0: expected the side in pixels"),
        ("compare lenet5 --input-size 1x2x3x4", "--input-size 1x2x3x4: expected the side"),
        ("compare lenet5 --sort macc", "this table: --sort macc: expected 'name', 'year'"),
        ("finetune lenet5 --data digits --batch-size 0", "--batch-size 0: needs a whole number"),
        ("finetune lenet5 --data digits --lr 0", "--lr 0.0: needs a number above 0"),
        ("finetune lenet5 --data digits --weight-decay -1", "--weight-decay -1.0: needs a number"),
        ("finetune lenet5 --data digits --val-fraction 3", "--val-fraction 3.0: needs a number"),
        ("finetune lenet5 --data digits --seed -1", "--seed -1: needs a whole number from 0"),
    ],
)
def test_errors_of_the_verbs(line, says):
    done = CliRunner().invoke(cli, line.split())
    assert isinstance(done.exception, UsageError)
    assert str(done.exception).startswith(says)


def test_what_a_recipes_file_says_keeps_its_keys(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("batch_size = 0\n")
    line = ["finetune", "lenet5", "--data", "digits", "--recipe", str(file)]
    done = CliRunner().invoke(cli, line)
    assert str(done.exception).startswith(f"{file}: batch_size=0: needs a whole number")


def test_no_two_options_of_a_verb_share_an_argument():
    for name in VERBS:
        command = cli.get_command(None, name)
        options = [each for each in command.params if isinstance(each, click.Option)]
        names = [each.name for each in options if each.name != "form"]
        assert len(names) == len(set(names))


def test_notes_name_the_option_too(monkeypatch, capsys):
    import zoo.cli

    def invoke(**_):
        with click.Context(cli.get_command(None, "memory")):
            warnings.warn("memory='24' is taken as 24 GiB", ZooWarning, stacklevel=1)

    monkeypatch.setattr(zoo.cli.cli, "main", invoke)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings(), pytest.raises(SystemExit):
        zoo.cli.main()
    assert "note: --fit 24 is taken as 24 GiB" in capsys.readouterr().err

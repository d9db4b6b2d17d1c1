"""The command line as a whole: help, verbs that are none, and how it is started. Each
verb's own output is tested with what it shows.
"""

import pytest
from click.testing import CliRunner

from zoo.cli import LATER, VERBS, cli
from zoo.errors import UsageError


def invoke(*args):
    return CliRunner().invoke(cli, args)


def test_help_as_a_verb():
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


def test_lists_what_contains_a_word():
    assert invoke("list", "vgg").stdout == invoke("list", "*vgg*").stdout
    assert "vgg16\n" in invoke("list", "vgg").stdout

"""Texts that a language model goes on with: `zoo.sample` and `zoo sample`."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import zoo
from zoo.cli import cli
from zoo.errors import UsageError

SENTENCE = "the cat sat on the mat. "


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A model that knows one sentence by heart."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "cats.txt").write_text(SENTENCE * 200, encoding="utf-8")
    return zoo.train(
        "char_lstm", folder / "cats.txt", recipe="finetune", out=folder / "run", epochs=6,
        batch_size=4, length=24, lr=0.02, model_args={"hidden_size": 32, "num_layers": 1},
        cpu=True, progress=False, check=False,
    )  # fmt: skip


def sampled(*args):
    return CliRunner().invoke(cli, ["sample", *map(str, args)])


def test_it_goes_on_with_what_it_learnt(run):
    for what in (run, run.path, run.path / "best.safetensors"):
        found = zoo.sample(what, "the cat", length=40, top_k=1)
        assert (found.prompt + found.text).startswith("the cat sat on the mat. the cat sat")
        assert len(found.text) == 40
        assert found.nats_per_character < 0.2
    assert str(found) == found.prompt + found.text


def test_the_same_seed_gives_the_same_text(run):
    first, again, other = (
        zoo.sample(run, "the", length=60, temperature=5, seed=seed).text for seed in (1, 1, 2)
    )
    assert first == again != other
    before = torch.get_rng_state()
    zoo.sample(run, length=3, seed=5)
    assert torch.equal(torch.get_rng_state(), before)


def test_temperature(run):
    """Low: nearly always the likeliest; high: nearly even. What is reported is measured
    at temperature 1.
    """
    cold, hot = (zoo.sample(run, "t", length=200, temperature=t) for t in (0.05, 1e4))
    assert cold.text == zoo.sample(run, "t", length=200, top_k=1).text
    assert cold.nats_per_character < 0.2
    assert hot.nats_per_character > math.log(len(run.classes)) / 2
    assert len(set(hot.text)) > len(run.classes) - 3
    two = zoo.sample(run, "t", length=200, temperature=1e4, top_k=1)
    assert two.text == cold.text


def test_the_first_character_is_drawn_evenly(run):
    firsts = {zoo.sample(run, length=1, seed=seed).text for seed in range(80)}
    assert len(firsts) > len(run.classes) / 2
    assert firsts <= set(run.classes)
    assert len(zoo.sample(run, length=9).text) == 9


def test_each_character_is_told_when_it_is_drawn(run):
    told = []
    found = zoo.sample(run, "the", length=12, callback=told.append)
    assert "".join(told) == found.text
    told.clear()
    assert zoo.sample(run, length=12, callback=told.append).text == "".join(told)


def test_a_module_stays_in_its_mode(run):
    module = zoo.create(run).train()
    found = zoo.sample(module, "the", classes=run.classes, length=5, top_k=1)
    assert found.text == zoo.sample(run, "the", length=5, top_k=1).text
    assert module.training


def test_on_the_command_line(run):
    done = sampled(run.path, "--prompt", "the c", "--length", 19, "--top-k", 1)
    assert done.exit_code == 0, done.output
    assert done.stdout == SENTENCE + "\n"
    done = sampled(run.path, "--prompt", "the c", "--length", 19, "--temperature", 0.5, "--json")
    found = json.loads(done.stdout)
    assert (found["prompt"], found["temperature"], found["seed"]) == ("the c", 0.5, 0)
    assert found["text"] == zoo.sample(run, "the c", length=19, temperature=0.5).text


def test_it_is_printed_as_it_is_drawn(run, monkeypatch):
    """The first characters are out before the last one is drawn."""
    from zoo.cli import sample as module

    real, seen = zoo.sample, []

    def spied(*args, callback, **options):
        def told(character):
            callback(character)
            seen.append(printed[-1])

        return real(*args, callback=told, **options)

    printed = []
    monkeypatch.setattr(module.zoo, "sample", spied, raising=False)
    monkeypatch.setattr(module.click, "echo", lambda text="", nl=True: printed.append(text))
    done = sampled(run.path, "--prompt", "the c", "--length", 4, "--top-k", 1)
    assert done.exit_code == 0
    assert seen == ["the ca", "t", " ", "s"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "maté"}, r"the prompt: 1 character that the vocabulary of \d+ lacks: 'é' \(U\+00E9"),
        ({"prompt": "QX"}, r"2 characters that .* lacks: 'Q' \(U\+0051\), 'X' \(U\+0058\)"),
        ({"length": 0}, "needs a length from 1 on"),
        ({"temperature": 0}, "a temperature above 0 .top_k=1 takes the likeliest"),
        ({"temperature": math.nan}, "a temperature above 0"),
        ({"top_k": -1}, "no negative top_k"),
        ({"classes": [*"abc"]}, "a run has its own classes"),
    ],
)  # fmt: skip
def test_wrong_use_is_one_line(run, options, message):
    with pytest.raises(UsageError, match=message) as caught:
        zoo.sample(run, **options)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_sampled():
    with pytest.raises(UsageError, match="vgg11 is no language model: its task is classify"):
        zoo.sample("vgg11")
    with pytest.raises(UsageError, match="char_rnn has no weights to sample with: `zoo finetune"):
        zoo.sample("char_rnn")
    module = zoo.create("char_lstm", vocab_size=5)
    with pytest.raises(UsageError, match="needs the characters of its outputs: classes="):
        zoo.sample(module)
    with pytest.raises(UsageError, match="has 5 characters, and 3 are named"):
        zoo.sample(module, classes=[*"abc"])
    with pytest.raises(UsageError, match="Linear is no language model"):
        zoo.sample(torch.nn.Linear(3, 3), classes=[*"abc"])


@pytest.mark.skipif(
    not Path(os.environ.get("ZOO_MIRROR", "none")).is_dir(), reason="ZOO_MIRROR names no folder"
)
def test_a_name_takes_its_published_weights():
    text = zoo.sample("char_lstm.crazydonkey_shakespeare", "ROMEO:\n", length=400, seed=1).text
    assert sum(text.count(word) for word in (" the ", " and ", " to ", " of ", " my ")) > 3

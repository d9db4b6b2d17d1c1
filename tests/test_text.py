"""A text file as data, and the training of a language model on it."""

import json
import math
import os
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import zoo
from zoo.cli import cli
from zoo.data.text import Strips, Text, open_text, to_numbers
from zoo.errors import DataError, InputError, UsageError
from zoo.files import read_state
from zoo.optimizers import make_optimizer
from zoo.tasks.text import Language, evaluated
from zoo.training import loop
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.schedule import make_schedule
from zoo.transfer.budget import measure_speed
from zoo.transfer.param_groups import param_groups

SENTENCE = "the cat sat on the mat and the dog sat on the log. "
SMALL = {"hidden_size": 16, "num_layers": 2}
OPTIONS = {
    "recipe": "finetune", "epochs": 2, "batch_size": 4, "length": 10, "lr": 0.02, "cpu": True,
    "progress": False, "check": False, "model_args": SMALL,
}  # fmt: skip
SHAKESPEARE = Path(os.environ.get("ZOO_DATA", "none")) / "text" / "tinyshakespeare.txt"
with_data = pytest.mark.skipif(
    not SHAKESPEARE.is_file(), reason="ZOO_DATA has no text/tinyshakespeare.txt"
)


@pytest.fixture
def text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "cats.txt"
    file.write_text(SENTENCE * 41, encoding="utf-8")
    return file


# ----------------------------------------------------------------------------- the data


def test_a_text_is_divided_in_order(text):
    whole = text.read_text()
    split = open_text(text)
    assert split.train.text + split.val.text + split.test.text == whole
    assert len(split.test) == len(whole) - int(len(whole) * 0.9)
    assert len(split.val) == pytest.approx(0.05 * 0.9 * len(whole), abs=1)
    assert split.classes == tuple(sorted(set(whole)))
    assert "".join(split.classes[i] for i in split.val.tokens) == split.val.text
    other = open_text(text, val_fraction=0.5, test_fraction=0.2)
    assert len(other.train) == pytest.approx(0.4 * len(whole), abs=1)
    assert other.record()["fingerprint"] != split.record()["fingerprint"] != ""
    assert open_text(text).record() == split.record()


@with_data
def test_tiny_shakespeare():
    split = open_text("tinyshakespeare")
    assert [len(part) for part in (split.train, split.val, split.test)] == [
        953_661, 50_193, 111_540,
    ]  # fmt: skip
    assert len(split.classes) == 65
    assert split.classes[:4] == ("\n", " ", "!", "$")


def test_characters_beyond_ascii(tmp_path):
    file = tmp_path / "greek.txt"
    file.write_text("αβγ😀\n" * 50, encoding="utf-8-sig")
    split = open_text(file)
    assert split.classes == ("\n", "α", "β", "γ", "😀")
    assert split.train.tokens[:5].tolist() == [1, 2, 3, 4, 0]


def test_the_vocabulary_of_the_training_part_is_all_there_is(text):
    text.write_text(SENTENCE * 41 + "A quick brown fox: 42%?")
    with pytest.raises(DataError) as caught:
        open_text(text)
    assert str(caught.value) == (
        f"the test part of {text}: 15 characters that the vocabulary of 14 lacks: '%' (U+0025), "
        "'2' (U+0032), '4' (U+0034), ':' (U+003A), '?' (U+003F), 'A' (U+0041), 'b' (U+0062), "
        "'f' (U+0066) and 7 more"
    )
    with pytest.raises(DataError, match="'ab' in the vocabulary is no character"):
        to_numbers("ab", ["ab", "c"], "here")


def test_what_is_no_text(tmp_path):
    latin = tmp_path / "latin.txt"
    latin.write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(DataError, match=r"latin\.txt is no UTF-8 text \(byte 0xe9 at position 3\)"):
        open_text(latin)
    with pytest.raises(DataError, match="is a folder: a text is one file"):
        open_text(tmp_path)
    with pytest.raises(UsageError, match=r"there is no text 'tinyshakespear': did you mean tinys"):
        open_text("tinyshakespear")
    with pytest.raises(UsageError, match=r"there is no text 'none\.txt'"):
        open_text("none.txt")
    with pytest.raises(UsageError, match="a text is a file or one of tinyshakespeare, not"):
        open_text(torch.zeros(3))
    for content in ("", "a", "ab" * 9):
        latin.write_text(content)
        with pytest.raises(DataError, match=rf"has {len(content)} characters, of which .* less"):
            open_text(latin)


def test_a_name_needs_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("ZOO_DATA", raising=False)
    with pytest.raises(UsageError, match="tinyshakespeare: ZOO_DATA is not set"):
        open_text("tinyshakespeare")
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    with pytest.raises(UsageError, match=r"ZOO_DATA=.* has no text/tinyshakespeare\.txt"):
        open_text("tinyshakespeare")
    (tmp_path / "mine.txt").write_text(SENTENCE * 9)
    assert open_text("mine.txt").name == "mine"


# --------------------------------------------------------------------------- the strips


def numbered(count):
    return Text("".join(map(chr, range(1000, 1000 + count))), [*map(chr, range(1000, 2000))], "")


def test_strips_follow_each_other():
    """Row b of a window goes on where row b of the last one ended, and nothing is said
    twice.
    """
    strips = Strips(numbered(103), 4, 7)
    windows = list(strips)
    assert len(windows) == len(strips) == math.ceil(25 / 7)
    assert [window.shape for window in windows] == [(4, 8), (4, 8), (4, 8), (4, 5)]
    said = torch.cat([window[:, 1:] for window in windows], 1)
    assert torch.equal(said, torch.arange(1, 101).view(4, 25))
    assert strips.tokens == said.numel()
    assert windows[0].dtype == torch.int64
    for before, after in pairwise(windows):
        assert torch.equal(before[:, -1], after[:, 0])
    strips.set_position(1, 2)
    assert torch.equal(next(iter(strips)), windows[2])


def test_each_process_has_its_share():
    whole = list(Strips(numbered(103), 4, 7))
    parts = [list(Strips(numbered(103), 4, 7, rank=rank, world=2)) for rank in range(2)]
    for window, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(window[0::2], first)
        assert torch.equal(window[1::2], second)
    halves = [evaluated(numbered(103), rank=rank, world=2) for rank in range(2)]
    assert [len(half.strips) for half in halves] == [1, 1]


def test_a_text_shorter_than_a_window(text):
    with pytest.raises(DataError) as caught:
        zoo.train("char_lstm", text, **{**OPTIONS, "length": 2000})
    assert str(caught.value) == (
        f"the training part of {text} has 1,786 characters, too few for 4 windows of 2000: a "
        "smaller batch_size or length, or a longer text"
    )
    assert not (text.parent / "runs").exists()


# ----------------------------------------------------------------------------- training


def test_training_is_what_a_loop_by_hand_gives(text):
    """Strips in order, the state carried and detached, the mean over characters."""
    run = zoo.train("char_lstm", text, seed=3, **OPTIONS)
    split = open_text(text)
    strips = Strips(split.train, 4, 10)
    torch.manual_seed(3)
    model = zoo.create("char_lstm", vocab_size=len(split.classes), **SMALL).train()
    optimizer = make_optimizer("adamw", param_groups(model), 0.02)
    schedule = make_schedule(Recipe(), optimizer, 2 * len(strips), len(strips))
    for record in run.history:
        state, losses = None, []
        for batch in strips:
            logits, state = model(batch[:, :-1], state)
            state = type(state)(*(part.detach() for part in state))
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += [loss.item()] * batch[:, 1:].numel()
        assert record["train_loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_a_run_of_a_text(text):
    run = zoo.train("char_lstm", text, **{**OPTIONS, "epochs": 12})
    assert run.path == Path("runs/char_lstm-cats-1")
    config = json.loads((run.path / "config.json").read_text())
    split = open_text(text)
    assert config["classes"] == list(split.classes)
    assert config["model_args"] == {**SMALL, "vocab_size": len(split.classes)}
    data = config["data"]
    assert data["train_characters"] == Strips(split.train, 4, 10).tokens
    assert (data["val_characters"], data["test_characters"]) == (len(split.val) - 1, 210)
    assert run.history[-1]["val_loss"] < 0.5 < run.history[0]["train_loss"]
    assert run.history[0]["characters_per_second"] > 0
    tested = zoo.evaluate(run)
    assert tested.nats_per_character == pytest.approx(run.report["nats_per_character"], rel=1e-6)
    assert run.report["part"] == "the test part"
    card = (run.path / "README.md").read_text()
    for line in (
        f"- **nats per character**: {tested.nats_per_character:.4f}",
        f"zoo sample {run.path} --prompt TEXT",
        "--model-arg hidden_size=16 --model-arg num_layers=2",
    ):
        assert line in card
    assert "predict" not in card
    assert zoo.create(run).vocab_size == len(split.classes)


def loss_of(model, tokens):
    """Of a whole text in one pass."""
    with torch.no_grad():
        logits = model.eval()(tokens[None, :-1].long()).logits[0]
    return nn.functional.cross_entropy(logits, tokens[1:].long()).item()


def test_evaluation_carries_the_state(text):
    """In windows it is the loss of one pass over all characters; without the state it
    is not.
    """
    text.write_text(SENTENCE * 60)
    split = open_text(text)
    model = zoo.create("char_lstm", vocab_size=len(split.classes), **SMALL)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, -1, 1)  # so that the past matters
    found = zoo.evaluate(model.train(), text, classes=split.classes)
    assert model.training, "as before"
    whole = Text(text.read_text(), split.classes, "")
    assert found.nats_per_character == pytest.approx(loss_of(model, whole.tokens), rel=1e-5)
    assert found.characters == len(whole) - 1
    assert found.bits_per_character == pytest.approx(found.nats_per_character / math.log(2))
    task = Language()
    windows = Strips(whole, 1, 50)
    carried = loop.evaluate(model, windows, task.step(None))["loss"]
    assert carried == pytest.approx(found.nats_per_character, rel=1e-3)

    class Forgetful(Language):
        def forward(self, model, batch):
            self.state = None
            return super().forward(model, batch)

    assert abs(loop.evaluate(model, windows, Forgetful().step(None))["loss"] - carried) > 1e-3


def test_a_long_text_is_read_in_several_strips():
    text = Text("ab" * 150_001, "ab", "")
    strips = evaluated(text)
    assert len(strips.strips) == 3
    assert strips.tokens == 300_000


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", [2, 7])  # in the first and in the second epoch
def test_a_run_goes_on_to_the_bit(step, text, monkeypatch):
    """With the state of its strips, in the middle of an epoch."""
    text.write_text((SENTENCE * 5)[:230])
    options = {**OPTIONS, "epochs": 3, "length": 11, "report": False}
    zoo.train("char_lstm", text, out="whole", **options)
    monkeypatch.setattr(loop, "SAVE_MINUTES", 0.0)
    count, real = 0, loop.Loop._save

    def save(self):
        nonlocal count
        count += 1
        if count > step:
            raise Killed
        real(self)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(loop.Loop, "_save", save)
        zoo.train("char_lstm", text, out="run", **options)
    state = torch.load("run/checkpoint.pt", weights_only=True)["state"]
    inside = state["averages"][0]["batches"] > 0
    assert inside, "the case tests something"
    hidden, cell = state["step"][0]["state"]
    assert hidden.shape == cell.shape == (4, 2, 16)
    zoo.finetune(resume="run", progress=False)
    whole, resumed = (read_state(Path(name) / "last.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert Run.open("run").finished


def test_what_is_measured_is_per_character(text):
    """The speed that a budget of minutes, and the checks before a run, go by."""
    from accelerate import Accelerator

    task, split = Language(), open_text(text)
    recipe = Recipe(length=10)
    model = zoo.create("char_lstm", vocab_size=len(split.classes), **SMALL)
    strips, _ = task.loaders(split, recipe, batch_size=4, seed=0)
    speed = measure_speed(model, strips, task.step(split), recipe, Accelerator(cpu=True))
    assert speed.training < 0.02  # s: a window of 40 would take longer than 20 ms per example
    batches = len(strips)
    assert speed.epoch(task.count(strips), 0) == pytest.approx(
        batches * 40 * speed.training, rel=0.1
    )


def test_gradients_are_cut_number_by_number(text):
    """Plain SGD then moves no weight by more than the rate times the limit, a step."""
    options = {**OPTIONS, "epochs": 1, "optimizer": "sgd", "weight_decay": 0.0, "lr": 0.1}
    moved = []
    for limit in (1e-9, None):
        torch.manual_seed(0)
        run = zoo.train("char_lstm", text, clip_value=limit, schedule="constant", **options)
        begun = zoo.train("char_lstm", text, clip_value=1e-30, schedule="constant", **options)
        pairs = zip(run.model.parameters(), begun.model.parameters(), strict=True)
        moved.append(max((one - other).abs().max().item() for one, other in pairs))
    steps = len(Strips(open_text(text).train, 4, 10))
    assert moved[0] <= 1.1 * steps * 0.1 * 1e-9 + 1e-7
    assert moved[1] > 1e-3


def test_trained_weights_keep_their_vocabulary(text, tmp_path):
    """Another text is read with the numbers that the network knows."""
    run = zoo.train("char_lstm", text, **{**OPTIONS, "epochs": 6})
    other = tmp_path / "dogs.txt"
    other.write_text("the dog and the cat sat. " * 80)
    assert len(set(other.read_text())) < len(run.classes)
    options = {key: OPTIONS[key] for key in OPTIONS if key != "model_args"}
    further = zoo.finetune(run, other, **options)
    assert further.classes == run.classes
    assert further.history[0]["train_loss"] < run.history[0]["train_loss"] / 2
    assert zoo.evaluate(further).nats_per_character == pytest.approx(
        further.report["nats_per_character"], rel=1e-6
    )
    other.write_text("THE DOG AND THE CAT SAT. " * 80)
    for use in (lambda: zoo.finetune(run, other, **options), lambda: zoo.evaluate(run, other)):
        with pytest.raises(DataError, match=r"lacks: 'A' \(U\+0041\), 'C'"):
            use()


def test_what_does_not_go_together(text):
    model = zoo.create("char_lstm", vocab_size=7, **SMALL)
    options = {key: OPTIONS[key] for key in OPTIONS if key != "model_args"}
    with pytest.raises(DataError, match=r"a vocabulary of 14 characters, and the network has 7: "):
        zoo.finetune(model, text, **options)
    with pytest.raises(DataError, match="a vocabulary of 2 characters, and the network has 7"):
        zoo.evaluate(model, text, classes=["a", "b"])
    with pytest.raises(UsageError, match="the characters that its outputs mean are not known"):
        zoo.evaluate(model, text)
    with pytest.raises(UsageError, match="hidden_size, num_layers: char_lstm is built already"):
        zoo.finetune(model, text, **OPTIONS)
    with pytest.raises(UsageError, match="char_lstm has no argument 'widht'"):
        zoo.train("char_lstm", text, **{**OPTIONS, "model_args": {"widht": 3}})
    with pytest.raises(InputError, match="accumulation=2: a text's batches follow each other"):
        zoo.train("char_lstm", text, accumulation=2, **OPTIONS)
    with pytest.raises(UsageError, match="the validation part of a text is cut from it"):
        zoo.train("char_lstm", text, val=text, **OPTIONS)
    with pytest.raises(UsageError, match="crops, scales, resize, input_size and among are for im"):
        zoo.evaluate(zoo.create("char_lstm"), text, classes=[*"a" * 65], crops=10)
    assert not (text.parent / "runs").exists()


def test_on_the_command_line(text):
    command = (
        "train char_lstm --recipe finetune --epochs 1 --batch-size 4 --length 10 --cpu "
        f"--model-arg hidden_size=16 --model-arg cell=rnn --data {text}"
    )
    done = CliRunner().invoke(cli, command.split())
    assert done.exit_code == 0, done.output
    loss, folder, following = done.stdout.splitlines()[-3:]
    assert loss.startswith("loss: ")
    path = folder.partition(":")[2].strip()
    assert following.split(maxsplit=1) == ["next:", f"zoo sample {path} --prompt TEXT"]
    assert isinstance(zoo.create(path).rnn, nn.RNN)
    done = CliRunner().invoke(cli, ["eval", path, "--data", str(text), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert 0 < found["nats_per_character"] < 4
    assert found["characters"] == len(text.read_text()) - 1
    wrong = CliRunner().invoke(cli, [*command.split(), "--model-arg", "hidden_size"])
    assert "'hidden_size': expected NAME=VALUE" in wrong.output


def test_recipes_of_the_two_programs(text):
    """Their options, and that they train."""
    from zoo.training.recipe_files import open_recipe, recipe_of

    assert recipe_of("char_rnn").name == recipe_of("min_char_rnn").name == "min_char_rnn"
    assert recipe_of("char_lstm").name == "char_lstm"
    recipe = open_recipe("char_lstm").recipe
    steps = 50 * 10
    schedule = make_schedule(
        recipe, make_optimizer("sgd", [nn.Parameter(torch.ones(1))], 1.0), steps, 10
    )
    rates = []
    for _ in range(steps):
        rates.append(schedule.get_last_lr()[0])
        schedule.step()
    for epoch in range(1, 51):  # the rate of an epoch in the program
        expected = 0.97 ** max(0, epoch - 10)
        assert rates[10 * epoch - 5] == pytest.approx(expected), epoch
    run = zoo.train("min_char_rnn", text, epochs=3, cpu=True, progress=False)
    assert run.config["recipe"]["length"] == 25
    assert sum(parameter.numel() for parameter in run.model.parameters()) == (
        2 * 14 * 100 + 100**2 + 100 + 14
    )
    assert run.history[-1]["train_loss"] < 1.5


# -------------------------------------------------------------------- published weights


@with_data
@pytest.mark.skipif(
    not Path(os.environ.get("ZOO_MIRROR", "none")).is_dir(), reason="ZOO_MIRROR names no folder"
)
def test_the_published_weights_have_their_published_figures(tmp_path):
    """`model-85340` of tensorflow-char-rnn: perplexities 4.3353 and 5.3884 on 5 % each,
    which its program takes in batches; one pass is a little better.
    """
    name = "char_lstm.crazydonkey_shakespeare"
    whole = SHAKESPEARE.read_text(encoding="utf-8")
    parts = {"val": whole[int(0.9 * len(whole)) : int(0.95 * len(whole))],
             "test": whole[int(0.95 * len(whole)) :]}  # fmt: skip
    found = {}
    for part, text in parts.items():
        (tmp_path / part).write_text(text, encoding="utf-8")
        found[part] = zoo.evaluate(name, tmp_path / part)
    assert found["val"].nats_per_character == pytest.approx(1.4651, abs=1e-4)
    assert found["test"].nats_per_character == pytest.approx(1.6694, abs=1e-4)
    for part, perplexity in (("val", 4.3353), ("test", 5.3884)):
        assert 0.98 * perplexity < found[part].perplexity < perplexity
    assert zoo.evaluate(name, "tinyshakespeare").nats_per_character == pytest.approx(
        1.5672, abs=1e-4
    )
    model = zoo.create(name, pretrained=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == 239_297
    again = zoo.create("char_lstm", biases=1)
    zoo.load_state_dict(
        again, zoo.export_state_dict(model, "tensorflow_char_rnn"), layout="tensorflow_char_rnn"
    )
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key

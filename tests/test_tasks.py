"""A task that the package does not know goes through it: a language model, registered
in the test alone, with state that is carried from batch to batch.
"""

import json
import random
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from other_tasks import LANGUAGE, LENGTH, LanguageTask, Strips, TinyLanguageModel
from torch import nn

import zoo
from zoo import registry, tasks
from zoo.cli import cli
from zoo.errors import DataError, InputError, UsageError
from zoo.optimizers import make_optimizer
from zoo.tasks.classify import Classify
from zoo.training.loop import evaluate
from zoo.training.metrics import Mean
from zoo.training.recipe import Recipe
from zoo.training.run import Run
from zoo.training.schedule import make_schedule
from zoo.transfer.param_groups import param_groups

SENTENCE = "the cat sat on the mat and the dog sat on the log and so they sat"
WORDS = SENTENCE.split()
ROWS = 4


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(tasks, "_registered", {})
    zoo.register_family(LANGUAGE)
    zoo.register_task(LanguageTask)


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A file of a repeated sentence, of a length that leaves short last batches."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "cats.txt"
    file.write_text(" ".join(WORDS * 41))
    return file


def train(text, **options):
    defaults = {"batch_size": ROWS, "lr": 0.02, "epochs": 6, "progress": False, "cpu": True}
    return zoo.finetune("tiny_language_model", text, **{**defaults, **options})


def opened(text, rows=ROWS):
    task = LanguageTask()
    split = task.open(text)
    return task, split, task.loaders(split, Recipe(), batch_size=rows, seed=0)


# ---------------------------------------------------------------------------- training


def test_a_language_model_learns(text):
    run = train(text, epochs=10)
    first, last = run.history[0], run.history[-1]
    assert last["val_loss"] < 0.25 * first["train_loss"]
    assert last["val_accuracy"] > 0.9
    assert last["tokens_per_second"] > 0
    config = json.loads((run.path / "config.json").read_text())
    assert run.path.name == "tiny_language_model-cats-1"
    assert (config["task"], config["metric"], config["higher_is_better"]) == (
        "words",
        "loss",
        False,
    )
    assert config["model_args"] == {"vocab_size": len(set(WORDS))}
    assert (config["classes"], config["num_classes"], config["preprocessing"]) == ([], 0, None)
    _, _, (train_strips, val_strips) = opened(text)
    assert config["data"]["train_tokens"] == train_strips.tokens
    assert config["data"]["val_tokens"] == val_strips.tokens
    assert config["recipe"]["batch_size"] == ROWS
    assert (run.path / "curves.png").stat().st_size > 1000


def test_training_is_what_a_loop_by_hand_gives(text):
    """Strips in order, the state carried and detached, the mean over tokens, the same
    optimizer: to the last bit.
    """
    run = train(text, epochs=2, seed=3)
    task, split, (train_strips, _) = opened(text)
    torch.manual_seed(3)
    model = zoo.create("tiny_language_model", **task.model_args(split)).train()
    optimizer = make_optimizer("adamw", param_groups(model), 0.02)
    scheduler = make_schedule(Recipe(), optimizer, 2 * len(train_strips), len(train_strips))
    for record in run.history:
        state, total, count = None, 0.0, 0
        for batch in train_strips:
            outputs = model(batch[:, :-1], state)
            state = tuple(part.detach() for part in outputs.state)
            targets = batch[:, 1:].flatten()
            loss = nn.functional.cross_entropy(outputs.logits.flatten(0, 1), targets)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            total += loss.item() * len(targets)
            count += len(targets)
        assert record["train_loss"] == pytest.approx(total / count, rel=1e-6)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_evaluation_carries_the_state_over_a_short_last_batch(text):
    """In pieces it is the mean over all tokens of one pass through the whole strips;
    without the state it is not.
    """
    task, split, (strips, _) = opened(text)
    lengths = [batch.shape[1] - 1 for batch in strips]
    assert set(lengths[:-1]) == {LENGTH}
    assert 0 < lengths[-1] < LENGTH
    assert len(strips) == len(lengths)
    model = TinyLanguageModel(len(split.train.vocabulary)).eval()
    nn.init.uniform_(model.lstm.weight_hh_l1, -3, 3)  # so that the past matters
    whole = strips.strips
    with torch.no_grad():
        logits = model(whole[:, :-1]).logits.flatten(0, 1)
    expected = nn.functional.cross_entropy(logits, whole[:, 1:].flatten()).item()
    found = evaluate(model, strips, task.step(split))
    assert found["loss"] == pytest.approx(expected, rel=1e-5)

    class Forgetful(LanguageTask):
        def forward(self, model, batch):
            self.state = None
            return super().forward(model, batch)

    assert abs(evaluate(model, strips, Forgetful().step(split))["loss"] - expected) > 1e-3


def test_the_lowest_loss_selects(text):
    """A text for validation that is other than that for training gets worse again."""
    shuffled = WORDS * 4
    random.Random(0).shuffle(shuffled)
    text.write_text(" ".join(WORDS * 40 + shuffled))
    run = train(text, epochs=8, lr=0.002)
    losses = [record["val_loss"] for record in run.history]
    best = losses.index(min(losses))
    assert 0 < best < 7, "the case tests something"
    for each in (run, Run.open(run.path)):
        assert each.best["epoch"] == best + 1
        assert each.score == losses[best]
    task, split, (_, val_strips) = opened(text)
    model = zoo.create(run.path)
    assert evaluate(model, val_strips, task.step(split))["loss"] == pytest.approx(losses[best])


def evaluated(text, **options):
    """The loss on the validation text, after training that changes nearly nothing."""
    return train(text, epochs=1, lr=1e-9, **options).history[0]["val_loss"]


def test_a_family_s_loss_and_then_the_user_s_replace_the_task_s(text):
    def doubled(outputs, batch, model):
        assert isinstance(model, TinyLanguageModel)
        value, count = LanguageTask().loss(outputs, batch, model)
        return Mean(2 * value, count)

    def tripled(outputs, batch, model):
        value, count = LanguageTask().loss(outputs, batch, model)
        return Mean(3 * value, count)

    plain = evaluated(text)
    assert evaluated(text, loss=doubled) == pytest.approx(2 * plain, rel=1e-3)
    zoo.register_family(replace(LANGUAGE, loss=tripled))
    assert evaluated(text) == pytest.approx(3 * plain, rel=1e-3)
    assert evaluated(text, loss=doubled) == pytest.approx(2 * plain, rel=1e-3)


def test_each_process_reads_its_own_strips():
    tokens = torch.arange(103)
    whole = list(Strips(tokens, 4))
    parts = [list(Strips(tokens, 4, rank, 2)) for rank in range(2)]
    for batch, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(batch[0::2], first)
        assert torch.equal(batch[1::2], second)


def test_the_state_of_a_task_is_saved_and_loaded(text):
    """In the middle of an epoch: another instance goes on as the first one does."""
    task, split, (strips, _) = opened(text)
    model = TinyLanguageModel(len(split.train.vocabulary))
    first, second, *_ = strips
    assert task.state_dict() == {}
    task.forward(model, first)
    other = LanguageTask()
    other.load_state_dict({name: value.clone() for name, value in task.state_dict().items()})
    expected = task.forward(model, second).logits
    assert torch.equal(other.forward(model, second).logits, expected)
    other.begin_epoch(2, training=True)
    assert not torch.equal(other.forward(model, second).logits, expected)
    other.load_state_dict({})
    assert other.state is None


# ------------------------------------------------------------------ what else is there


def test_a_run_of_another_task_is_a_network(text, tmp_path):
    run = train(text, epochs=1)
    tokens = torch.randint(len(set(WORDS)), (3, 5))
    expected = run.load_best(run.model)(tokens).logits
    for what in (run, run.path, run.path / "best.safetensors"):
        assert torch.equal(zoo.create(what).eval()(tokens).logits, expected)
        with pytest.raises(UsageError, match=r"takes no images but 8 tokens of 12: it has no tr"):
            zoo.transforms(what)
        with pytest.raises(UsageError, match="the task words makes no predictions"):
            zoo.predict(what, text)
    assert zoo.info(run.path).variant.task == "words"
    state = zoo.export_state_dict(run.path)
    assert torch.equal(state["head.weight"], run.model.head.weight)
    with pytest.raises(UsageError, match="takes no images"):
        zoo.transforms("tiny_language_model")
    further = zoo.finetune(run, text, batch_size=ROWS, lr=1e-4, epochs=1, progress=False, cpu=True)
    assert further.history[0]["train_loss"] < run.history[0]["train_loss"]
    assert further.config["model_args"] == run.config["model_args"]


def test_on_the_command_line(text):
    done = CliRunner().invoke(
        cli,
        f"finetune tiny_language_model --data {text} --epochs 1 --batch-size 4 --cpu".split(),
    )
    assert done.exit_code == 0, done.output
    first, folder = done.stdout.splitlines()
    assert first.startswith("loss: ")
    assert "validation tokens (epoch 1 of 1)" in first
    assert folder.endswith("runs/tiny_language_model-cats-1")
    assert "tokens/s" in done.stderr


def test_the_loss_of_a_task_on_the_meta_device():
    """As the memory of a training step needs it: targets made for the outputs."""
    task = LanguageTask()
    model = TinyLanguageModel(12).to("meta")
    args = (torch.zeros(3, 5, dtype=torch.long, device="meta"),)
    loss = task.example_loss(args, model)(model(*args))
    assert (loss.shape, loss.device.type) == ((), "meta")
    loss.backward()
    assert model.lstm.weight_hh_l0.grad.shape == model.lstm.weight_hh_l0.shape

    classifier = nn.Linear(4, 3, device="meta")
    images = torch.empty(2, 4, device="meta")
    for outputs in (classifier(images), (classifier(images), classifier(images))):
        batch = Classify().example_batch((images,), outputs)
        assert batch[0] is images
        assert (batch[1].shape, batch[1].dtype) == ((2,), torch.long)
    assert Classify().example_loss((images,), classifier)(classifier(images)).ndim == 0


def test_faults_are_one_line_and_leave_nothing(text, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too short")
    for error, options in (
        (DataError, {"data": short}),
        (InputError, {"lr": 0.0}),
        (UsageError, {"recipe": "nothing"}),
    ):
        with pytest.raises(error) as caught:
            zoo.finetune("tiny_language_model", **{"data": text, **options})
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_tasks_by_name(monkeypatch):
    assert tasks.find_task("classify") is Classify
    assert tasks.task_of("words") is LanguageTask
    assert tasks.find_task("segment") is None
    with pytest.raises(UsageError, match="there is no task 'segment': there are classify, "):
        tasks.task_of("segment")
    with pytest.raises(UsageError, match="did you mean classify"):
        tasks.task_of("clasify")

    class Mine(LanguageTask):
        name = "classify"

    with pytest.raises(UsageError, match="the task 'classify' is built in"):
        zoo.register_task(Mine)
    monkeypatch.setattr(tasks, "_registered", {})
    with pytest.raises(UsageError, match="there is no task 'words': there are classify"):
        zoo.finetune("tiny_language_model", "text")

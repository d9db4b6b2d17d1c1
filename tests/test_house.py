"""The house holds networks that no line of it knows: a language model, one of two
inputs, one with another network inside. Each goes through every public function.
"""

import json
import warnings
from functools import partial

import pytest
import torch
from click.testing import CliRunner
from other_networks import JUDGE, WRITER, Judging, Writing, greedy
from other_tasks import LANGUAGE, LanguageTask

import zoo
from zoo import registry, tasks
from zoo.cli import cli
from zoo.errors import InputError, UsageError, WeightsError, ZooWarning

FAMILIES = {"tiny_language_model": LANGUAGE, "writer": WRITER, "judge": JUDGE}
NAMES = list(FAMILIES)


@pytest.fixture(autouse=True)
def _registered(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "_registered", {})
    monkeypatch.setattr(tasks, "_registered", {})
    for family in FAMILIES.values():
        zoo.register_family(family)
    for task in (LanguageTask, Writing, Judging):
        zoo.register_task(task)
    monkeypatch.chdir(tmp_path)


def run(*arguments):
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_named_and_described(name):
    variant = FAMILIES[name].variants[name]
    assert name in zoo.list_models()
    assert zoo.list_models(task=variant.task) == [name]
    known = zoo.info(name)
    assert known.variant is variant
    text = run("info", name)
    assert f"input:      {variant.describe_inputs()}" in text
    record = json.loads(run("info", name, "--json"))
    assert [each["kind"] for each in record["variant"]["inputs"]] == [
        type(each).__name__ for each in variant.inputs
    ]
    assert name in run("list").split()


@pytest.mark.parametrize("name", NAMES)
def test_counted_by_name(name):
    """Without `inputs=`: the variant says what the network takes."""
    claims = zoo.info(name).variant.claims
    for mode in ("eval", "train"):
        profile = zoo.profile(name, batch_size=3, mode=mode)
        assert (profile.params, profile.macs) == (claims.params, 3 * claims.macs)
        assert not profile.uncounted
    assert profile.backward_macs > profile.macs
    assert zoo.profile(name, stats=True).rows[0].mean is not None
    assert zoo.verify(name).ok
    model = zoo.create(name)
    assert zoo.profile(model).macs == claims.macs
    assert zoo.cross_check(name, "torch").macs.ours == claims.macs
    assert f"{claims.macs:,}" in run("profile", name)
    assert "2 claims: all agree" in run("verify", name)


@pytest.mark.parametrize("name", NAMES)
def test_memory_by_name_is_that_of_a_step_with_the_tasks_loss(name):
    variant, model = zoo.info(name).variant, zoo.create(name)
    args = variant.example_inputs(64, device="meta")
    task = tasks.task_of(variant.task)()
    given = task.example_loss(args, model)
    predicted = zoo.memory(name, 64, optimizer="adam")
    assert predicted.peak == zoo.memory(model, 64, optimizer="adam", loss=given).peak
    assert zoo.memory(model, 64, optimizer="adam").peak == predicted.peak
    summed = zoo.memory(name, 64, optimizer="adam", loss=_sum)
    assert summed.activations < predicted.activations, "a sum saves nothing"
    assert zoo.memory(name, 64, mode="eval").peak < predicted.peak
    assert zoo.max_batch_size(name, "2MiB", device="cpu") > 1
    assert "peak" in run("memory", name)


@pytest.mark.filterwarnings("ignore:.*Profiler.*")  # of torch 2.11
def test_memory_is_what_a_step_takes():
    from zoo.count.memory.measured_memory import measure
    from zoo.count.workload import Workload

    variant, model = zoo.info("judge").variant, zoo.create("judge")
    args = variant.example_inputs(64)
    found = measure(Workload(model, "judge", args), loss=Judging().example_loss(args, model))
    predicted = zoo.memory("judge", 64, device="cpu").peak
    assert predicted == pytest.approx(found.tensors, rel=0.02)


def _sum(outputs):
    return (outputs if isinstance(outputs, torch.Tensor) else outputs[0]).sum()


def test_compared_side_by_side():
    table = zoo.compare(NAMES, recount=True, memory_batch_size=2, latency_batch_size=2)
    rows = {row.name: row for row in table.rows}
    assert rows["tiny_language_model"].input == (8,)
    assert rows["writer"].input == ((3, 16, 16), (5,))
    assert rows["judge"].input == (1, 28, 28)
    for name, row in rows.items():
        assert row.macs == zoo.info(name).variant.claims.macs
        assert row.training > row.inference > 0
        assert row.ms > 0
    assert "3x16x16, 5" in zoo.compare(NAMES).to_markdown()
    assert "3x16x16, 5" in run("compare", *NAMES, "--markdown")
    assert zoo.compare(["writer"]).sort("input").to_html()


@pytest.mark.parametrize("name", NAMES)
def test_created_and_exported(name):
    model = zoo.create(name)
    assert model.origin.architecture == name
    own = {id(each) for part in model.layer_groups().values() for each in part.parameters()}
    assert own == {id(each) for each in model.parameters()}
    state = zoo.export_state_dict(model)
    assert zoo.export_state_dict(name).keys() == state.keys()
    other = zoo.create(name)
    zoo.load_state_dict(other, state)
    args = zoo.info(name).variant.example_inputs(2)
    first = model.eval()(*args)
    second = other.eval()(*args)
    assert torch.equal(_first(first), _first(second))
    with pytest.raises(UsageError, match=f"{name} has no layout 'torchvision'"):
        zoo.export_state_dict(model, "torchvision")
    with pytest.raises(UsageError, match=f"{name} is no image classifier"):
        zoo.create(name, features_only=True)


def _first(outputs):
    return outputs if isinstance(outputs, torch.Tensor) else outputs[0]


def test_what_belongs_to_images_is_refused_by_name_of_what_it_takes():
    with pytest.raises(UsageError, match="tiny_language_model takes no images but 8 tokens of 12"):
        zoo.transforms("tiny_language_model")
    for verb in (zoo.profile, zoo.memory, partial(zoo.max_batch_size, memory="1GiB")):
        with pytest.raises(InputError, match="input_size=32 is for images, and tiny_language_model "
                           "takes 8 tokens of 12"):  # fmt: skip
            verb("tiny_language_model", input_size=32)
    assert zoo.profile("writer", input_size=32).macs > zoo.profile("writer").macs
    assert zoo.transforms("judge")(torch.zeros(1, 40, 40, dtype=torch.uint8)).shape == (1, 28, 28)
    with pytest.raises(UsageError, match="the task words makes no predictions"):
        zoo.predict("tiny_language_model", "text")


def test_arguments_change_the_example():
    model = zoo.create("tiny_language_model", vocab_size=50)
    assert zoo.profile(model).params == zoo.profile("tiny_language_model", vocab_size=50).params
    row = zoo.info("tiny_language_model").variant
    assert row.example_inputs(200, model_args={"vocab_size": 50})[0].max() > 40
    assert row.example_inputs(200)[0].max() < 12


def test_two_inputs_are_decoded_step_by_step():
    """What is trained by the words before gives, one step after the other, the same."""
    torch.manual_seed(3)
    model = zoo.create("writer").eval()
    images, tokens = zoo.info("writer").variant.example_inputs(3)
    words = greedy(model, images, first=0, steps=5)
    whole = model(images, torch.cat([torch.zeros(3, 1, dtype=torch.long), words[:, :-1]], 1))
    assert torch.equal(whole.argmax(2), words)
    _, state = model.start(model.encode(images))
    _, state = model.step(tokens[:, 0], state)
    beams = torch.tensor([2, 2, 0])
    logits, _ = model.step(tokens[beams, 1], model.select(state, beams))
    torch.testing.assert_close(logits, model(images, tokens)[beams, 1])


def test_two_inputs_are_trained_and_come_back(tmp_path):
    torch.manual_seed(0)
    images = torch.randn(64, 3, 16, 16)
    words = torch.arange(64 * 6).view(64, 6) % 11
    result = zoo.finetune(
        "writer", (images, words), epochs=15, batch_size=8, lr=0.05, progress=False, cpu=True
    )
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] / 2
    assert result.config["task"] == "writing"
    assert "words_per_second" in result.history[0]
    again = zoo.create(result.path).eval()
    expected = result.load_best(result.model)(images, words[:, :-1])
    assert torch.equal(again(images, words[:, :-1]), expected)
    assert zoo.info(result.path).run == result.path
    assert zoo.profile(result.path).macs == zoo.profile("writer").macs
    assert zoo.export_state_dict(result.path).keys() == again.state_dict().keys()
    assert zoo.compare([str(result.path), "writer"]).rows[0].params == 1155


def test_a_network_inside_another(tmp_path):
    model = zoo.create("judge")
    assert [name for name, _ in model.encoder.model.features.named_children()][-1] == "s4"
    assert not list(model.encoder.model.neck.parameters()), "nothing behind the output is built"
    assert not list(model.encoder.model.head.parameters())
    assert list(model.layer_groups()) == ["encoder", "head"]
    other = zoo.create("judge", encoder="lenet5_modern:pre_logits", outputs=3)
    assert other.origin.model_args == {"encoder": "lenet5_modern:pre_logits", "outputs": 3}
    assert other.head.in_features == 84
    with pytest.raises(InputError, match=r"lenet5_modern: no 's5' on the way to 'features\.s5'"):
        zoo.create("judge", encoder="lenet5_modern:features.s5")
    with pytest.raises(InputError, match="lenet5_modern has no output 'middle'"):
        zoo.create("judge", encoder="lenet5_modern:middle")
    with pytest.raises(LookupError, match="no network 'lenet6'"):
        zoo.create("judge", encoder="lenet6")
    said = zoo.create("judge", encoder="LeNet-5 modern")
    assert said.state_dict().keys() == zoo.create("judge").state_dict().keys()
    torch.manual_seed(4)
    first = zoo.create("judge").encoder.model.features.c3.conv.weight
    torch.manual_seed(4)
    assert torch.equal(zoo.create("judge").encoder.model.features.c3.conv.weight, first)
    result = zoo.finetune("judge", "digits", epochs=1, augment="none", progress=False, cpu=True)
    expected = {"encoder": "lenet5_modern.zoo_mnist", "outputs": 10}
    assert result.config["model_args"] == expected, "its encoder has published weights"
    again = zoo.create(result.path).eval()
    assert again.head.out_features == 10
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(again(x), result.load_best(result.model)(x))
    shown = zoo.predict(result, _digit(tmp_path))
    assert len(shown[0].scores) == 5


def _digit(folder):
    from zoo.data.digits import export_digits

    return export_digits(folder, 1)


def test_tags_are_looked_up_everywhere():
    for verb in (zoo.info, zoo.profile, zoo.memory, zoo.transforms, zoo.create, zoo.verify):
        with pytest.raises(
            WeightsError, match=r"no weights 'vgg11\.nonsense'; there are: vgg11\.tv"
        ):
            verb("vgg11.nonsense")
    with pytest.raises(
        WeightsError, match=r"no weights 'lenet5_modern\.x'; there are: lenet5_modern\.zoo"
    ):
        zoo.finetune("lenet5_modern.x", "digits")


def test_a_run_folder_is_a_network_everywhere(tmp_path):
    result = zoo.finetune(
        "lenet5_modern", "digits", pretrained=False, epochs=1, augment="none", progress=False,
        cpu=True,
    )  # fmt: skip
    path = str(result.path)
    assert zoo.info(path).classes == tuple("0123456789")
    assert zoo.profile(path).macs == 416_520
    assert (
        zoo.memory(path, 2, device="cpu").peak == zoo.memory("lenet5_modern", 2, device="cpu").peak
    )
    assert zoo.verify(path).ok
    assert zoo.compare([path]).rows[0].params == 61_706
    assert zoo.transforms(path)(torch.zeros(1, 30, 30, dtype=torch.uint8)).shape == (1, 28, 28)
    best = zoo.create(result).head.weight
    assert torch.equal(zoo.export_state_dict(result)["head.weight"], best), "not the last epoch's"
    state = zoo.export_state_dict(path)
    assert torch.equal(state["head.weight"], zoo.create(path).head.weight)
    assert zoo.create(result.path / "best.safetensors").origin.architecture == "lenet5_modern"
    with pytest.warns(ZooWarning, match="best.safetensors has 10 classes, 4 are wanted: the body"):
        other = zoo.create(path, num_classes=4)
    assert other.num_classes == other.head.out_features == 4
    assert torch.equal(other.neck.f6.weight, state["neck.f6.weight"])
    for verb in ("info", "profile", "memory", "verify"):
        run(verb, path)
    run("compare", path, "lenet5")
    with warnings.catch_warnings():
        warnings.simplefilter("error", ZooWarning)
        zoo.create(path, features_only=True)


def test_an_error_before_the_first_epoch_is_said_as_it_is(tmp_path):
    """A folder that appeared in the run's own meanwhile stays, and hides nothing."""
    out = tmp_path / "run"

    def loss(outputs, batch, model):
        (out / "notes").mkdir(exist_ok=True)
        raise RuntimeError("the loss of a user")

    with pytest.raises(RuntimeError, match="the loss of a user"):
        zoo.finetune(
            "lenet5_modern", "digits", pretrained=False, loss=loss, out=out, progress=False,
            cpu=True, check=False,
        )  # fmt: skip
    assert [path.name for path in out.iterdir()] == ["notes"]

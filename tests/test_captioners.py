"""Captioners: their arithmetic, and training on photos of our own making."""

import csv
import json
from dataclasses import replace
from hashlib import sha256

import pytest
import torch
from click.testing import CliRunner
from oracle import tiny
from PIL import Image, ImageDraw

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.data.captioned import EncodedCaptions, captioned_batch
from zoo.data.captions import open_captions
from zoo.data.vocabulary import Vocabulary, frequent_words
from zoo.errors import DataError, InputError, UsageError, ZooError
from zoo.files import write_state
from zoo.interfaces.decoder import Unrolled
from zoo.spec import PAD, Backbone, Claims, ImageInput, TokenInput, Variant
from zoo.tasks.encoded_photos import encoded_photos

NAMES = ["show_and_tell", "show_and_tell_tf", "show_attend_tell"]
COLOURS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220)}
SHAPES = {"circle": "ellipse", "square": "rectangle"}


def small(name, **changes):
    torch.manual_seed(0)
    return zoo.create(name, **{**tiny(name), **changes})


def logits_of(outputs):
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Drawn pictures with two captions each, as on Kaggle: every word is to be seen."""
    folder = tmp_path_factory.mktemp("drawn")
    (folder / "Images").mkdir()
    rows = []
    for number in range(60):
        colour = list(COLOURS)[number % 3]
        shape = list(SHAPES)[number % 2]
        image = Image.new("RGB", (64, 64), (240, 240, 240))
        place = 4 + number % 7, 6 + number % 5, 50 + number % 9, 52 + number % 6
        getattr(ImageDraw.Draw(image), SHAPES[shape])(place, fill=COLOURS[colour])
        image.save(folder / "Images" / f"{number:02}.png")
        rows += [
            (f"{number:02}.png", f"A {colour} {shape}."),
            (f"{number:02}.png", f"A {shape}, {colour}"),
        ]
    with (folder / "captions.txt").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])
    return folder


# ------------------------------------------------------------------------- the networks


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_sentence_is_its_steps(name):
    """Sentences of different lengths side by side equal each by itself."""
    model = small(name).eval()
    images = torch.randn(2, 3, 64, 64)
    tokens = torch.randint(2, 12, (2, 3, 6))
    tokens[0, 1, 4:] = tokens[1, 0, 1:] = tokens[1, 2] = PAD
    with torch.no_grad():
        whole = logits_of(model(images, tokens))
        assert whole.shape == (2, 3, 6, 12)
        assert not whole[1, 2].any(), "a sentence that only fills up says nothing"
        memory = model.encode(images)
        for row in range(2):
            own = model.encode(images[row : row + 1])
            for place in range(3):
                length = int((tokens[row, place] != PAD).sum())
                if not length:
                    continue
                logits, state = model.start(own)
                for time in range(length):
                    torch.testing.assert_close(logits[0], whole[row, place, time])
                    logits, state = model.step(tokens[row, place, time][None], state)
        single = logits_of(model.decode(memory, tokens[:, 0]))
        torch.testing.assert_close(single[0], whole[0, 0])
        encoded = logits_of(model(model.encoder(images), tokens, encoded=True))
        torch.testing.assert_close(encoded, whole)


def test_unrolled_puts_back_what_it_sorted():
    tokens = torch.tensor([[3, PAD, PAD], [4, 5, 6], [7, 8, PAD], [PAD, PAD, PAD]])
    unrolled = Unrolled(tokens)
    assert unrolled.counts == [3, 2, 1]
    sentences = tokens[unrolled.order]
    steps = [sentences[:count, time] for time, count in enumerate(unrolled.counts)]
    assert torch.equal(unrolled.together(steps), tokens.clamp(min=0))
    meta = Unrolled(tokens.to("meta"))
    assert meta.counts == [4, 4, 4], "on meta nobody knows which are over"


def test_attention_adds_up_and_stops_at_the_end():
    model = small("show_attend_tell").eval()
    tokens = torch.randint(2, 12, (2, 2, 5))
    tokens[1, 1, 2:] = PAD
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, 64, 64), tokens)
    sums = outputs.attention.sum(-1)  # (2, 2, 5)
    torch.testing.assert_close(sums[0], torch.ones(2, 5))
    assert not outputs.attention[1, 1, 2:].any()


def test_the_doubly_stochastic_loss_is_the_papers():
    """Sums over tokens and places, one caption at a time, over the number of tokens."""
    model = small("show_attend_tell").eval()
    loss = zoo.registry.family("show_attend_tell").loss
    images, tokens = torch.randn(2, 3, 64, 64), torch.randint(2, 12, (2, 2, 5))
    tokens[0, 1, 3:] = tokens[1, 1] = PAD
    outputs = model(images, tokens)
    mean, count = loss(outputs, (images, tokens), model)
    expected = torch.zeros(())
    for row in range(2):
        for place in range(2):
            said = [time for time in range(5) if tokens[row, place, time] != PAD]
            if said:
                log_p = outputs.logits[row, place].log_softmax(1)
                expected = expected - sum(log_p[time, tokens[row, place, time]] for time in said)
                looked = outputs.attention[row, place, said].sum(0)
                expected = expected + ((1 - looked) ** 2).sum()
    assert count == 13
    torch.testing.assert_close(mean * count, expected)


def test_the_fused_lstm_is_the_loop():
    """torch's LSTM of show_and_tell_tf against the equations, its 1 added to the forget
    gates, for sentences of different lengths.
    """
    model = small("show_and_tell_tf").eval()
    lstm, steps = model.lstm, [torch.randn(count, 8) for count in (3, 3, 2, 1)]
    state = type(model.start(torch.zeros(3, 8))[1])(torch.zeros(3, 8), torch.zeros(3, 8))
    output, _ = lstm(steps, state)
    hidden, cell, expected = torch.zeros(3, 8), torch.zeros(3, 8), []
    for x in steps:
        gates = x @ lstm.weight_ih_l0.T + hidden[: len(x)] @ lstm.weight_hh_l0.T + lstm.bias_ih_l0
        i, f, g, o = gates.chunk(4, 1)
        cell = (f + 1).sigmoid() * cell[: len(x)] + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        expected.append(hidden)
    torch.testing.assert_close(output, torch.cat(expected))
    assert "lstm.bias_hh_l0" not in dict(model.named_parameters())


# ---------------------------------------------------------------------------- the data


def test_batches_have_all_captions_of_a_photo(photos):
    split = open_captions(photos)
    assert (len(split.train), len(split.val)) == (48, 12)
    words = frequent_words(split.train.sentences(), 1)
    assert words[0] == "a"
    assert set(words) == {"a", *COLOURS, *SHAPES}
    vocabulary = Vocabulary(words, small("show_attend_tell").specials)
    data = EncodedCaptions(split.train, vocabulary, features=torch.arange(48.0)[:, None].half())
    features, tokens = captioned_batch([data[3], data[5]])
    assert features.dtype == torch.float32
    assert tokens.shape == (2, 2, 4)
    assert [vocabulary.decode(each.tolist()) for each in tokens[0]] == [
        " ".join(sentence) for sentence in split.train.words(3)
    ]


def test_features_are_computed_once_and_go_on_where_they_stopped(photos, tmp_path, monkeypatch):
    encoder = small("show_and_tell").encoder.eval()
    files = sorted((photos / "Images").iterdir())
    preprocessing = small("show_and_tell").preprocessing.resized(64)
    whole = encoded_photos(encoder, files, preprocessing, None, progress=False)
    assert whole.shape == (60, 512)
    kept = tmp_path / "features"
    seen = []
    monkeypatch.setattr(type(encoder), "forward", _stopping(encoder, seen))
    with pytest.raises(KeyboardInterrupt):
        encoded_photos(encoder, files, preprocessing, kept, progress=False)
    assert [path.suffix for path in kept.iterdir() if path.suffix == ".maps"] == []
    monkeypatch.undo()
    calls = _counting(monkeypatch, encoder)
    again = encoded_photos(encoder, files, preprocessing, kept, progress=False)
    assert torch.equal(again, whole)
    assert sum(calls) == 1 + 28, "the first photo for the shape, and the second batch"
    calls.clear()
    assert torch.equal(encoded_photos(encoder, files, preprocessing, kept, progress=False), whole)
    assert sum(calls) == 1
    (path,) = kept.glob("*.maps")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="is damaged: remove it"):
        encoded_photos(encoder, files, preprocessing, kept, progress=False)


def _stopping(encoder, seen):
    forward = type(encoder).forward

    def once(self, x):
        seen.append(len(x))
        if len(seen) == 3:  # the shape, the first batch, the second
            raise KeyboardInterrupt
        return forward(self, x)

    return once


def _counting(monkeypatch, encoder):
    forward, calls = type(encoder).forward, []

    def counted(self, x):
        calls.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(type(encoder), "forward", counted)
    return calls


# ------------------------------------------------------------------------------ the run


def train(model, photos, out, **changes):
    options = {"strategy": "last:1", "epochs": 1, "batch_size": 8, "lr": 0.02, "input_size": 64}
    return zoo.finetune(
        model, photos / "captions.txt", out=out, progress=False, cpu=True, check=False,
        **{**options, **changes},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["show_and_tell", "show_attend_tell"])
def test_trained_captioners_come_back(name, photos, tmp_path, monkeypatch):
    """From a module: its encoder is frozen, and what it says afterwards is what the run
    folder says, by name too.
    """
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    words = frequent_words(open_captions(photos).train.sentences(), 5)
    specials = small(name).specials
    model = small(name, vocab_size=specials.count + len(words))
    before = {key: value.clone() for key, value in model.encoder.state_dict().items()}
    run = train(model, photos, tmp_path / "run", epochs=2)
    assert all(torch.equal(before[key], value) for key, value in model.encoder.state_dict().items())
    assert run.history[1]["train_loss"] < run.history[0]["train_loss"]
    assert {"val_cider", "val_bleu4"} <= run.history[0].keys()
    assert run.config["data"]["train_words"] == 48 * 2 * 4
    assert (run.path / "captions.png").stat().st_size > 10_000
    assert "beam 3" in (run.path / "README.md").read_text()
    files = sorted((photos / "Images").iterdir())[:2]
    said = zoo.caption(run.path, files)
    assert [each.caption for each in said] == [each.caption for each in zoo.caption(run, files)]
    assert zoo.predict(run.path, files)[0].caption == said[0].caption
    assert set(said[0].text.split()) <= set(words)
    result = CliRunner().invoke(cli, ["caption", str(run.path), *map(str, files), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [each["caption"] for each in found] == [each.caption for each in said]
    assert found[0].keys() == {"file", "caption", "score", "error"}
    if name == "show_attend_tell":
        assert said[0].attention.shape == (len(said[0].text.split()), 3 * 3)
        said[0].plot_attention(tmp_path / "maps.png")
        with Image.open(tmp_path / "maps.png") as drawn:
            assert drawn.width > 300
    else:
        with pytest.raises(UsageError, match="the network has no attention to draw"):
            said[0].plot_attention(tmp_path / "maps.png")
    scores = zoo.evaluate(run.path, progress=False).to_dict()
    assert [each["beam"] for each in scores["scores"]] == [1, 3, 5]
    assert scores["photos"] == 12


class MeanColour(torch.nn.Module):
    num_features = 3

    def forward(self, images):
        return images.mean((2, 3))  # (N, 3)


def test_a_captioner_learns_what_it_sees(photos, tmp_path, monkeypatch):
    """With an encoder that sees nothing but the mean colour it names that."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    split = open_captions(photos)
    words = frequent_words(split.train.sentences(), 5)
    model = small("show_and_tell", vocab_size=2 + len(words), width=32, drop_rate=0.0)
    model.encoder, model.image_embedding = MeanColour(), torch.nn.Linear(3, 32, bias=False)
    run = train(model, photos, tmp_path / "run", epochs=15)
    said = zoo.caption(run, split.val.files, beam=1, model=model)
    for each, (file, captions) in zip(said, split.val, strict=True):
        assert each.file == file
        (colour,) = COLOURS.keys() & set(captions[0].split())
        assert colour in each.caption.split(), (each.caption, captions)


# ------------------------------------------------------------------------ what is wrong


def test_what_is_wrong_is_said(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    model = small("show_and_tell")
    with pytest.raises(InputError, match=r"12 tokens, the vocabulary 8 \(6 words\): it belongs"):
        train(model, photos, tmp_path / "run")
    with pytest.raises(UsageError, match="lenet5 is for the task classify: `zoo list --task"):
        zoo.caption("lenet5", photos)
    with pytest.raises(UsageError, match="its vocabulary is not known"):
        zoo.caption(model, photos / "Images")
    with pytest.raises(ZooError, match="has no captions: needs"):
        zoo.finetune("show_and_tell", str(photos / "Images"), progress=False)
    with pytest.raises(RuntimeError, match="shape"):
        model.prepare(torch.randn(2, 100))  # of an encoder of another width


# ------------------------------------------------------------------- published weights


@pytest.fixture
def published(photos, tmp_path, monkeypatch):
    """A captioner with LeNet-5 as its encoder, and weights of it that a run gave: the
    decoder in half precision with its words, the encoder by its own record.
    """
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "_registered", {})
    own = registry.family("show_and_tell")
    row = Variant(
        model_args={"vocab_size": 8, "width": 16},
        claims=Claims(params=1, macs=1),
        depth=7,
        inputs=(ImageInput((1, 28, 28), min_size=28, fixed=True), TokenInput(8, 4)),
        task="caption",
        backbones={"encoder": Backbone("lenet5_modern")},
    )
    records = tmp_path / "records.toml"
    family = replace(own, variants={"tiny_captioner": row}, weights=records)
    zoo.register_family(family)
    records.write_text("")
    run = zoo.finetune(
        "tiny_captioner", str(photos), out=tmp_path / "run", progress=False, cpu=True, epochs=2,
        strategy="last:1", batch_size=8, lr=0.02, check=False,
    )  # fmt: skip
    state = zoo.export_state_dict(run)
    kept = {key: value.half() for key, value in state.items() if not key.startswith("encoder.")}
    write_state(tmp_path / "tiny.safetensors", kept, {"classes": run.config["classes"]})
    records.write_text(
        f"""
        [defaults]
        tiny_captioner = "of_a_test"
        [weights."tiny_captioner.of_a_test"]
        stored = "float16"
        backbones = ["encoder"]
        model_args = {{ encoder = "{run.config["model_args"]["encoder"]}" }}
        preprocessing = {{ input_size = [1, 28, 28], mean = [0.5], std = [0.5], crop_pct = 1.0 }}
        [[weights."tiny_captioner.of_a_test".sources]]
        file = "tiny.safetensors"
        sha256 = "{sha256((tmp_path / "tiny.safetensors").read_bytes()).hexdigest()}"
        format = "safetensors"
        """
    )
    return run


def test_a_run_by_name_has_the_encoders_weights(published):
    """Nobody says so: they are the default ones, and the run names their tag."""
    encoder = published.config["model_args"]["encoder"]
    assert encoder == "lenet5_modern.zoo_mnist"
    theirs = zoo.create(encoder, pretrained=True).state_dict()
    own = zoo.create(published).encoder.model.state_dict()
    assert own.keys() < theirs.keys(), "nothing behind the output"
    assert all(torch.equal(own[key], theirs[key]) for key in own)
    alone = zoo.create("tiny_captioner", pretrained_backbones=True)
    assert alone.origin.model_args == {"encoder": encoder}
    state = alone.encoder.model.state_dict()
    assert all(torch.equal(own[key], state[key]) for key in own)
    with pytest.raises(UsageError, match="lenet5 has no backbones: leave out pretrained_backbones"):
        zoo.create("lenet5", pretrained_backbones=True)


def test_published_decoders_take_their_encoder_from_its_record(published, photos, recwarn):
    model, best = zoo.create("tiny_captioner", pretrained=True), zoo.create(published)
    for key, value in best.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-3, atol=1e-4, msg=key)
    assert model.origin.tag == "of_a_test"
    files = sorted((photos / "Images").iterdir())[:3]
    said = zoo.caption("tiny_captioner", files)
    assert all(each.caption for each in said)
    assert zoo.caption(model, files)[2].caption == said[2].caption, "a module knows its record"

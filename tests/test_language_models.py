"""char_rnn and char_lstm: counts, how they begin, what they offer, and the example
"hello" of the text that they are from.
"""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

import zoo
from zoo.decoding.beam import beam_search
from zoo.decoding.sample import sample
from zoo.decoding.text import continue_text
from zoo.errors import InputError, UsageError
from zoo.interfaces.language_model import LanguageModel
from zoo.optimizers import make_optimizer

LETTERS = ("h", "e", "l", "o")


def count(name, **model_args):
    with torch.device("meta"):
        model = zoo.create(name, **model_args)
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "model_args", "params"),
    [
        ("char_rnn", {}, 23_165),
        ("char_rnn", {"vocab_size": 4, "hidden_size": 3}, 40),
        ("char_rnn", {"hidden_size": 128, "num_layers": 2, "biases": 2}, 66_369),
        ("char_lstm", {}, 240_321),
        ("char_lstm", {"biases": 1}, 239_297),
        ("char_lstm", {"hidden_size": 256}, 873_793),
        ("char_lstm", {"hidden_size": 256, "biases": 1}, 871_745),
        ("char_lstm", {"hidden_size": 384}, 1_900_481),
        ("char_lstm", {"hidden_size": 512, "num_layers": 1}, 1_219_137),
        ("char_lstm", {"hidden_size": 512}, 3_320_385),
        ("char_lstm", {"hidden_size": 512, "num_layers": 3}, 5_421_633),
    ],
)
def test_counts_of_other_widths(name, model_args, params):
    assert count(name, **model_args) == params


@pytest.mark.parametrize(
    ("name", "one_hot", "others"),
    [("char_rnn", 65 * 100, 16_500), ("char_lstm", 65 * 512, 204_928)],
)
def test_products_of_a_character(name, one_hot, others):
    """The same at every place: those of a look-up, and the product with a one-hot
    vector.
    """
    with torch.device("meta"):
        model = zoo.create(name)
    long, short = (
        zoo.profile(model, inputs=torch.zeros(1, length, dtype=torch.long)).macs
        for length in (31, 30)
    )
    assert long - short == one_hot + others
    assert short == 30 * (one_hot + others)


def test_the_gist_begins_with_small_weights():
    model = zoo.create("char_rnn")
    assert not model.rnn.bias_ih_l0.any()
    assert not model.head.bias.any()
    for weight in (model.rnn.weight_ih_l0, model.rnn.weight_hh_l0, model.head.weight):
        assert weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_char_rnn_begins_evenly_and_remembers():
    model = zoo.create("char_lstm")
    forget = slice(128, 256)
    for layer in (0, 1):
        first, second = (getattr(model.rnn, f"bias_{kind}_l{layer}") for kind in ("ih", "hh"))
        assert (first[forget] == 1).all()
        assert second[forget].abs().max() <= 0.08
        assert second[forget].std() > 0.03
    for parameter in model.parameters():
        rest = parameter[parameter != 1]
        assert 0.07 < rest.abs().max() <= 0.08
        assert rest.std().item() == pytest.approx(0.16 / math.sqrt(12), rel=0.15)


@pytest.mark.parametrize("name", ["char_rnn", "char_lstm"])
def test_one_bias_is_torchs_layer_with_a_second_one_of_zero(name):
    one, two = zoo.create(name, biases=1).eval(), zoo.create(name, biases=2).eval()
    assert {key for key, _ in one.named_buffers()} == {
        key for key, _ in two.named_parameters() if ".bias_hh" in key
    }
    two.load_state_dict(one.state_dict())
    assert not two.rnn.bias_hh_l0.any()
    tokens = torch.randint(65, (2, 9))
    assert torch.equal(one(tokens).logits, two(tokens).logits)
    for again in (copy.deepcopy(one), one.double()):  # the fused layer sees its own numbers
        again.rnn.bias_ih_l0.data += 1
        again.rnn.bias_hh_l0 += 1
        two.to(again.head.weight.dtype).load_state_dict(again.state_dict())
        assert torch.equal(again(tokens).logits, two(tokens).logits)


def test_dropout_is_between_layers_and_after_the_last_one():
    torch.manual_seed(0)
    model = zoo.create("char_lstm", drop_rate=0.5, num_layers=1).train()
    tokens = torch.randint(65, (2, 20))
    seen = []
    model.head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(tokens)
    assert 0.3 < (seen[0] == 0).float().mean() < 0.7
    assert (model.rnn.dropout, zoo.create("char_lstm", drop_rate=0.5).rnn.dropout) == (0.0, 0.5)
    model.eval()(tokens)
    assert seen[1].all()


@pytest.mark.parametrize("name", ["char_rnn", "char_lstm"])
@torch.no_grad()
def test_what_decodes(name):
    """A prompt, then token after token, is the whole text at once; rows of a state can
    be chosen.
    """
    model = zoo.create(name, weight_init="uniform").eval()
    assert isinstance(model, LanguageModel)
    tokens = torch.randint(65, (3, 8))
    whole = model(tokens).logits
    logits, state = model.start(model.encode(tokens[:, :5]))
    torch.testing.assert_close(logits, whole[:, 4])
    logits, state = model.step(tokens[:, 5], state)
    torch.testing.assert_close(logits, whole[:, 5])
    rows = torch.tensor([2, 0, 2])
    logits, _ = model.step(tokens[rows, 6], model.select(state, rows))
    torch.testing.assert_close(logits, whole[rows, 6])
    further = model.decode(model.encode(tokens[:, :5]), tokens[:, 5:])
    torch.testing.assert_close(further, whole[:, 4:-1])


@torch.no_grad()
def test_without_a_prompt_the_first_token_is_given():
    model = zoo.create("char_lstm").eval()
    logits, state = model.start(model.encode(torch.zeros(2, 0, dtype=torch.long)))
    assert logits is None
    tokens = torch.randint(65, (2, 3))
    found, _ = model.step(tokens[:, 0], state)
    torch.testing.assert_close(found, model(tokens).logits[:, 0])


def test_beams_and_samples():
    """Of an untrained network in double precision: a beam of one, the likeliest letter
    at each step, and the whole of a beam as wide as all texts.
    """
    model = zoo.create("char_lstm", vocab_size=4, hidden_size=8).double().eval()
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -2, 2)
    with torch.no_grad():
        memory = model.encode(torch.tensor([[1, 2], [3, 0]]))
    greedy = sample(model, memory, end=0, max_length=6, top_k=1)
    beam = beam_search(model, memory, end=0, width=1, max_length=6)
    assert torch.equal(greedy.tokens, beam.tokens)
    torch.testing.assert_close(greedy.scores, beam.scores)
    widest = beam_search(model, memory, end=0, width=64, max_length=4)
    assert (widest.scores >= beam_search(model, memory, end=0, max_length=4).scores).all()


def hello():
    """The lecture's network, trained until it spells the word."""
    torch.manual_seed(0)
    model = zoo.create("char_rnn", vocab_size=4, hidden_size=3)
    word = torch.tensor([[0, 1, 2, 2, 3]])
    optimizer = make_optimizer("adagrad", model.parameters(), 0.1)
    losses = []
    for _ in range(600):
        logits = model(word[:, :-1]).logits
        loss = F.cross_entropy(logits[0], word[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if torch.equal(logits.argmax(2), word[:, 1:]) and losses[-1] < 0.1:
            break
    return model.eval(), losses


def test_hello():
    """Three hidden units, 40 numbers: h, e, l, l to e, l, l, o, where the two l differ
    by the state alone.
    """
    model, losses = hello()
    assert sum(parameter.numel() for parameter in model.parameters()) == 40
    assert losses[0] == pytest.approx(math.log(4), abs=0.01)
    assert losses[-1] < 0.1
    assert continue_text(model, LETTERS, "h", length=4, top_k=1).text == "ello"
    with torch.no_grad():
        h_e_l_l = model(torch.tensor([[0, 1, 2, 2]])).logits.argmax(2)
        alone = model(torch.tensor([[2]])).logits
    assert "".join(LETTERS[i] for i in h_e_l_l[0]) == "ello"
    assert not torch.allclose(alone[0, 0], model(torch.tensor([[0, 1, 2, 2]])).logits[0, 3])


@pytest.mark.parametrize(
    ("model_args", "message"),
    [
        ({"cell": "gru"}, "CharRNN: cell='gru': expected 'rnn' or 'lstm'"),
        ({"biases": 0}, "CharRNN: biases=0: expected 1 or 2"),
        ({"weight_init": "zero"}, "weight_init='zero': expected 'normal' or 'uniform'"),
        ({"hidden_size": 0}, "hidden_size=0, num_layers=2: need whole numbers from 1 on"),
    ],
)
def test_wrong_arguments(model_args, message):
    with pytest.raises(InputError, match=message):
        zoo.create("char_lstm", **model_args)


def test_in_the_tables():
    assert zoo.list_models(task="language") == ["char_lstm", "char_rnn", "min_char_rnn"]
    assert zoo.info("char_lstm").variant.describe_inputs() == "50 tokens of 65"
    assert zoo.verify("char_lstm").ok
    rows = {row.name: row for row in zoo.compare(["char_rnn", "char_lstm"]).rows}
    assert rows["char_lstm"].params == 240_321
    assert zoo.memory("char_lstm", 50, optimizer="rmsprop").peak > 0
    with pytest.raises(UsageError, match="char_lstm takes no images but 50 tokens of 65"):
        zoo.transforms("char_lstm")

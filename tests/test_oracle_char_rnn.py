"""char_rnn and char_lstm against a plain second implementation: column vectors, a
table look-up for each character, a gate at a time, in double precision.
"""

import pytest
import torch
from oracle import TOLERANCE

import zoo

CASES = {
    "char_rnn": {},
    "min_char_rnn": {},
    "char_rnn, two layers": {"num_layers": 2, "hidden_size": 20, "biases": 2},
    "char_lstm": {},
    "char_lstm, one bias": {"biases": 1},
    "char_lstm, three layers": {"num_layers": 3, "hidden_size": 20},
    "char_lstm, four letters": {"vocab_size": 4, "hidden_size": 3, "num_layers": 1},
}


def plain(state, cell, layers, texts):
    """Scores of every position of each text, one text after the other."""

    def numbers(name, layer):
        return state[f"rnn.{name}_l{layer}"].double()

    def sigma(a):
        return 1 / (1 + (-a).exp())

    def step(layer, looked_up, h, c):
        a = looked_up + numbers("bias_ih", layer) + numbers("bias_hh", layer)
        a = a + numbers("weight_hh", layer) @ h
        if cell == "rnn":
            return a.tanh(), c
        size = len(h)
        i, f = sigma(a[:size]), sigma(a[size : 2 * size])
        g, o = a[2 * size : 3 * size].tanh(), sigma(a[3 * size :])
        c = f * c + i * g
        return o * c.tanh(), c

    found = []
    for text in texts:
        size = state["rnn.weight_hh_l0"].shape[1]
        h = [torch.zeros(size, dtype=torch.double) for _ in range(layers)]
        c = [torch.zeros(size, dtype=torch.double) for _ in range(layers)]
        for character in text.tolist():
            x = numbers("weight_ih", 0)[:, character]
            for layer in range(layers):
                if layer:
                    x = numbers("weight_ih", layer) @ h[layer - 1]
                h[layer], c[layer] = step(layer, x, h[layer], c[layer])
            found.append(state["head.weight"].double() @ h[-1] + state["head.bias"].double())
    return torch.stack(found).view(len(texts), -1, len(state["head.bias"]))


@torch.no_grad()
def drawn(name):
    """A network with numbers drawn anew, logits of spread one, and texts."""
    model = zoo.create(name.partition(",")[0], **CASES[name])
    for parameter in model.parameters():
        parameter.uniform_(-0.5, 0.5)
    texts = torch.randint(model.vocab_size, (3, 12))
    spread = model.eval()(texts).logits.std()
    model.head.weight /= spread
    model.head.bias /= spread
    cell = "lstm" if isinstance(model.rnn, torch.nn.LSTM) else "rnn"
    return model, plain(model.state_dict(), cell, model.rnn.num_layers, texts), texts


def error(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.std()).item()


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", CASES)
def test_full_logits(name, training):
    model, theirs, texts = drawn(name)
    assert error(model.train(training)(texts).logits, theirs) < TOLERANCE


@pytest.mark.parametrize("name", ["char_rnn", "char_lstm, three layers"])
def test_the_state_goes_on(name):
    """In windows, and one character after the other."""
    model, theirs, texts = drawn(name)
    for lengths in ((5, 4, 3), (1,) * 12):
        state, outputs = None, []
        for window in texts.split(lengths, 1):
            logits, state = model(window, state)
            outputs.append(logits)
        assert error(torch.cat(outputs, 1), theirs) < TOLERANCE


def exchange_gates(model):
    """The order of char-rnn's own files: i, f, o, g."""
    for key, value in model.rnn.state_dict().items():
        i, f, g, o = value.chunk(4)
        model.rnn.state_dict()[key].copy_(torch.cat([i, f, o, g]))


def lose_second_bias(model):
    model.rnn.bias_hh_l1.zero_()


def lose_head_bias(model):
    model.head.bias.zero_()


def upside_down(model):
    """The first character's row for the last one, and so on."""
    model.rnn.weight_ih_l0.copy_(model.rnn.weight_ih_l0.flip(1))


@pytest.mark.parametrize("mutate", [exchange_gates, lose_second_bias, lose_head_bias, upside_down])
@torch.no_grad()
def test_the_oracle_sees_mistakes(mutate):
    model, theirs, texts = drawn("char_lstm")
    mutate(model)
    assert error(model(texts).logits, theirs) > 10 * TOLERANCE


@torch.no_grad()
def test_the_oracle_sees_a_lost_state():
    model, theirs, texts = drawn("char_lstm")
    first = model(texts[:, :6]).logits
    assert error(torch.cat([first, model(texts[:, 6:]).logits], 1), theirs) > 10 * TOLERANCE

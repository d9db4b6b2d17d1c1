"""The captioners against second implementations that were written from the sheets
alone, with the same weights, in float64; and that these see what is wrong.
"""

import oracle_captioners as plain
import pytest
import torch

import zoo
from zoo.spec import PAD

SENTENCES = ((3, 7, 5, 0), (4, 0), (9, 8, 6, 5, 3, 0))  # of Show, Attend and Tell: 0 ends
WIDTHS = {"vocab_size": 12, "word_width": 6, "width": 5}


def padded(sentences):
    longest = max(map(len, sentences))
    return torch.tensor([[*each, *[PAD] * (longest - len(each))] for each in sentences])


def build(name, **changes):
    """A small network in float64, every number drawn anew, biases too."""
    torch.manual_seed(1)
    model = zoo.create(name, encoder="squeezenet1_0:features", **changes).double().eval()
    for key, parameter in model.named_parameters():
        if not key.startswith("encoder."):
            parameter.data.normal_(std=0.5)
    return model


# -------------------------------------------------------------- Show, Attend and Tell


def attend(layers):
    torch.manual_seed(1)
    args = {**WIDTHS, "attention_width": 512, "attention_layers": layers, "start_layers": layers}
    return build("show_attend_tell", **args)


def weights_of_attend(model):
    """Ours under the names of the sheet."""
    own = dict(model.named_parameters())
    width = model.recurrent.in_features
    found = {"E": own["embedding.weight"]}
    first = [layer for layer in model.start_hidden if hasattr(layer, "weight")]
    for number, layer in enumerate(first, 1):
        found |= {f"W_init{number}": layer.weight, f"b_init{number}": layer.bias}
    for part, rows in (("c", slice(None, width)), ("h", slice(width, None))):
        found[f"W_init_{part}"] = own["start_state.weight"][rows]
        found[f"b_init_{part}"] = own["start_state.bias"][rows]
    keys = [layer for layer in model.attention.keys if hasattr(layer, "weight")]
    found |= {"W_c": keys[0].weight, "b_att": keys[0].bias}
    for number, layer in enumerate(keys[1:], 1):
        found |= {f"W_{number}": layer.weight, f"b_{number}": layer.bias}
    found |= {"W_d": own["attention.query.weight"], "v": own["attention.score.weight"][0]}
    found |= {"b_v": own["attention.score.bias"][0], "w_beta": own["attention.gate.weight"][0]}
    found["b_beta"] = own["attention.gate.bias"][0]
    words = model.embedding.embedding_dim
    for number, gate in enumerate("ifog"):
        rows = slice(number * width, (number + 1) * width)
        found[f"W_{gate}"] = own["lstm.weight"][rows, :words]
        found[f"Z_{gate}"] = own["lstm.weight"][rows, words:]
        found[f"U_{gate}"] = own["recurrent.weight"][rows]
        found[f"b_{gate}"] = own["lstm.bias"][rows]
    found |= {"L_h": own["out_hidden.weight"], "b_Lh": own["out_hidden.bias"]}
    found |= {"L_z": own["out_context.weight"], "b_Lz": own["out_context.bias"]}
    found |= {"L_o": own["head.weight"], "b_Lo": own["head.bias"]}
    return {name: tensor.detach() for name, tensor in found.items()}


@pytest.fixture(params=[1, 2], ids=["one layer", "two layers"])
def attending(request):
    model = attend(request.param)
    places = torch.randn(3, 512, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        outputs = model(places, padded(SENTENCES), encoded=True)
    return model, places.flatten(2).transpose(1, 2), outputs


def test_show_attend_tell(attending):
    """Its logits and its attention, and the loss of the sheet."""
    model, places, outputs = attending
    w = weights_of_attend(model)
    layers = len([layer for layer in model.attention.keys if hasattr(layer, "weight")])
    shapes = plain.show_attend_tell_shapes(
        K=12, m=6, n=5, D=512, A=512, n_init=layers, n_att=layers
    )
    assert {name: tuple(tensor.shape) for name, tensor in w.items()} == shapes
    expected = []
    for row, sentence in enumerate(SENTENCES):
        logits, attention = plain.show_attend_tell(w, places[row], sentence)
        torch.testing.assert_close(outputs.logits[row, : len(sentence)], logits)
        torch.testing.assert_close(outputs.attention[row, : len(sentence)], attention)
        expected.append((logits, attention, sentence))
    loss = zoo.registry.family("show_attend_tell").loss
    mean, count = loss(outputs, (None, padded(SENTENCES)), model)
    torch.testing.assert_close(mean * count / 3, plain.show_attend_tell_loss(expected))


@pytest.mark.parametrize("name", ["W_d", "b_beta", "Z_f", "b_Lz", "W_init_c", "v", "U_o"])
def test_the_oracle_of_attention_sees(name, attending):
    """A thousandth more in one matrix changes what it says."""
    model, places, outputs = attending
    w = weights_of_attend(model)
    w[name] = 1.001 * w[name]
    logits, _ = plain.show_attend_tell(w, places[2], SENTENCES[2])
    assert (outputs.logits[2] - logits).abs().max() > 1e-10


# ---------------------------------------------------------------------- Show and Tell


def weights_of_tell(model, tf):
    own = dict(model.named_parameters())
    suffix = "_l0" if tf else ""
    found = {"W_image": own["image_embedding.weight"], "W_e": own["embedding.weight"]}
    for number, gate in enumerate("ifgo"):
        rows = slice(number * model.width, (number + 1) * model.width)
        found[f"W_x_{gate}"] = own[f"lstm.weight_ih{suffix}"][rows]
        found[f"W_m_{gate}"] = own[f"lstm.weight_hh{suffix}"][rows]
        if tf:
            found[f"b_{gate}"] = own["lstm.bias_ih_l0"][rows]
    found["W_p"] = own["head.weight"]
    if tf:
        found["b_p"] = own["head.bias"]
    return {name: tensor.detach() for name, tensor in found.items()}


@pytest.mark.parametrize("tf", [False, True], ids=["show_and_tell", "show_and_tell_tf"])
def test_show_and_tell(tf):
    name = "show_and_tell_tf" if tf else "show_and_tell"
    model = build(name, vocab_size=12, width=6)
    sentences = ((3, 7, 5, 1), (4, 1), (9, 8, 6, 5, 3, 1))
    vectors = torch.randn(3, 512, dtype=torch.float64)
    with torch.no_grad():
        outputs = model(vectors, padded(sentences), encoded=True)
    w = weights_of_tell(model, tf)
    shapes = (plain.show_and_tell_tf_shapes if tf else plain.show_and_tell_shapes)(
        V=12, E=6, H=6, D=512
    )
    assert {key: tuple(tensor.shape) for key, tensor in w.items()} == shapes
    pairs = []
    for row, sentence in enumerate(sentences):
        logits = plain.show_and_tell(w, vectors[row], sentence, start=0, tf=tf)
        torch.testing.assert_close(outputs[row, : len(sentence)], logits)
        pairs.append((logits, sentence))
    from zoo.interfaces.decoder import token_loss

    mean, count = token_loss(outputs, padded(sentences))
    torch.testing.assert_close(mean, plain.token_mean_loss(pairs))
    torch.testing.assert_close(mean * count / 3, plain.caption_loss(pairs))
    for key in w:
        wrong = {**w, key: 1.001 * w[key]}
        logits = plain.show_and_tell(wrong, vectors[2], sentences[2], start=0, tf=tf)
        assert (outputs[2] - logits).abs().max() > 1e-9, key
    other = plain.show_and_tell(w, vectors[2], sentences[2], start=2, tf=tf)
    assert (outputs[2] - other).abs().max() > 1e-6, "another start"

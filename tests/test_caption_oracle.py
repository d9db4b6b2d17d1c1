"""The captioners' oracle is held to the papers' counts, which follow from its shapes,
and to torch's own LSTM cell where that is the same function.
"""

import pytest
import torch
from oracle_captioners import (
    caption_loss,
    count,
    drawn,
    log_p,
    lrcn,
    lrcn_shapes,
    neuraltalk,
    neuraltalk_lstm,
    neuraltalk_lstm_shapes,
    neuraltalk_shapes,
    show_and_tell,
    show_and_tell_shapes,
    show_and_tell_tf_shapes,
    show_attend_tell,
    show_attend_tell_hard_loss,
    show_attend_tell_loss,
    show_attend_tell_shapes,
    token_mean_loss,
)
from torch import nn

COCO = {"K": 10_000, "m": 512, "n": 1800, "D": 512, "A": 512, "n_init": 2, "n_att": 2}
FLICKR = {"K": 2_540, "m": 512, "n": 512, "D": 512, "A": 512, "n_init": 2}
BARE = {"K": 10_000, "m": 100, "n": 1000, "D": 512, "A": 512, "n_init": 2, "n_att": 2}
NO_GATE = {"gate": False, "context_to_output": False}
WIDTHS = {"E": 512, "H": 512}
TOKENS = [3, 2, 4, 1, 0]


@pytest.mark.parametrize(
    ("shapes", "parameters"),
    [
        (show_attend_tell_shapes(**COCO), 35_333_450),
        (show_attend_tell_shapes(**{**COCO, "n": 1000}), 21_452_650),
        (show_attend_tell_shapes(**FLICKR), 7_590_382),
        (show_attend_tell_shapes(**{**FLICKR, "m": 256}), 5_502_958),
        (show_attend_tell_shapes(**{**FLICKR, "m": 256, "n_init": 1}), 5_240_302),
        (show_attend_tell_shapes(**{**BARE, "n_init": 1, "n_att": 1}, **NO_GATE), 10_363_269),
        (show_and_tell_tf_shapes(V=12_000, D=2048, **WIDTHS), 15_447_776),
        (show_and_tell_tf_shapes(V=2_540, D=512, **WIDTHS), 4_964_844),
        (show_and_tell_shapes(V=2_540, D=1024, **WIDTHS), 5_222_400),
        (neuraltalk_shapes(V=2_538, **WIDTHS), 5_225_451),
        (neuraltalk_shapes(V=8_791, **WIDTHS), 11_634_776),
        (neuraltalk_lstm_shapes(V=2_538, H=512), 6_799_339),
        (neuraltalk_lstm_shapes(V=8_791, H=512), 13_208_664),
        (lrcn_shapes("1u", K=8_801), 29_614_801),
        (lrcn_shapes("2u", K=8_801), 37_618_801),
        (lrcn_shapes("2f", K=8_801), 37_618_801),
        (lrcn_shapes("2f", K=8_801, fc7=4096), 37_618_801 + 4_097_000),
    ],
)
def test_counts(shapes, parameters):
    assert count(shapes) == parameters


def cell_of(w, names, *, forget_bias=0.0):
    """torch's LSTM cell with these matrices."""
    cell = nn.LSTMCell(sum(w[f"{name}_i"].shape[1] for name in names[:-1]), len(w["b_i"])).double()
    order = "ifgo"
    inputs = [torch.cat([w[f"{name}_{gate}"] for name in names[:-1]], 1) for gate in order]
    bias = torch.cat([w[f"b_{gate}"] + forget_bias * (gate == "f") for gate in order])
    state = {
        "weight_ih": torch.cat(inputs),
        "weight_hh": torch.cat([w[f"{names[-1]}_{gate}"] for gate in order]),
        "bias_ih": bias,
        "bias_hh": 0 * bias,
    }
    cell.load_state_dict(state)
    return cell


@torch.no_grad()
def test_show_attend_tell_is_torchs_cell_with_attention():
    w = drawn(show_attend_tell_shapes(K=6, m=4, n=5, D=3, A=7, n_init=2, n_att=2))
    torch.manual_seed(1)
    a = torch.randn(8, 3, dtype=torch.float64)
    logits, attention = show_attend_tell(w, a, TOKENS)
    assert logits.shape == (5, 6)
    assert torch.allclose(attention.sum(1), torch.ones(5).double())
    cell = cell_of(w, ("W", "Z", "U"))
    start = torch.relu(w["W_init1"] @ a.mean(0) + w["b_init1"])
    h, c = (torch.tanh(w[f"W_init_{part}"] @ start + w[f"b_init_{part}"]) for part in "hc")
    u = torch.tanh((a @ w["W_c"].T + w["b_att"]) @ w["W_1"].T + w["b_1"])
    words = torch.cat([torch.zeros(1, 4).double(), w["E"][TOKENS[:-1]]])
    for t, word in enumerate(words):
        alpha = (torch.tanh(u + w["W_d"] @ h) @ w["v"] + w["b_v"]).softmax(0)
        z = torch.sigmoid(h @ w["w_beta"] + w["b_beta"]) * (alpha @ a)
        h, c = cell(torch.cat([word, z]), (h, c))
        deep = word + w["L_h"] @ h + w["b_Lh"] + w["L_z"] @ z + w["b_Lz"]
        assert torch.allclose(logits[t], w["L_o"] @ torch.tanh(deep) + w["b_Lo"])
        assert torch.allclose(attention[t], alpha)


@torch.no_grad()
def test_show_and_tell_tf_is_torchs_cell():
    w = drawn(show_and_tell_tf_shapes(V=6, E=4, H=5, D=3))
    image = torch.randn(3, dtype=torch.float64)
    cell = cell_of(w, ("W_x", "W_m"), forget_bias=1.0)
    state = cell(w["W_image"] @ image)
    for logits, token in zip(
        show_and_tell(w, image, TOKENS, start=5, tf=True), [5, *TOKENS[:-1]], strict=True
    ):
        state = cell(w["W_e"][token], state)
        assert torch.allclose(logits, w["W_p"] @ state[0] + w["b_p"])


@torch.no_grad()
@pytest.mark.parametrize("form", ["1u", "2u", "2f"])
def test_lrcn_is_torchs_cells(form):
    w = drawn(lrcn_shapes(form, K=6, E=4, H=5, F=3, fc7=2))
    image = torch.randn(2, dtype=torch.float64)
    phi = w["W_fc8"] @ image + w["b_fc8"]
    seen = {"1u": [True], "2u": [True, False], "2f": [False, True]}[form]
    cells, states = [], [None] * len(seen)
    for number, static in enumerate(seen, 1):
        own = {name[2:]: each for name, each in w.items() if name.startswith(f"{number}.")}
        cells.append(cell_of(own, ("W_x", "W_s", "W_h") if static else ("W_x", "W_h")))
    for logits, token in zip(lrcn(w, image, TOKENS, form), [0, *TOKENS[:-1]], strict=True):
        x = w["W_emb"][token]
        for number, static in enumerate(seen):
            given = torch.cat([x, phi]) if static else x
            states[number] = cells[number](given, states[number])
            x = states[number][0]
        assert torch.allclose(logits, w["W_out"] @ x + w["b_out"])


@torch.no_grad()
def test_what_tells_the_forms_apart():
    """Each choice moves the logits, from the step on where it should."""
    image = torch.randn(3, dtype=torch.float64)
    w = drawn(show_and_tell_tf_shapes(V=6, E=4, H=5, D=3))
    forms = [show_and_tell(w, image, TOKENS, start=5, tf=tf) for tf in (True, False)]
    assert not torch.allclose(*forms)
    w = drawn(neuraltalk_shapes(V=5, E=4, H=5, D=3))
    once, always = (neuraltalk(w, image, TOKENS, feed_once=once) for once in (True, False))
    assert torch.equal(once[0], always[0])
    assert not torch.allclose(once[1], always[1])
    assert not torch.allclose(once, neuraltalk(w, image, TOKENS, relu_encoders=True))
    w = drawn(neuraltalk_lstm_shapes(V=5, H=5, D=3))
    plain, tanh = (neuraltalk_lstm(w, image, TOKENS, tanh_cell=tanh) for tanh in (False, True))
    assert not torch.allclose(plain[0], tanh[0])
    w = drawn(show_attend_tell_shapes(K=6, m=4, n=5, D=3, A=7))
    a = torch.randn(8, 3, dtype=torch.float64)
    soft, _ = show_attend_tell(w, a, TOKENS)
    hard, _ = show_attend_tell(w, a, TOKENS, locations=[0, 3, 1, 7, 2])
    assert not torch.allclose(soft[0], hard[0])
    other, _ = show_attend_tell(w, a, TOKENS, locations=[0, 3, 1, 7, 3])
    assert torch.equal(hard[:4], other[:4])
    assert not torch.allclose(hard[4], other[4])
    assert not torch.allclose(soft, show_attend_tell(w, a, TOKENS, word_to_output=False)[0])


def test_losses():
    torch.manual_seed(2)
    logits = [torch.randn(length, 6, dtype=torch.float64) for length in (5, 3)]
    tokens = [TOKENS, [2, 1, 0]]
    sums = [
        nn.functional.cross_entropy(each, torch.tensor(said), reduction="sum")
        for each, said in zip(logits, tokens, strict=True)
    ]
    pairs = list(zip(logits, tokens, strict=True))
    assert torch.allclose(caption_loss(pairs), sum(sums) / 2)
    assert torch.allclose(token_mean_loss(pairs, 20), 20 * sum(sums) / 8)
    attention = [torch.rand(length, 4, dtype=torch.float64).softmax(1) for length in (5, 3)]
    term = sum(((1 - each.sum(0)) ** 2).sum() for each in attention)
    found = show_attend_tell_loss(list(zip(logits, attention, tokens, strict=True)))
    assert torch.allclose(found, (sum(sums) + term) / 2)


def test_the_gradient_of_hard_attention():
    """Over all places that may be drawn: with the reward log p and the weights 1 and 0
    the mean of the gradient is that of the expected log p.
    """
    shapes = show_attend_tell_shapes(K=3, m=2, n=3, D=2, A=2)
    w = {name: each.requires_grad_() for name, each in drawn(shapes, 3, 1.0).items()}
    a = torch.randn(3, 2, dtype=torch.float64)
    tokens = [2, 0]
    expected = torch.zeros((), dtype=torch.float64)
    mean = dict.fromkeys(w, 0)
    for places in torch.cartesian_prod(torch.arange(3), torch.arange(3)).tolist():
        logits, attention = show_attend_tell(w, a, tokens, locations=places)
        share = torch.stack([row[place] for row, place in zip(attention, places, strict=True)])
        reward = log_p(logits, tokens).sum()
        expected = expected + share.prod() * reward
        loss = show_attend_tell_hard_loss(
            [(logits, attention, tokens, places)],
            [reward.item()],
            baseline=0.3,
            weight=1.0,
            entropy_weight=0.0,
        )
        grads = torch.autograd.grad(loss, list(w.values()), allow_unused=True, retain_graph=True)
        for name, grad in zip(w, grads, strict=True):
            if grad is not None:
                mean[name] = mean[name] - share.prod().item() * grad
    grads = torch.autograd.grad(expected, list(w.values()), allow_unused=True)
    for name, grad in zip(w, grads, strict=True):
        if grad is not None:
            assert torch.allclose(mean[name], grad), name

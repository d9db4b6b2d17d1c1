"""The oracle of the captioners: each network a second time, as plainly as its paper's
equations (and its authors' code, where the two differ) say it. One image, one sentence,
one word after the other, in double precision.

A function takes a dict of weights by the names of the equations, what the encoder gives
of one image, and the tokens (T,) of one sentence, its words and the end. It gives the
logits (T, V), each from the tokens before it. `*_shapes` say the names and the shapes;
matrices are (outputs, inputs), and each gate of an LSTM has its own: `W_i`, `W_f`,
`W_o`, `W_g`. A name that a network may lack is added by an argument of the shapes.

Gradients flow through all of it, so that losses can be compared by their gradients too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]
Weights = Mapping[str, Tensor]
GATES = "ifog"


def drawn(shapes: Shapes, seed: int = 0, scale: float = 0.5) -> dict[str, Tensor]:
    """Normal-distributed weights, biases too."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: scale * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def count(shapes: Shapes) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes.values())


def gates(name: str, shape: tuple[int, ...]) -> Shapes:
    return {f"{name}_{gate}": shape for gate in GATES}


def lstm(
    w: Weights,
    inputs: Mapping[str, Tensor],
    c: Tensor,
    *,
    forget_bias: float = 0.0,
    tanh_cell: bool = True,
) -> tuple[Tensor, Tensor]:
    """h and c after one step. `inputs`: the vector that each matrix takes, by its name
    without the gate; "b" names the bias, which is not multiplied.
    """
    sums = {}
    for gate in GATES:
        sums[gate] = torch.zeros_like(c)
        for name, x in inputs.items():
            sums[gate] = sums[gate] + w[f"{name}_{gate}"] @ x
        if f"b_{gate}" in w:
            sums[gate] = sums[gate] + w[f"b_{gate}"]
    i, o = torch.sigmoid(sums["i"]), torch.sigmoid(sums["o"])
    f = torch.sigmoid(sums["f"] + forget_bias)
    c = f * c + i * torch.tanh(sums["g"])
    return o * (torch.tanh(c) if tanh_cell else c), c


def log_p(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """(T,), of each token."""
    return torch.stack(
        [row[token] - torch.logsumexp(row, 0) for row, token in zip(logits, tokens, strict=True)]
    )


# ------------------------------------------------------ Show, Attend and Tell (Xu 2015)


def show_attend_tell_shapes(
    *,
    K: int,  # tokens; 0 is the end, 1 the unknown word
    m: int,  # embedding
    n: int,  # LSTM
    D: int,  # channels of the map
    A: int,  # attention; D in the authors' code
    n_init: int = 1,
    n_att: int = 1,
    gate: bool = True,  # `selector`
    context_to_output: bool = True,  # `ctx2out`
) -> Shapes:
    shapes: Shapes = {"E": (K, m)}
    for layer in range(1, n_init):  # ReLU, in front of the two tanh layers
        shapes |= {f"W_init{layer}": (D, D), f"b_init{layer}": (D,)}
    shapes |= {"W_init_h": (n, D), "b_init_h": (n,), "W_init_c": (n, D), "b_init_c": (n,)}
    shapes |= {"W_c": (A, D), "b_att": (A,), "W_d": (A, n), "v": (A,), "b_v": ()}
    for layer in range(1, n_att):  # tanh
        shapes |= {f"W_{layer}": (A, A), f"b_{layer}": (A,)}
    if gate:
        shapes |= {"w_beta": (n,), "b_beta": ()}
    shapes |= {**gates("W", (n, m)), **gates("U", (n, n)), **gates("Z", (n, D)), **gates("b", (n,))}
    shapes |= {"L_h": (m, n), "b_Lh": (m,), "L_o": (K, m), "b_Lo": (K,)}
    if context_to_output:
        shapes |= {"L_z": (m, D), "b_Lz": (m,)}
    return shapes


def show_attend_tell(
    w: Weights,
    a: Tensor,
    tokens: Sequence[int],
    *,
    locations: Sequence[int] | None = None,
    word_to_output: bool = True,  # `prev2out`
) -> tuple[Tensor, Tensor]:
    """Logits (T, K) and attention (T, L) for the map a (L, D). Soft attention, which is
    also the expectation of the stochastic one; with `locations` (T,) each step sees the
    location that was drawn and nothing else (hard attention). The gate, where there is
    one, multiplies either.
    """
    count = len(a)
    hidden = sum(a[i] for i in range(count)) / count
    layer = 1
    while f"W_init{layer}" in w:
        hidden = torch.relu(w[f"W_init{layer}"] @ hidden + w[f"b_init{layer}"])
        layer += 1
    h = torch.tanh(w["W_init_h"] @ hidden + w["b_init_h"])
    c = torch.tanh(w["W_init_c"] @ hidden + w["b_init_c"])
    u = []
    for i in range(count):
        u_i = w["W_c"] @ a[i] + w["b_att"]
        layer = 1
        while f"W_{layer}" in w:
            u_i = torch.tanh(w[f"W_{layer}"] @ u_i + w[f"b_{layer}"])
            layer += 1
        u.append(u_i)
    word = torch.zeros_like(w["E"][0])  # there is no start
    logits, attention = [], []
    for t, token in enumerate(tokens):
        query = w["W_d"] @ h  # of the step before
        e = torch.stack([w["v"] @ torch.tanh(u_i + query) + w["b_v"] for u_i in u])
        alpha = torch.exp(e) / torch.exp(e).sum()
        z = sum(alpha[i] * a[i] for i in range(count))
        if locations is not None:
            z = a[locations[t]]
        if "w_beta" in w:
            z = torch.sigmoid(w["w_beta"] @ h + w["b_beta"]) * z
        h, c = lstm(w, {"W": word, "U": h, "Z": z}, c)
        deep = w["L_h"] @ h + w["b_Lh"]
        if word_to_output:
            deep = deep + word
        if "L_z" in w:
            deep = deep + w["L_z"] @ z + w["b_Lz"]
        logits.append(w["L_o"] @ torch.tanh(deep) + w["b_Lo"])
        attention.append(alpha)
        word = w["E"][token]
    return torch.stack(logits), torch.stack(attention)


def show_attend_tell_loss(
    sentences: Sequence[tuple[Tensor, Tensor, Sequence[int]]], weight: float = 1.0
) -> Tensor:
    """Of (logits, attention, tokens) of each caption: -log p summed over its tokens,
    and `weight` times the doubly stochastic term, which is summed over locations; the
    mean over captions.
    """
    total = torch.zeros((), dtype=torch.float64)
    for logits, attention, tokens in sentences:
        total = total - log_p(logits, tokens).sum()
        for i in range(attention.shape[1]):
            total = total + weight * (1 - attention[:, i].sum()) ** 2
    return total / len(sentences)


def show_attend_tell_hard_loss(
    sentences: Sequence[tuple[Tensor, Tensor, Sequence[int], Sequence[int]]],
    rewards: Sequence[float],
    baseline: float,
    *,
    weight: float = 0.1,  # lambda_r
    entropy_weight: float = 0.002,  # lambda_e
) -> Tensor:
    """Of (logits, attention, tokens, locations) of each caption, with its reward, log
    p: a number whose gradient is the one that the paper ascends, with the sign turned.
    The mean over captions; there is no doubly stochastic term.
    """
    total = torch.zeros((), dtype=torch.float64)
    for (logits, attention, tokens, locations), reward in zip(sentences, rewards, strict=True):
        total = total - log_p(logits, tokens).sum()
        for alpha, location in zip(attention, locations, strict=True):
            total = total - weight * (reward - baseline) * torch.log(alpha[location])
            total = total + entropy_weight * (alpha * torch.log(alpha)).sum()
    return total / len(sentences)


def moving_baseline(before: float, reward: float) -> float:
    return 0.9 * before + 0.1 * reward


# --------------------------------------------------------- Show and Tell (Vinyals 2015)


def show_and_tell_shapes(*, V: int, E: int, H: int, D: int) -> Shapes:
    """The CVPR paper's: V counts all tokens, the start too; no biases."""
    shapes: Shapes = {"W_image": (E, D), "W_e": (V, E)}
    return {**shapes, **gates("W_x", (H, E)), **gates("W_m", (H, H)), "W_p": (V, H)}


def show_and_tell_tf_shapes(*, V: int, E: int, H: int, D: int) -> Shapes:
    """im2txt's: biases of the gates and of the output, none of the image."""
    shapes = show_and_tell_shapes(V=V, E=E, H=H, D=D)
    return {**shapes, **gates("b", (H,)), "b_p": (V,)}


def show_and_tell(
    w: Weights, image: Tensor, tokens: Sequence[int], *, start: int, tf: bool = False
) -> Tensor:
    """Logits (T, V) for the vector of the image (D,). The image is the first input and
    predicts nothing; then come the start and the words. `tf`: tanh of the cell, and 1
    added to the forget gate.
    """
    size = len(w["W_m_i"])
    m = c = torch.zeros(size, dtype=torch.float64)
    options = {"forget_bias": 1.0 if tf else 0.0, "tanh_cell": tf}
    m, c = lstm(w, {"W_x": w["W_image"] @ image, "W_m": m}, c, **options)
    logits = []
    for token in (start, *tokens[:-1]):
        m, c = lstm(w, {"W_x": w["W_e"][token], "W_m": m}, c, **options)
        logits.append(w["W_p"] @ m + (w["b_p"] if tf else 0))
    return torch.stack(logits)


def caption_loss(sentences: Sequence[tuple[Tensor, Sequence[int]]]) -> Tensor:
    """Of (logits, tokens): -log p summed over the tokens of a caption, the mean over
    captions. The CVPR paper of Show and Tell, and NeuralTalk.
    """
    return -sum(log_p(*sentence).sum() for sentence in sentences) / len(sentences)


def token_mean_loss(
    sentences: Sequence[tuple[Tensor, Sequence[int]]], weight: float = 1.0
) -> Tensor:
    """The mean over all tokens of the batch: im2txt; with weight 20 LRCN."""
    number = sum(len(tokens) for _, tokens in sentences)
    return -weight * sum(log_p(*sentence).sum() for sentence in sentences) / number


# -------------------------------------------------------- NeuralTalk (Karpathy 2015)


def neuraltalk_shapes(*, V: int, E: int, H: int, D: int = 4096, code: bool = True) -> Shapes:
    """The paper's RNN for V words: row 0 of W_s is the start, output 0 the end. `code`:
    also the biases b_hi and b_hx of the authors' encoders.
    """
    shapes: Shapes = {"W_hi": (H, D), "W_s": (V + 1, E), "W_hx": (H, E), "W_hh": (H, H)}
    shapes |= {"b_h": (H,), "W_oh": (V + 1, H), "b_o": (V + 1,)}
    return {**shapes, "b_hi": (H,), "b_hx": (H,)} if code else shapes


def neuraltalk(
    w: Weights,
    image: Tensor,
    tokens: Sequence[int],
    *,
    feed_once: bool = True,  # the code's default is every step
    relu_encoders: bool = False,
) -> Tensor:
    """Logits (T, V + 1)."""
    encode = torch.relu if relu_encoders else lambda x: x
    b_v = encode(w["W_hi"] @ image + w.get("b_hi", 0))
    h = torch.zeros_like(w["b_h"])
    logits = []
    for t, token in enumerate((0, *tokens[:-1])):
        x = encode(w["W_hx"] @ w["W_s"][token] + w.get("b_hx", 0))
        seen = b_v if t == 0 or not feed_once else torch.zeros_like(b_v)
        h = torch.relu(x + w["W_hh"] @ h + w["b_h"] + seen)
        logits.append(w["W_oh"] @ h + w["b_o"])
    return torch.stack(logits)


def neuraltalk_lstm_shapes(*, V: int, H: int, D: int = 4096) -> Shapes:
    """The code's default generator; its embedding is as wide as its LSTM."""
    shapes: Shapes = {"W_e": (H, D), "b_e": (H,), "W_s": (V + 1, H)}
    shapes |= {**gates("W_x", (H, H)), **gates("W_h", (H, H)), **gates("b", (H,))}
    return {**shapes, "W_d": (V + 1, H), "b_d": (V + 1,)}


def neuraltalk_lstm(
    w: Weights, image: Tensor, tokens: Sequence[int], *, tanh_cell: bool = False
) -> Tensor:
    """Logits (T, V + 1). The image's code is the first input, whose output is thrown
    away, then come the start, row 0 of W_s, and the words.
    """
    h = c = torch.zeros_like(w["b_i"])
    x = w["W_e"] @ image + w["b_e"]
    h, c = lstm(w, {"W_x": x, "W_h": h}, c, tanh_cell=tanh_cell)
    logits = []
    for token in (0, *tokens[:-1]):
        h, c = lstm(w, {"W_x": w["W_s"][token], "W_h": h}, c, tanh_cell=tanh_cell)
        logits.append(w["W_d"] @ h + w["b_d"])
    return torch.stack(logits)


# ------------------------------------------------------------------ LRCN (Donahue 2015)


def lrcn_shapes(
    form: str, *, K: int, E: int = 1000, H: int = 1000, F: int = 1000, fc7: int = 0
) -> Shapes:
    """`form` "1u", "2u" or "2f". K tokens, of which 0 is start and end. Names of a
    layer begin with its number: `1.W_x_i`. `fc7`: width of the features behind which
    the new fc8 stands, if it belongs to the network.
    """
    shapes: Shapes = {"W_fc8": (F, fc7), "b_fc8": (F,)} if fc7 else {}
    shapes |= {"W_emb": (K, E), "W_out": (K, H), "b_out": (K,)}
    for layer in range(1, int(form[0]) + 1):
        own = {**gates("W_x", (H, E if layer == 1 else H)), **gates("W_h", (H, H))}
        own |= gates("b", (H,))
        if layer == lrcn_static_layer(form):
            own |= gates("W_s", (H, F))
        shapes |= {f"{layer}.{name}": shape for name, shape in own.items()}
    return shapes


def lrcn_static_layer(form: str) -> int:
    """Which layer sees the image: the second one in the factored form."""
    return {"1u": 1, "2u": 1, "2f": 2}[form]


def lrcn(w: Weights, image: Tensor, tokens: Sequence[int], form: str) -> Tensor:
    """Logits (T, K). The image is a static input of one layer at every step."""
    phi = w["W_fc8"] @ image + w["b_fc8"] if "W_fc8" in w else image
    layers = []
    for layer in range(1, int(form[0]) + 1):
        prefix = f"{layer}."
        own = {name.removeprefix(prefix): each for name, each in w.items() if prefix in name}
        zero = torch.zeros_like(own["b_i"])
        layers.append([own, zero, zero])
    logits = []
    for token in (0, *tokens[:-1]):
        x = w["W_emb"][token]
        for number, layer in enumerate(layers, 1):
            own, h, c = layer
            inputs = {"W_x": x, "W_h": h}
            if number == lrcn_static_layer(form):
                inputs["W_s"] = phi
            x, c = lstm(own, inputs, c)
            layer[1:] = x, c
        logits.append(w["W_out"] @ x + w["b_out"])
    return torch.stack(logits)

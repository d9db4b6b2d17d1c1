"""Recurrent networks that read a text character by character and say which one is next.

A. Karpathy. The Unreasonable Effectiveness of Recurrent Neural Networks. 2015,
https://karpathy.github.io/2015/05/21/rnn-effectiveness/, with its two programs:
min-char-rnn.py (numpy, "the gist" below) and char-rnn (Torch). The stacked LSTM with
dropout only upwards: W. Zaremba, I. Sutskever, O. Vinyals. Recurrent Neural Network
Regularization. 2014, arXiv:1409.2329.

char_rnn is the gist's vanilla network, h = tanh(Wxh x + Whh h + bh), y = Why h + by,
for the 65 characters of Tiny Shakespeare; min_char_rnn is the same under the gist's
name. With `vocab_size=4, hidden_size=3` it is the example "hello" of the text, 40
parameters. char_lstm is the default of char-rnn, two LSTM layers of 128 units;
`hidden_size=512, drop_rate=0.5` is the network that the text describes.
`cell="rnn", num_layers=2, hidden_size=128, biases=2` is char-rnn's own vanilla
network.

Readings and departures
- A character is one-hot, and the first layer a matrix product with it, as in char-rnn;
  the gist looks its row up. The product is counted.
- Both matrices of a gate have a bias in char-rnn (`biases=2`), one in the gist and in
  other programs' files (`biases=1`); the other one is then a buffer of zeros.
- Gates lie in the order i, f, g, o, torch's; in char-rnn's files it is i, f, o, g.
- The shortened formulas of the text leave the biases out; both programs have them.
- char-rnn's GRU multiplies by the reset gate before its matrix, which torch's does not:
  it is left out here.
- Initialisation: the gist draws weights from a Gaussian of 0.01, biases 0; char-rnn
  draws all numbers from U(-0.08, 0.08), and the forget gates' first bias is 1.
- The state begins with zeros, at each pass over the text too, which char-rnn carries
  over from the text's end to its beginning.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.interfaces.language_model import LanguageModel, TextOutput
from zoo.layers import init
from zoo.layers.recurrent import reset_second_bias_, with_one_bias
from zoo.spec import Claims, Family, Paper, PrintedFigure, TokenInput, Variant

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM}


class State(NamedTuple):
    """(N, num_layers, hidden_size) each; a vanilla network has no `cell`."""

    hidden: Tensor
    cell: Tensor | None


class CharRNN(LanguageModel):
    """Recurrent layers on one-hot tokens, and a linear layer to the scores of the next:
    tokens (N, T) to logits (N, T, vocab_size).

    `cell`: "rnn" (tanh) or "lstm"; `biases`: per gate, 1 or 2; `drop_rate`: of the
    outputs of each layer, the last one too, never from step to step; `weight_init`:
    "normal", as the gist draws its weights, or "uniform", as char-rnn. Raises
    InputError for other values.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        num_layers: int = 2,
        cell: str = "lstm",
        biases: int = 2,
        drop_rate: float = 0.0,
        weight_init: str = "uniform",
    ) -> None:
        super().__init__()
        check_choice("CharRNN", "cell", cell, CELLS)
        check_choice("CharRNN", "biases", biases, (1, 2))
        check_choice("CharRNN", "weight_init", weight_init, ("normal", "uniform"))
        if min(vocab_size, hidden_size, num_layers) < 1:
            raise InputError(
                f"CharRNN: vocab_size={vocab_size}, hidden_size={hidden_size}, "
                f"num_layers={num_layers}: need whole numbers from 1 on"
            )
        self.vocab_size = vocab_size
        self.weight_init = weight_init
        between = drop_rate if num_layers > 1 else 0.0
        rnn = CELLS[cell](vocab_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.rnn = with_one_bias(rnn) if biases == 1 else rnn
        self.drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(hidden_size, vocab_size)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        for key, parameter in module.named_parameters(recurse=False):
            if self.weight_init == "uniform":
                init.uniform_(parameter, 0.08)
            elif parameter.ndim == 1:
                init.constant_(parameter, 0)
            else:
                init.normal_(parameter, 0.01)
            if key.startswith("bias_ih") and isinstance(module, nn.LSTM):
                init.constant_(parameter[module.hidden_size : 2 * module.hidden_size], 1)
        if isinstance(module, nn.RNNBase):
            reset_second_bias_(module)

    def forward(self, tokens: Tensor, state: Any = None) -> TextOutput:  # type: ignore[override]
        x = F.one_hot(tokens, self.vocab_size).to(self.head.weight.dtype)  # (N, T, V)
        x, carried = self.rnn(x, None if state is None else _by_layer(state))  # (N, T, hidden)
        return TextOutput(self.head(self.drop(x)), _by_text(carried))  # (N, T, V)


def _by_layer(state: Any) -> Any:
    """A state as torch's layers take it: (num_layers, N, hidden_size)."""
    hidden, cell = (None if part is None else part.transpose(0, 1).contiguous() for part in state)
    return hidden if cell is None else (hidden, cell)


def _by_text(carried: Any) -> State:
    hidden, cell = carried if isinstance(carried, tuple) else (carried, None)
    return State(hidden.transpose(0, 1), None if cell is None else cell.transpose(0, 1))


def larger(hidden_size: int) -> Callable[[CharRNN], int]:
    """The parameters of the same network with other widths."""

    def count(model: CharRNN) -> int:
        with torch.device("meta"):
            other = CharRNN(model.vocab_size, hidden_size)
        return sum(parameter.numel() for parameter in other.parameters())

    return count


README = PrintedFigure(
    "params", 150e3, "char-rnn's README", resolution=1e4,
    reason="of other defaults than the two layers of 128 that it names",
)  # fmt: skip
DESCRIBED = PrintedFigure(
    "params with hidden_size=512", 3.5e6, "text, example of 1 MB", resolution=1e5,
    compute=larger(512), reason="the alphabet of that text is larger than 65, and not stated",
)  # fmt: skip
# fmt: off
GIST = Variant(
    model_args={"vocab_size": 65, "hidden_size": 100, "num_layers": 1, "cell": "rnn", "biases": 1, "weight_init": "normal"},
    claims=Claims(params=23_165, macs=25 * 23_000),
    depth=2,
    inputs=(TokenInput(65, 25),),
    task="language",
    note="the vanilla network of min-char-rnn.py; 65 characters, windows of 25",
)
FAMILY = Family(
    paper=Paper(
        title="The Unreasonable Effectiveness of Recurrent Neural Networks",
        authors="A. Karpathy",
        year=2015,
        venue="karpathy.github.io",
    ),
    build=CharRNN,
    variants={
        "char_rnn": GIST,
        "min_char_rnn": replace(GIST, note="char_rnn, by the name of its program"),
        "char_lstm": Variant(
            model_args={"vocab_size": 65, "hidden_size": 128},
            claims=Claims(params=240_321, macs=50 * 238_208, printed=(README, DESCRIBED)),
            depth=3,
            inputs=(TokenInput(65, 50),),
            task="language",
            note="the default of char-rnn; 65 characters, windows of 50",
        ),
    },
)

"""Show, Attend and Tell: at each word an LSTM looks at other places of the image.

K. Xu, J. Ba, R. Kiros, K. Cho, A. Courville, R. Salakhutdinov, R. Zemel, Y. Bengio.
Show, Attend and Tell: Neural Image Caption Generation with Visual Attention. ICML 2015,
arXiv:1502.03044. Encoder: section 3.1.1; LSTM and deep output: section 3.1.2; hard
attention: section 4.1; soft attention, the scalar gate and the doubly stochastic term:
section 4.2. Depths and widths of the COCO model: the authors' released code.

show_attend_tell is the soft, deterministic model as released for COCO: words of 512
numbers, an LSTM of 1,800, two layers for the initial state and in the attention.

Readings and departures
- The encoder is VGG-19 before its last pool, 14x14 places of 512 numbers;
  `encoder="googlenet:features.stage4"` takes other maps, 7x7 or any size.
- The first input is a vector of zeros, not a start symbol. Word 0 is the end, word 1
  stands for all unknown ones; the rows have 10,000 words.
- Released: a tanh before the last layer, which the paper's eq. 7 does not have; a ReLU
  in the initial state's first layer, tanh in its second; dropout 0.5 there, on the
  hidden state before the output, and on the tanh.
- The doubly stochastic term is a sum over the places, and its weight 1, as released; it
  sums the weights of the words and of the end.
- Square matrices begin orthogonal, recurrent ones in four blocks, the others Gaussian
  with 0.01; biases 0, those of the forget gates too.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.interfaces.decoder import Captioner, Unrolled, token_loss, unpadded
from zoo.interfaces.features import Encoder
from zoo.layers import init
from zoo.spec import (
    PAD,
    Backbone,
    Claims,
    Family,
    ImageInput,
    Paper,
    Result,
    Specials,
    TokenInput,
    Variant,
)

WORDS = 20  # tokens of the example that is counted


class Memory(NamedTuple):
    places: Tensor  # (N, L, D), what is looked at
    keys: Tensor  # (N, L, A), the part of the attention that is the same at each step


class State(NamedTuple):
    hidden: Tensor  # (N, H)
    cell: Tensor  # (N, H)
    places: Tensor  # (N, L, D)
    keys: Tensor  # (N, L, A)
    attention: Tensor  # (N, L), of the last step


class Outputs(NamedTuple):
    logits: Tensor  # (N, T, V), or (N, k, T, V)
    attention: Tensor  # (N, T, L), or (N, k, T, L)


class Products(NamedTuple):
    """The weights of a step, put together so that each of its inputs is multiplied
    once: by the gates', and the hidden state by the attention's too.
    """

    word: Tensor  # (4H, E)
    bias: Tensor  # (4H,)
    hidden: Tensor  # (A + 1 + 4H, H)
    context: Tensor  # (4H, D)

    def words(self, words: Tensor) -> Tensor:
        return nn.functional.linear(words, self.word, self.bias)


class Attention(nn.Module):
    """A multilayer perceptron that gives each place a weight, by what the LSTM has seen
    before (eqs. 4 to 6), and the gate of the context, a scalar (section 4.2.1).
    """

    def __init__(self, places: int, hidden: int, width: int, layers: int) -> None:
        super().__init__()
        self.keys = nn.Sequential(nn.Linear(places, width))
        for _ in range(layers - 1):
            self.keys.extend([nn.Linear(width, width), nn.Tanh()])
        self.query = nn.Linear(hidden, width, bias=False)
        self.score = nn.Linear(width, 1)
        self.gate = nn.Linear(hidden, 1)

    def forward(self, query: Tensor, gate: Tensor, state: State) -> tuple[Tensor, Tensor]:
        """The gated context (N, D) and the weights (N, L), from what `query` (N, A) and
        `gate` (N, 1) made of the state.
        """
        looked = torch.tanh(state.keys + query[:, None])  # (N, L, A)
        weights = self.score(looked).squeeze(2).softmax(1)  # (N, L)
        context = torch.bmm(weights[:, None], state.places).squeeze(1)  # (N, D)
        return (gate + self.gate.bias).sigmoid() * context, weights


class ShowAttendTell(Captioner):
    """Images (N, 3, H, W) and sentences (N, T) or (N, k, T), their words and the end,
    to Outputs.
    """

    specials = Specials(end=0, unknown=1)

    def __init__(
        self,
        encoder: Encoder,
        vocab_size: int,
        word_width: int = 512,
        width: int = 1800,
        *,
        attention_width: int | None = None,
        attention_layers: int = 2,
        start_layers: int = 2,
        drop_rate: float = 0.5,
        word_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        places = encoder.num_features
        self.encoder = encoder
        self.dropout = nn.Dropout(drop_rate)
        self.word_dropout = nn.Dropout(word_drop_rate)
        hidden: list[nn.Module] = []
        for _ in range(start_layers - 1):
            hidden += [nn.Linear(places, places), nn.ReLU(), nn.Dropout(drop_rate)]
        self.start_hidden = nn.Sequential(*hidden)
        self.start_state = nn.Linear(places, 2 * width)  # the cell, then what goes out
        self.attention = Attention(places, width, attention_width or places, attention_layers)
        self.embedding = nn.Embedding(vocab_size, word_width)
        self.lstm = nn.Linear(word_width + places, 4 * width)
        self.recurrent = nn.Linear(width, 4 * width, bias=False)
        self.out_hidden = nn.Linear(width, word_width)
        self.out_context = nn.Linear(places, word_width)
        self.head = nn.Linear(word_width, vocab_size)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        for key, parameter in module.named_parameters(recurse=False):
            if key == "bias":
                init.constant_(parameter, 0)
            elif name == "recurrent":
                for block in parameter.chunk(4):
                    init.orthogonal_(block)
            elif parameter.shape[0] == parameter.shape[1] and name != "attention.keys.0":
                init.orthogonal_(parameter)
            else:
                init.normal_(parameter, 0.01)

    def prepare(self, features: Tensor) -> Memory:
        """Of the encoder's maps (N, D, H, W)."""
        places = features.flatten(2).transpose(1, 2)  # (N, L, D)
        return Memory(places, self.attention.keys(places))

    def start(self, memory: Memory) -> tuple[Tensor, State]:
        words = memory.places.new_zeros(len(memory.places), self.embedding.embedding_dim)
        return self._said(words, self._begin(memory))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        return self._said(self.embedding(tokens), state)

    def decode(self, memory: Memory, tokens: Tensor) -> Outputs:
        """The LSTM step by step, the output layers for all steps at once."""
        sentences = tokens.flatten(0, -2)  # (N k, T)
        unrolled = Unrolled(sentences)
        order = unrolled.order
        state = self._begin(memory)
        state = self.select(state, order // (len(sentences) // len(memory.places)))
        words = self.word_dropout(self.embedding(unpadded(sentences[order, :-1])))
        words = nn.functional.pad(words, (0, 0, 1, 0))  # (N k, T, E), zeros first
        said = torch.cat([words[:count, time] for time, count in enumerate(unrolled.counts)])
        products = self._products()
        steps = []
        for given in torch.split(products.words(said), unrolled.counts):
            state = State(*(part[: len(given)] for part in state))
            hidden, context, state = self._next(given, state, products)
            steps.append((hidden, context, state.attention))
        hidden, context, weights = (torch.cat(part) for part in zip(*steps, strict=True))
        logits = unrolled.unpacked(self._output(said, hidden, context))  # (N k, T, V)
        looked = unrolled.unpacked(weights)  # (N k, T, L)
        return Outputs(logits.view(*tokens.shape, -1), looked.view(*tokens.shape, -1))

    def _begin(self, memory: Memory) -> State:
        """Before the first step, from the mean of the places (section 3.1.2)."""
        places, keys = memory
        mean = places.mean(1)  # (N, D)
        cell, hidden = self.start_state(self.start_hidden(mean)).tanh().chunk(2, 1)
        return State(hidden, cell, places, keys, places.new_zeros(places.shape[:2]))

    def _said(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        products = self._products()
        hidden, context, state = self._next(products.words(words), state, products)
        return self._output(words, hidden, context), state

    def _products(self) -> Products:
        attention, width = self.attention, self.embedding.embedding_dim
        hidden = (attention.query.weight, attention.gate.weight, self.recurrent.weight)
        return Products(self.lstm.weight[:, :width], self.lstm.bias, torch.cat(hidden),
                        self.lstm.weight[:, width:])  # fmt: skip

    def _next(
        self, words: Tensor, state: State, products: Products
    ) -> tuple[Tensor, Tensor, State]:
        """What goes out (N, H), what was looked at (N, D), and the state; `words`
        (N, 4H) is what they are to the gates.
        """
        from_hidden = nn.functional.linear(state.hidden, products.hidden)
        sizes = [self.attention.query.out_features, 1, words.shape[1]]
        query, gate, recurrent = torch.split(from_hidden, sizes, 1)
        context, weights = self.attention(query, gate, state)
        gates = torch.addmm(words + recurrent, context, products.context.t())  # (N, 4H)
        i, f, o, g = gates.chunk(4, 1)
        cell = f.sigmoid() * state.cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        return hidden, context, State(hidden, cell, state.places, state.keys, weights)

    def _output(self, words: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        """The deep output (eq. 7), of one step or of all: (…, V)."""
        mixed = words + self.out_hidden(self.dropout(hidden)) + self.out_context(context)
        return self.head(self.dropout(mixed.tanh()))


def attention_loss(outputs: Outputs, batch: Any, model: nn.Module) -> tuple[Tensor, Tensor]:
    """-log p of each token, and what the attention leaves out or repeats: the sum over
    the places of (1 - the sum of their weights)² (eq. 14), as the mean over the tokens.
    """
    mean, count = token_loss(outputs.logits, batch[1])
    looked = outputs.attention.sum(-2)  # (N, k, L)
    said = (batch[1] != PAD).any(-1)  # (N, k), no sentence that only fills up
    penalty = (((1 - looked) ** 2).sum(-1) * said).sum()
    return mean + penalty / count, count


PAPER = Paper(
    "Show, Attend and Tell: Neural Image Caption Generation with Visual Attention",
    "K. Xu, J. Ba, R. Kiros, K. Cho, A. Courville, R. Salakhutdinov, R. Zemel, Y. Bengio",
    2015,
    "ICML",
    arxiv="1502.03044",
)

RESULTS = tuple(
    Result(f"{metric} %", value, data, "no brevity penalty, no tokenising", "Table 1, soft")
    for data, values in {
        "Flickr8k": (67, 44.8, 29.9, 19.5, 18.93),
        "Flickr30k": (66.7, 43.4, 28.8, 19.1, 18.49),
        "COCO": (70.7, 49.2, 34.4, 24.3, 23.90),
    }.items()
    for metric, value in zip(
        ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR"), values, strict=True
    )
)
FAMILY = Family(
    paper=PAPER,
    build=ShowAttendTell,
    loss=attention_loss,
    variants={
        "show_attend_tell": Variant(
            model_args={"vocab_size": 10_000},
            claims=Claims(
                params=20_024_384 + 35_333_450,  # of the encoder, and of all else
                macs=19_508_428_800 + 104_865_792 + WORDS * 27_760_648,  # and of each word
            ),
            depth=16 + 6,
            inputs=(ImageInput(), TokenInput(10_000, WORDS)),
            task="caption",
            backbones={"encoder": Backbone("vgg19", output="features.stage5.relu4")},
            results=RESULTS,
            tiny={
                "encoder": "squeezenet1_0:features",
                "vocab_size": 12,
                "word_width": 8,
                "width": 8,
                "attention_width": 8,
            },
            note="soft attention",
        ),
    },
)

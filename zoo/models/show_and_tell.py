"""Show and Tell (NIC): an LSTM that is shown the image once and then says the sentence.

O. Vinyals, A. Toshev, S. Bengio, D. Erhan. Show and Tell: A Neural Image Caption
Generator. CVPR 2015, arXiv:1411.4555. The LSTM: section 3.1, eqs. 4 to 9; the image and
the words: eqs. 10 to 12. The same authors, Show and Tell: Lessons Learned from the 2015
MSCOCO Image Captioning Challenge. TPAMI 39(4), 2017, arXiv:1609.06647, whose released
code is im2txt.

show_and_tell is the network of the CVPR paper: no biases, and the cell goes out without
a tanh, m = o * c. show_and_tell_tf is that of im2txt, an ordinary LSTM with biases,
whose forget gates begin with 1 added. Both are shown the image before the first word,
as a vector of the width of the words, and it says nothing at that step.

Readings and departures
- The CVPR paper's encoder is the batch-normalised GoogLeNet, here BN-Inception before
  its classifier; im2txt's is Inception-v3. `encoder="googlenet"` takes another.
- The vocabulary is that of the data. The rows have 8,791 words of COCO that occur five
  times or more (Karpathy's count; the paper prints none) with start and end, and
  im2txt's 12,000. Words that are not in it are left out of a sentence; im2txt has a
  word for them.
- No initial range is printed: that of im2txt, U(-0.08, 0.08), biases 0. The 1 that is
  added to the forget gates is a buffer.
- Dropout on what goes into the LSTM and what comes out, the image's step included, 0.3
  in im2txt; the CVPR paper gives no rate, and 0.3 is taken too.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from zoo.interfaces.decoder import Captioner, Unrolled, unpadded
from zoo.interfaces.features import Encoder
from zoo.layers import init
from zoo.spec import (
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


class State(NamedTuple):
    hidden: Tensor  # (N, H)
    cell: Tensor  # (N, H)


class PlainLSTM(nn.Module):
    """The LSTM of the paper: no biases, and what goes out is o * c (eqs. 4 to 8).
    Gates in torch's order: input, forget, cell, output.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))

    def forward(self, x: Sequence[Tensor], state: State) -> tuple[Tensor, State]:
        """Steps (n, E), fewer rows in later ones, to all that goes out (P, H), one step
        after the other, and the last state.
        """
        counts = [len(step) for step in x]
        from_input = nn.functional.linear(torch.cat(list(x)), self.weight_ih)  # (P, 4H)
        outputs = []
        hidden, cell = state
        for count, given in zip(counts, torch.split(from_input, counts), strict=True):
            gates = torch.addmm(given, hidden[:count], self.weight_hh.t())  # (n, 4H)
            i, f, g, o = gates.chunk(4, 1)
            cell = f.sigmoid() * cell[:count] + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * cell
            outputs.append(hidden)
        return torch.cat(outputs), State(hidden, cell)


class BiasLSTM(nn.LSTM):
    """torch's LSTM with one bias vector, as papers count it; in place of the second a
    buffer that adds 1 to the forget gates, which never changes.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        del self.bias_hh_l0
        self.register_buffer("bias_hh_l0", torch.zeros(4 * hidden_size))
        self._init_flat_weights()

    def forward(  # type: ignore[override]
        self, x: Sequence[Tensor], state: State
    ) -> tuple[Tensor, State]:
        """As `PlainLSTM`."""
        counts = [len(step) for step in x]
        before = state.hidden[None, : counts[0]], state.cell[None, : counts[0]]
        if counts[0] == counts[-1]:
            output, after = super().forward(torch.stack(list(x)), before)  # (T, N, H)
            return output.flatten(0, 1), State(after[0][0], after[1][0])
        packed = PackedSequence(torch.cat(list(x)), torch.tensor(counts))
        packed, after = super().forward(packed, before)
        return packed.data, State(after[0][0], after[1][0])


class ShowAndTell(Captioner):
    """Images (N, 3, H, W) and sentences (N, T) or (N, k, T), their words and the end,
    to the logits of each token.
    """

    specials = Specials(start=0, end=1)

    def __init__(
        self,
        encoder: Encoder,
        vocab_size: int,
        width: int = 512,
        *,
        biases: bool = False,
        drop_rate: float = 0.3,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.width = width
        self.image_embedding = nn.Linear(encoder.num_features, width, bias=False)
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(drop_rate)
        self.lstm = (BiasLSTM if biases else PlainLSTM)(width, width)
        self.head = nn.Linear(width, vocab_size, bias=biases)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        for key, parameter in module.named_parameters(recurse=False):
            if key.startswith("bias"):
                init.constant_(parameter, 0)
            else:
                init.uniform_(parameter, 0.08)
        if isinstance(module, BiasLSTM):
            added = module.get_buffer("bias_hh_l0")
            init.constant_(added, 0)
            init.constant_(added[self.width : 2 * self.width], 1)

    def prepare(self, features: Tensor) -> Tensor:
        """Of the encoder's vectors (N, D)."""
        return self.image_embedding(features)  # (N, E)

    def start(self, memory: Tensor) -> tuple[Tensor, State]:
        """Two steps, of the image and of the start."""
        output, state = self.lstm(self._first(memory), self._zero(memory))
        return self.head(self.dropout(output[len(memory) :])), state  # (N, V)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        output, state = self.lstm([self.dropout(self.embedding(tokens))], state)
        return self.head(self.dropout(output)), state  # (N, V)

    def decode(self, memory: Tensor, tokens: Tensor) -> Tensor:
        """All steps at once: the image, the start, and the words but the last token."""
        sentences = tokens.flatten(0, -2)  # (N k, T)
        unrolled = Unrolled(sentences)
        order = unrolled.order
        images = memory[order // (len(sentences) // len(memory))]  # (N k, E)
        words = self.dropout(self.embedding(unpadded(sentences[order, :-1])))  # (N k, T - 1, E)
        first = unrolled.counts[0]
        steps = [*self._first(images[:first])]
        steps += [words[:count, time] for time, count in enumerate(unrolled.counts[1:])]
        output, _ = self.lstm(steps, self._zero(images))
        logits = self.head(self.dropout(output[first:]))  # (P, V)
        return unrolled.unpacked(logits).view(*tokens.shape, -1)

    def _first(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What goes in before the words: the image, the start, (N, E) each."""
        assert self.specials.start is not None
        start = self.embedding.weight[self.specials.start].expand(len(images), -1)
        return self.dropout(images), self.dropout(start)

    def _zero(self, like: Tensor) -> State:
        zero = like.new_zeros(len(like), self.width)
        return State(zero, zero)


PAPER = Paper(
    "Show and Tell: A Neural Image Caption Generator",
    "O. Vinyals, A. Toshev, S. Bengio, D. Erhan",
    2015,
    "CVPR",
    arxiv="1411.4555",
)

RESULTS = (
    Result("BLEU-1 %", 63, "Flickr8k test", "beam 20, one of several models", "Table 2"),
    Result("BLEU-4 %", 27.7, "COCO, 4,000 of val2014", "beam 20, one of several models", "Table 1"),
    Result("CIDEr %", 85.5, "COCO, 4,000 of val2014", "beam 20, one of several models", "Table 1"),
)
FAMILY = Family(
    paper=PAPER,
    build=ShowAndTell,
    variants={
        "show_and_tell": Variant(
            model_args={"vocab_size": 8_793},
            claims=Claims(
                params=10_169_984 + 11_625_472,  # of the encoder, and of all else
                macs=2_017_827_840 + 2_621_440 + WORDS * 6_599_168,  # and of each word
            ),
            depth=33 + 3,
            inputs=(ImageInput(), TokenInput(8_793, WORDS)),
            task="caption",
            backbones={"encoder": Backbone("bn_inception")},
            results=RESULTS,
            tiny={"encoder": "squeezenet1_0", "vocab_size": 12, "width": 8},
            note="the CVPR paper: no biases, no tanh on the cell",
        ),
        "show_and_tell_tf": Variant(
            model_args={"vocab_size": 12_000, "biases": True},
            claims=Claims(
                params=21_785_568 + 15_447_776, macs=5_711_168_096 + 3_145_728 + WORDS * 8_241_152
            ),
            depth=41 + 3,
            inputs=(ImageInput((3, 299, 299), min_size=75), TokenInput(12_000, WORDS)),
            task="caption",
            backbones={"encoder": Backbone("inception_v3")},
            tiny={"encoder": "squeezenet1_0", "vocab_size": 12, "width": 8, "biases": True},
            note="im2txt: biases, a forget bias of 1",
        ),
    },
)

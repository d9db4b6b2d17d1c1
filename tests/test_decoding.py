"""Beam search in float64 with small networks: against greedy decoding, against the
plain search of one image that the released code of Xu et al. (2015) makes, and against
all sentences that there are.
"""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
from torch import nn

from zoo.decoding.beam import beam_search
from zoo.errors import InputError
from zoo.inputs import PAD
from zoo.interfaces.decoder import Decoder
from zoo.layers import init

END = 0


class State(NamedTuple):
    hidden: torch.Tensor  # (N, width)


class Talker(Decoder):
    """A recurrent network; its memory (N, width) is where it starts."""

    def __init__(self, vocab_size=5, width=6, ending=0.0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.cell = nn.Linear(2 * width, width)
        self.head = nn.Linear(width, vocab_size)
        self.ending = ending  # how much likelier the end is
        self.rows = []  # of each step
        self.init_weights()
        self.double()

    def init_module(self, name, module):
        for parameter in module.parameters(recurse=False):
            init.normal_(parameter, 1.0)

    def start(self, memory):
        return self.logits(memory), State(memory)

    def step(self, tokens, state):
        self.rows.append(len(tokens))
        hidden = torch.tanh(self.cell(torch.cat([self.embedding(tokens), state.hidden], 1)))
        return self.logits(hidden), State(hidden)

    def logits(self, hidden):
        logits = self.head(hidden)
        return logits + self.ending * nn.functional.one_hot(torch.tensor(END), logits.shape[1])


class LookingState(NamedTuple):
    hidden: torch.Tensor  # (N, width)
    memory: torch.Tensor  # (N, L, width)
    attention: torch.Tensor  # (N, L)


class Looker(Talker):
    """The same with soft attention to its memory (N, L, width)."""

    def start(self, memory):
        return self.look(memory.mean(1), memory)

    def step(self, tokens, state):
        _, (hidden,) = super().step(tokens, state)
        return self.look(hidden, state.memory)

    def look(self, hidden, memory):
        attention = torch.einsum("nld,nd->nl", memory, hidden).softmax(1)
        seen = hidden + torch.einsum("nl,nld->nd", attention, memory)
        return self.logits(seen), LookingState(seen, memory, attention)


def talker(seed=0, count=7, **options):
    torch.manual_seed(seed)
    return Talker(**options), torch.randn(count, 6, dtype=torch.float64)


def looker(seed=0, count=7, **options):
    torch.manual_seed(seed)
    return Looker(**options), torch.randn(count, 4, 6, dtype=torch.float64)


BOTH = pytest.mark.parametrize("network", [talker, looker])


def words_of(sentences):
    return [[word for word in row if word != PAD] for row in sentences.tokens.tolist()]


@torch.no_grad()
def greedy(model, memory, max_length):
    """The likeliest word, again and again."""
    logits, state = model.start(memory)
    said = []
    for _ in range(max_length):
        word = logits.argmax(1)
        if word == END:
            break
        said.append(int(word))
        logits, state = model.step(word, state)
    return said


@torch.no_grad()
def plain_beam(model, memory, width, max_length, power=0.0):
    """One image, a list of hypotheses: as the released code searches."""
    logits, state = model.start(memory)
    live, ended = [((), 0.0, logits[0], state)], []
    for _ in range(max_length):
        found = [
            ((*words, word), score + gain, state)
            for words, score, logits, state in live
            for word, gain in enumerate(logits.log_softmax(0).tolist())
        ]
        found = sorted(found, key=lambda each: -each[1])[: width - len(ended)]
        ended += [each for each in found if each[0][-1] == END]
        live = []
        for words, score, before in found:
            if words[-1] != END:
                logits, state = model.step(torch.tensor([words[-1]]), before)
                live.append((words, score, logits[0], state))
        if not live:
            break
    whole = [each[:2] for each in (*ended, *live)]
    words, score = max(whole, key=lambda each: each[1] / len(each[0]) ** power)
    return [word for word in words if word != END], score


@torch.no_grad()
def best_of_all(model, memory, length, power):
    """Of all sentences of at most `length` tokens, the end included."""
    vocabulary = range(model.head.out_features)
    words = [word for word in vocabulary if word != END]
    whole = [
        (*begin, END) for size in range(length) for begin in itertools.product(words, repeat=size)
    ]
    whole += itertools.product(words, repeat=length)
    found = []
    for sentence in whole:
        log_p = model.decode(memory, torch.tensor([sentence])).log_softmax(2)[0]
        score = sum(log_p[place, word].item() for place, word in enumerate(sentence))
        found.append((sentence, score))
    sentence, score = max(found, key=lambda each: each[1] / len(each[0]) ** power)
    return [word for word in sentence if word != END], score


@BOTH
def test_width_1_is_greedy(network):
    lengths = set()
    for seed in range(5):
        model, memory = network(seed, count=8)
        found = words_of(beam_search(model, memory, end=END, width=1, max_length=6))
        assert found == [greedy(model, row[None], 6) for row in memory]
        lengths.update(map(len, found))
    assert {0, 6} < lengths, "nothing that ends at once, at the limit and between"


@BOTH
@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_a_width_that_holds_all_is_exhaustive(network, power):
    for seed, (vocab_size, length) in enumerate([(3, 4), (4, 3), (5, 2), (6, 1)]):
        model, memory = network(seed, count=5, vocab_size=vocab_size)
        width = vocab_size ** (length - 1)
        found = beam_search(
            model, memory, end=END, width=width, max_length=length, length_power=power
        )
        for row, words, score in zip(memory, words_of(found), found.scores, strict=True):
            assert (words, pytest.approx(score.item(), rel=1e-12)) == best_of_all(
                model, row[None], length, power
            )


@BOTH
@pytest.mark.parametrize("width", [2, 3, 5, 9])
@pytest.mark.parametrize("power", [0.0, 1.0])
def test_as_the_plain_search_of_one_image(network, width, power):
    """Finished hypotheses narrow the beam; a batch says what each row says alone."""
    differs_from_greedy = False
    for seed in range(6):
        model, memory = network(seed, ending=seed / 3 - 1)
        options = {"end": END, "width": width, "max_length": 7, "length_power": power}
        found = beam_search(model, memory, **options)
        for index, row in enumerate(memory):
            words, score = plain_beam(model, row[None], width, 7, power)
            assert words_of(found)[index] == words
            assert found.scores[index].item() == pytest.approx(score, rel=1e-12)
            alone = beam_search(model, row[None], **options)
            assert words_of(alone) == [words]
            assert torch.allclose(alone.scores, found.scores[index], rtol=1e-12)
            if alone.attention is not None:
                own = found.attention[index, : len(words)]
                assert torch.allclose(alone.attention[0], own, rtol=1e-12)
            differs_from_greedy |= words != greedy(model, row[None], 7)
    assert differs_from_greedy


class Tree(Decoder):
    """Says what a table of probabilities says, by the words before."""

    def __init__(self, table):
        super().__init__()
        self.table = {
            words: torch.tensor(shares, dtype=torch.float64).log()
            for words, shares in table.items()
        }
        self.asked = []

    def start(self, memory):
        return self.table[()].expand(len(memory), -1), State(memory.new_full((len(memory), 9), PAD))

    def step(self, tokens, state):
        said = state.hidden.long()
        rows = [
            (*(word for word in row if word != PAD), token)
            for row, token in zip(said.tolist(), tokens.tolist(), strict=True)
        ]
        self.asked.append(rows)
        padded = [[*row, *[PAD] * (9 - len(row))] for row in rows]
        equal = torch.ones(len(self.table[()]), dtype=torch.float64).log_softmax(0)
        return torch.stack([self.table.get(row, equal) for row in rows]), State(
            torch.tensor(padded, dtype=torch.float64)
        )


def test_a_finished_hypothesis_narrows_the_beam():
    """Width 2: the end is the second best first word, so that only one hypothesis goes
    on, and the third best word, which ends well, is never said.
    """
    tree = Tree({
        (): [0.35, 0.36, 0.29],  # END, 1, 2
        (1,): [0.3, 0.4, 0.3],
        (1, 1): [1.0, 0.0, 0.0],
        (2,): [0.0, 0.0, 1.0],
        (2, 2): [1.0, 0.0, 0.0],
    })  # fmt: skip
    memory = torch.zeros(1, 1)
    found = beam_search(tree, memory, end=END, width=2, max_length=5)
    assert words_of(found) == [[]], "a wider one would find 2 2, of 0.29"
    assert found.scores.item() == pytest.approx(math.log(0.35))
    assert {row for rows in tree.asked for row in rows[:1]} == {(1,)}, "2 left the beam"
    found = beam_search(tree, memory, end=END, width=3, max_length=5, length_power=1.0)
    assert words_of(found) == [[2, 2]], "by the mean of three tokens"
    assert found.scores.item() == pytest.approx(math.log(0.29)), "the score stays the sum"


def test_two_that_finish_at_once_narrow_it_by_two():
    tree = Tree({
        (): [0.0, 0.35, 0.33, 0.32],
        (1,): [0.9, 0.1, 0.0, 0.0],
        (2,): [0.9, 0.1, 0.0, 0.0],
        (3,): [0.0, 0.5, 0.5, 0.0],
        (3, 1): [0.0, 0.51, 0.49, 0.0],
        (3, 1, 1): [0.1, 0.7, 0.1, 0.1],
        (3, 1, 2): [1.0, 0.0, 0.0, 0.0],
    })  # fmt: skip
    options = {"width": 3, "max_length": 4}
    found = beam_search(tree, torch.zeros(1, 1), end=END, length_power=2.0, **options)
    assert words_of(found) == [[3, 1, 1, 1]], "3 1 2 has no room"
    assert plain_beam(tree, torch.zeros(1, 1), **options, power=2.0)[0] == [3, 1, 1, 1]


@pytest.mark.parametrize(("power", "words"), [(0.0, []), (0.9, []), (1.0, [1])])
def test_the_length_counts_the_end(power, words):
    """e^-1 for END alone, one token; e^-1.9 for a word and END, two; less for any two
    words.
    """
    first, second = math.exp(-1), math.exp(-1.9) / (1 - math.exp(-1))
    tree = Tree({
        (): [first, 1 - first, 0, 0, 0, 0, 0],
        (1,): [second, *[(1 - second) / 6] * 6],
    })  # fmt: skip
    found = beam_search(tree, torch.zeros(1, 1), end=END, width=4, max_length=2, length_power=power)
    assert words_of(found) == [words]
    assert found.scores.item() == pytest.approx(-1.9 if words else -1.0)


@BOTH
def test_max_length(network):
    model, memory = network(ending=-9)
    for length in (1, 2, 5):
        found = beam_search(model, memory, end=END, max_length=length)
        assert found.tokens.shape == (7, length)
        assert (found.tokens > END).all()
        score = model.decode(memory, found.tokens).log_softmax(2)
        score = score.gather(2, found.tokens[..., None]).sum((1, 2))
        assert torch.allclose(found.scores, score)


@BOTH
def test_all_equal(network):
    """Of equal words greedy decoding takes the first, a beam any, with its score."""
    model, memory = network()
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    assert words_of(beam_search(model, memory, end=END, width=1)) == [[]] * 7
    model.ending = -1e-3  # now all but the end are equal
    found = beam_search(model, memory, end=END, width=1, max_length=4)
    assert words_of(found) == [[1, 1, 1, 1]] * 7
    found = beam_search(model, memory, end=END, width=3, max_length=4)
    assert torch.allclose(found.scores, torch.tensor(-4 * math.log(4 + math.exp(-1e-3))).double())
    alone = beam_search(model, memory[:1], end=END, width=3, max_length=4)
    assert words_of(found) == words_of(alone) * 7


@BOTH
def test_wider_than_the_vocabulary(network):
    model, memory = network(vocab_size=3)
    found = beam_search(model, memory, end=END, width=50, max_length=4)
    for row, words, score in zip(memory, words_of(found), found.scores, strict=True):
        assert (words, pytest.approx(score.item())) == best_of_all(model, row[None], 4, 0)
    only_end, memory = network(vocab_size=1)
    assert words_of(beam_search(only_end, memory, end=END, width=3)) == [[]] * 7


def test_attention_is_that_of_each_word():
    model, memory = looker(count=9)
    found = beam_search(model, memory, end=END, width=4, max_length=6)
    assert found.attention.shape == (*found.tokens.shape, 4)
    for row, words, attention in zip(memory, words_of(found), found.attention, strict=True):
        _, state = model.start(row[None])
        for word, weights in zip(words, attention, strict=False):
            assert torch.allclose(weights, state.attention[0])
            _, state = model.step(torch.tensor([word]), state)
        assert not attention[len(words) :].any()
    assert 0 < found.tokens.eq(PAD).sum() < found.tokens.numel()
    model, memory = talker()
    assert beam_search(model, memory, end=END).attention is None


def test_what_has_ended_is_not_computed():
    """Rows are packed, and the memory moves only with them."""
    model, memory = looker(count=40, ending=1.0)
    moved = []
    select = model.select

    def spy(state, rows):
        moved.append(state.memory is not None)
        return select(state, rows)

    model.select = spy
    beam_search(model, memory, end=END, width=3, max_length=30)
    assert model.rows[0] > 40
    assert model.rows == sorted(model.rows, reverse=True)
    assert model.rows[-1] < 20
    assert moved[0], "every image's memory, to its hypotheses"
    assert sum(moved) == len(set(model.rows))
    assert len(moved) == len(model.rows) > sum(moved)


def test_a_part_that_changes_now_and_then():
    """What a step leaves as it was counts as memory only until a step changes it."""

    class Slow(Talker):
        def start(self, memory):
            logits, _ = super().start(memory)
            return logits, SlowState(memory, torch.zeros(len(memory), 1).double(), 0 * memory)

        def step(self, tokens, state):
            logits, (hidden,) = super().step(tokens, state)
            slow = state.slow
            if int(state.count[0]) % 2:  # every other step
                slow = slow + hidden
            return logits + self.head(slow), SlowState(hidden, state.count + 1, slow)

    class SlowState(NamedTuple):
        hidden: torch.Tensor
        count: torch.Tensor
        slow: torch.Tensor

    torch.manual_seed(3)
    model, memory = Slow(), torch.randn(12, 6, dtype=torch.float64)
    found = beam_search(model, memory, end=END, width=3, max_length=8)
    said = [plain_beam(model, row[None], 3, 8) for row in memory]
    assert words_of(found) == [words for words, _ in said]


def test_half_precision_adds_up_in_single():
    model, memory = talker(ending=-9)
    found = beam_search(model.bfloat16(), memory.bfloat16(), end=END, max_length=8)
    assert found.scores.dtype == torch.float32


def test_refused():
    model, memory = talker()
    for wrong in ({"width": 0}, {"max_length": 0}, {"length_power": -1}):
        with pytest.raises(InputError, match="expected whole numbers from 1 on, and a power"):
            beam_search(model, memory, end=END, **wrong)
    memory[3, 2] = math.nan
    with pytest.raises(InputError, match=r"logits of row 3 of the batch are NaN: look for NaN"):
        beam_search(model, memory, end=END)
    assert beam_search(model, memory[:0], end=END).tokens.shape == (0, 0)

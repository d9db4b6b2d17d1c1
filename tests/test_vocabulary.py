"""Words and their numbers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.vocabulary import Vocabulary, tokenize
from zoo.errors import DataError
from zoo.inputs import PAD, Specials

XU = Specials(end=0, unknown=1)  # Xu et al. 2015
IM2TXT = Specials(start=1, end=2, unknown=3)
KARPATHY = Specials(start=0, end=0)  # the one is only given, the other only predicted
SENTENCES = [["a", "dog", "runs"], ["a", "cat", "runs"], ["a", "bird"]]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A t-shirt , and the children 's dog .", "a t shirt and the children s dog"),
        ("( catching ? )", "( catching )"),
        ("#1 R&B; 1,000 people!", "# 1 r & b 1 000 people"),
        ("Zoë's café", "zo s caf"),
        (" . ", ""),
    ],
)
def test_karpathys_rule(caption, words):
    assert tokenize(caption) == words.split()


def test_order():
    """By falling frequency, then by the alphabet."""
    vocabulary = Vocabulary.of(SENTENCES, 1, XU)
    assert vocabulary.words == ("a", "runs", "bird", "cat", "dog")
    assert Vocabulary.of(SENTENCES[::-1], 1, XU) == vocabulary
    assert vocabulary.numbers == {"a": 2, "runs": 3, "bird": 4, "cat": 5, "dog": 6}
    assert len(vocabulary) == 7


def test_min_count():
    assert Vocabulary.of(SENTENCES, 2, XU).words == ("a", "runs")
    assert Vocabulary.of(SENTENCES, 3, XU).words == ("a",)
    with pytest.raises(DataError, match="no word occurs 4 times: lower min_count"):
        Vocabulary.of(SENTENCES, 4, XU)
    with pytest.raises(DataError, match="no word occurs 1 times"):
        Vocabulary.of([], 1, XU)


@pytest.mark.parametrize(("specials", "first"), [(XU, 2), (IM2TXT, 4), (KARPATHY, 1)])
def test_specials(specials, first):
    """Words begin behind them; start and end may share a number."""
    vocabulary = Vocabulary.of(SENTENCES, 1, specials)
    assert (vocabulary.numbers["a"], len(vocabulary)) == (first, first + 5)
    assert vocabulary.encode(["a"]) == [first, specials.end]
    assert vocabulary.decode([first, specials.end, first + 1]) == "a"


def test_a_word_that_it_does_not_know():
    """Stands as the unknown word, or is left out where there is none."""
    vocabulary = Vocabulary.of(SENTENCES, 2, XU)
    assert vocabulary.encode(["a", "dog", "runs"]) == [2, 1, 3, 0]
    assert vocabulary.decode([2, 1, 3, 0]) == "a <unk> runs"
    assert Vocabulary.of(SENTENCES, 2, KARPATHY).encode(["a", "dog", "runs"]) == [1, 2, 0]


def test_decoding_ends():
    vocabulary = Vocabulary.of(SENTENCES, 1, IM2TXT)
    assert vocabulary.decode([1, 4, 5, 2, 4]) == "a runs", "start is no word, end is the last"
    assert vocabulary.decode([4, PAD, 5]) == "a"
    assert vocabulary.decode([]) == vocabulary.decode([2]) == ""


def test_a_vocabulary_of_other_weights():
    vocabulary = Vocabulary.of(SENTENCES, 1, XU)
    assert vocabulary.decode([6]) == "dog"
    with pytest.raises(DataError, match=r"no word 7 in a vocabulary of 7: it is not the one that"):
        vocabulary.decode([2, 7])
    with pytest.raises(DataError, match="has the word 'a' twice"):
        Vocabulary.from_dict({**vocabulary.to_dict(), "words": ["b", "a", "a"]})


words = st.text("abcde0", min_size=1, max_size=3)
sentences = st.lists(st.lists(words, min_size=1), min_size=1)


@given(sentences, st.sampled_from([XU, IM2TXT, KARPATHY]))
def test_round_trips(sentences, specials):
    """Through numbers, and through JSON."""
    vocabulary = Vocabulary.of(sentences, 1, specials)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary
    for sentence in sentences:
        numbers = vocabulary.encode(sentence)
        assert max(numbers) < len(vocabulary)
        assert not {*numbers[:-1]} & {specials.start, specials.end, specials.unknown}
        assert vocabulary.decode(numbers) == " ".join(sentence)

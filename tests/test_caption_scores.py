"""Scores of captions: the worked example, tokens against Stanford's own program where
Java is there, and what is refused.
"""

import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from zoo.decoding.ptb import ptb_tokens
from zoo.decoding.scores import caption_scores
from zoo.errors import InputError, UsageError, ZooWarning

REFERENCES = {
    1: ("a dog runs on the grass", "a brown dog is running in the park"),
    2: ("two children play with a red ball", "kids playing with a ball outside"),
    3: ("a man rides a wave on a surfboard", "a surfer riding a wave in the ocean"),
}
CAPTIONS = {
    1: "a dog is running on the grass",
    2: "two kids play with a ball",
    3: "a man riding a wave on a surfboard",
}
# what Stanford's program, and the protocol's list of punctuation, make of them
TOKENS = {
    "A man's dog, running; jumping!": "a man 's dog running jumping",
    "He isn't here -- don't go.": "he is n't here do n't go",
    "can't I'm they've": "ca n't i 'm they 've",
    "cannot gonna wanna": "can not gon na wan na",
    "Two-story building (red) & 3.5 cars": "two-story building -lrb- red -rrb- & 3.5 cars",
    "[bracket] {curly}": "-lsb- bracket -rsb- -lcb- curly -rcb-",
    "The U.S. flag. A big one...": "the u.s. flag a big one",
    "\"Quoted\" text said 'hi'": "quoted text said hi",
    "it's 5 o'clock / time": "it 's 5 o'clock / time",
    "50% off $5.00": "50 % off $ 5.00",
    "1,000 people at 10:30am": "1,000 people at 10:30 am",
    "a t-shirt w/ x": "a t-shirt w / x",
    "and/or he/she": "and/or he/she",
    "don’t": "do n't",
    "St. Louis, 3rd St.": "st. louis 3rd st.",
    "Miss. and a miss.": "miss. and a miss",
    "No. 5, and no. Dog": "no. 5 and no dog",
    "the '90s and the 80's": "the '90s and the 80 's",
    "slip 'n slide, rock 'n' roll, men's boys'": "slip 'n slide rock 'n' roll men 's boys",
    "AT&T, at&t, a & b": "at&t at & t a & b",
    "y'all 'tis 'em": "y' all 't is 'em",
    "what?! a dog.The cat": "what ?! a dog.the cat",
    "a <unk> on a – grey — 1½ – #1 #fan": "a <unk> on a grey 1 1/2 # 1 #fan",
    "line one\nline two . . .": "line one line two",
    " ": "",
}


@pytest.mark.parametrize("caption", TOKENS)
def test_tokens(caption):
    assert ptb_tokens(caption) == TOKENS[caption]


def needs_java():
    if not shutil.which("java"):
        pytest.skip("there is no Java")


def by_stanford(captions):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    found = PTBTokenizer().tokenize(
        {index: [{"caption": caption}] for index, caption in enumerate(captions)}
    )
    return [tokens for (tokens,) in found.values()]


def captions_of(name):
    folder = Path(os.environ.get("ZOO_DATA") or pytest.skip("ZOO_DATA is not set"), name)
    if not folder.is_dir():
        pytest.skip(f"ZOO_DATA has no {name}")
    if name == "flickr8k":
        text = (folder / "Flickr8k.token.txt").read_text().splitlines()
        return [line.partition("\t")[2] for line in text]
    return [
        annotation["caption"]
        for path in sorted(folder.glob("annotations/*.json"))
        for annotation in json.loads(path.read_text())["annotations"]
    ]


def test_tokens_are_stanfords():
    needs_java()
    captions = [caption for caption in TOKENS if caption.strip()]
    assert by_stanford(captions) == [TOKENS[caption] for caption in captions]


@pytest.mark.parametrize(
    ("name", "count"),
    [pytest.param("flickr8k", 40_460, marks=pytest.mark.slow), ("coco_mini", 255)],
)
def test_tokens_of_real_captions_are_stanfords(name, count):
    """Every one of them."""
    captions = captions_of(name)
    assert len(captions) == count
    needs_java()
    differ = [
        (caption, theirs)
        for caption, theirs in zip(captions, by_stanford(captions), strict=True)
        if ptb_tokens(caption) != theirs
    ]
    assert not differ


def test_the_worked_example(capfd):
    scores = caption_scores(REFERENCES, CAPTIONS)
    assert [round(score / 100, 6) for score in scores.bleu] == [1.0, 0.881917, 0.745793, 0.512774]
    assert round(scores.rouge_l / 100, 6) == 0.804586
    assert round(scores.cider_d, 6) == 3.494923
    assert scores.meteor is None
    copied = {key: captions[0] for key, captions in REFERENCES.items()}
    assert round(caption_scores(REFERENCES, copied).cider_d, 6) == 5.495578
    repeated = {**copied, 1: "a dog runs on the grass on the grass on the grass"}
    others = 5.675210 + 5.488079
    assert round(3 * caption_scores(REFERENCES, repeated).cider_d - others, 4) == 1.5262
    assert capfd.readouterr() == ("", ""), "the scorers print nothing"


def test_captions_as_they_are_written():
    """Case and punctuation do not count, nor does the order of the images."""
    references = {
        key: [caption.capitalize() + " ." for caption in captions]
        for key, captions in REFERENCES.items()
    }
    captions = {key: f"{caption.upper()}!" for key, caption in reversed(CAPTIONS.items())}
    assert caption_scores(references, captions) == caption_scores(REFERENCES, CAPTIONS)


def test_an_empty_caption():
    scores = caption_scores(REFERENCES, {**CAPTIONS, 1: ""})
    assert 0 < scores.bleu[3] < caption_scores(REFERENCES, CAPTIONS).bleu[3]
    scores = caption_scores(REFERENCES, dict.fromkeys(REFERENCES, " . "))
    assert [round(score, 9) for score in (*scores.bleu, scores.rouge_l, scores.cider_d)] == [0] * 6


def test_shown():
    scores = caption_scores(REFERENCES, CAPTIONS)
    assert [line.split() for line in str(scores).splitlines()[2:8]] == [
        ["BLEU-1", "100.00"],
        ["BLEU-2", "88.19"],
        ["BLEU-3", "74.58"],
        ["BLEU-4", "51.28"],
        ["ROUGE-L", "80.46"],
        ["CIDEr-D", "3.495"],
    ]
    record = json.loads(json.dumps(scores.to_dict()))
    assert (record["images"], record["references"], record["meteor"]) == (3, 6, None)
    assert record["bleu4"] == scores.bleu[3]


@pytest.mark.slow  # its program takes a quarter of a minute to start
def test_meteor():
    needs_java()
    scores = caption_scores(REFERENCES, CAPTIONS, meteor=True)
    assert round(scores.meteor / 100, 6) == 0.489693
    assert "METEOR    48.97" in str(scores)


def test_meteor_without_java(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.warns(ZooWarning, match="METEOR is left out: it needs Java, and there is none"):
        scores = caption_scores(REFERENCES, CAPTIONS, meteor=True)
    assert scores == caption_scores(REFERENCES, CAPTIONS)
    java = tmp_path / "java"
    for program in ("exit 3", "echo Error: out of memory; exit 1"):
        java.write_text(f"#!{shutil.which('sh', path='/bin:/usr/bin')}\n{program}\n")
        java.chmod(0o755)
        with pytest.warns(ZooWarning, match=r"program, run by .*java, ended without an answer"):
            assert caption_scores(REFERENCES, CAPTIONS, meteor=True).meteor is None


def test_refused():
    with pytest.raises(InputError, match="no references: nothing to score"):
        caption_scores({}, {})
    with pytest.raises(InputError, match="images without a caption: 1, 3"):
        caption_scores(REFERENCES, {2: "a"})
    with pytest.raises(InputError, match="images without references: 4"):
        caption_scores(REFERENCES, {**CAPTIONS, 4: "a"})
    with pytest.raises(InputError, match=r"references\[1\]='a dog': expected a list of captions"):
        caption_scores({**REFERENCES, 1: "a dog"}, CAPTIONS)
    with pytest.raises(InputError, match=r"references\[1\]=\[\]: expected a list of captions"):
        caption_scores({**REFERENCES, 1: []}, CAPTIONS)
    with pytest.raises(InputError, match=r"candidates\[1\]=\['a'\]: expected one caption"):
        caption_scores(REFERENCES, {**CAPTIONS, 1: ["a"]})
    with pytest.raises(InputError, match="no reference of 1 has a word"):
        caption_scores({**REFERENCES, 1: [".", "!"]}, CAPTIONS)
    with pytest.warns(ZooWarning, match="CIDEr-D of one image is 0"):
        assert caption_scores({1: REFERENCES[1]}, {1: CAPTIONS[1]}).cider_d == 0


def test_without_the_extra(monkeypatch):
    assert importlib.util.find_spec("pycocoevalcap"), "it is among the tests' dependencies"
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu", None)
    with pytest.raises(UsageError, match=r"needs? pycocoevalcap, .*: pip install 'classic-zoo\["):
        caption_scores(REFERENCES, CAPTIONS)

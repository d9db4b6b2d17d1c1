"""Photos with captions in the four usual forms: the real data sets, small files in the
same forms, and files with mistakes.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from zoo.data.captions import open_captions
from zoo.data.vocabulary import Vocabulary
from zoo.errors import DataError, InputError, UsageError, ZooWarning
from zoo.inputs import Specials

XU = Specials(end=0, unknown=1)


def real(name):
    folder = Path(os.environ.get("ZOO_DATA") or pytest.skip("ZOO_DATA is not set"), name)
    if not folder.is_dir():
        pytest.skip(f"ZOO_DATA has no {name}")
    return folder


def draw(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(folder / name)


def pairs(photos):
    return {
        file.name: captions for file, captions in zip(photos.files, photos.captions, strict=True)
    }


def refused(path, message, kind=DataError):
    with pytest.raises(kind, match=message) as caught:
        open_captions(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------- the real data sets


@pytest.fixture(scope="module")
def flickr8k():
    return open_captions(real("flickr8k"))


def test_flickr8k(flickr8k, recwarn):
    """Its official split; words by Karpathy's rule."""
    counts = {}
    for part in ("train", "val", "test"):
        lengths = [len(words) for words in getattr(flickr8k, part).sentences()]
        photos = len(getattr(flickr8k, part))
        counts[part] = (photos, len(lengths), sum(lengths), min(lengths), max(lengths))
    assert counts == {
        "train": (6_000, 30_000, 324_491, 2, 37),
        "val": (1_000, 5_000, 54_638, 2, 33),
        "test": (1_000, 5_000, 54_336, 2, 31),
    }
    assert flickr8k.split == "6,000 train, 1,000 val, 1,000 test photos"
    file, captions = flickr8k.train[0]
    assert file.name == (real("flickr8k") / "Flickr_8k.trainImages.txt").read_text().split()[0]
    assert len(captions) == 5
    assert all(caption == caption.strip() for caption in captions)
    assert not recwarn.list


def test_the_papers_vocabulary(flickr8k):
    """2,538 words of five occurrences or more (Karpathy and Fei-Fei 2015)."""
    sizes = {}
    for least in (1, 3, 4, 5, 6):
        vocabulary = Vocabulary.of(flickr8k.train.sentences(), least, XU)
        sizes[least] = len(vocabulary.words)
    assert sizes == {1: 7_374, 3: 3_478, 4: 2_917, 5: 2_538, 6: 2_275}
    vocabulary = Vocabulary.of(flickr8k.train.sentences(), 5, XU)
    unknown = {
        part: sum(
            word not in vocabulary.numbers
            for words in getattr(flickr8k, part).sentences()
            for word in words
        )
        / sum(map(len, getattr(flickr8k, part).sentences()))
        for part in ("train", "val", "test")
    }
    assert {part: round(100 * share, 1) for part, share in unknown.items()} == {
        "train": 2.5, "val": 3.2, "test": 3.0,
    }  # fmt: skip


def test_coco_mini(recwarn):
    data = open_captions(real("coco_mini"))
    assert data.split == "26 train, 25 val photos"
    assert {len(captions) for captions in (*data.train.captions, *data.val.captions)} == {5}
    assert sum(map(len, data.train.sentences())) == 1_443
    file, _ = data.val[0]
    assert file.is_file()
    assert file.parent.name == "val2017"
    assert not recwarn.list
    one = open_captions(real("coco_mini") / "annotations" / "captions_train2017.json")
    assert [len(part) for part in (one.train, one.val)] == [21, 5], "photos lie beside its folder"
    assert one.split == "21 train, 5 val photos; of train random, 20% for validation, seed 0"


# ----------------------------------------------------------------- small files, rightly


@pytest.fixture
def tokens(tmp_path):
    """Flickr8k's own form: three photos, one of which is in no list."""
    folder = tmp_path / "tokens"
    draw(folder / "Images", "a.jpg", "b.jpg", "c.jpg")
    lines = [f"{photo}.jpg#{number}\tPhoto {photo} ." for photo in "abc" for number in range(2)]
    (folder / "Small.token.txt").write_text("\n".join([*lines, "d.jpg.1#0\tno image", ""]))
    (folder / "Small.lemma.token.txt").write_text("a.jpg#0\tphoto a be lemmatise .\n")
    (folder / "Small.trainImages.txt").write_text("b.jpg\n")
    (folder / "Small.testImages.txt").write_text("a.jpg\n")
    (folder / "Small.devImages.txt").write_text("c.jpg\n")
    return folder


@pytest.fixture
def coco(tmp_path):
    folder = tmp_path / "coco"
    record = {
        "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (7, 3)],
        "annotations": [
            {"id": 1, "image_id": 3, "caption": "Three. "},
            {"id": 2, "image_id": 7, "caption": "Seven\n"},
            {"id": 3, "image_id": 3, "caption": "A three"},
        ],
    }
    for part, name in (("train", "train2014"), ("val", "val2014")):
        draw(folder / name, "3.jpg", "7.jpg")
        (folder / "annotations").mkdir(exist_ok=True)
        path = folder / "annotations" / f"captions_{name}.json"
        path.write_text(json.dumps({**record, "info": {"part": part}}))
    return folder


@pytest.fixture
def karpathy(tmp_path):
    folder = tmp_path / "karpathy"
    images = [
        {
            "filename": f"{number}.jpg",
            "filepath": "train2014" if split != "val" else "val2014",
            "imgid": number,
            "split": split,
            "sentences": [{"tokens": ["photo"], "raw": f"Photo {number}!", "sentid": number}],
        }
        for number, split in enumerate(("train", "restval", "val", "test"))
    ]
    draw(folder / "train2014", "0.jpg", "1.jpg", "3.jpg")
    draw(folder / "val2014", "2.jpg")
    path = folder / "dataset_small.json"
    path.write_text(json.dumps({"images": images, "dataset": "small"}))
    return path


@pytest.fixture
def table(tmp_path):
    folder = tmp_path / "table"
    draw(folder / "Images", *(f"{number}.jpg" for number in range(5)))
    lines = ["image,caption"]
    for number in range(5):
        lines += [f'{number}.jpg,"A dog , running , jumps ."', f"{number}.jpg,A cat ."]
    lines[-1] = '4.jpg,"A ""quoted"" word ."'
    path = folder / "captions.txt"
    path.write_text("\n".join([*lines, ""]))
    return path


def test_tokens(tokens, recwarn):
    data = open_captions(tokens)
    assert data.split == "1 train, 1 val, 1 test photos"
    assert pairs(data.train) == {"b.jpg": ("Photo b .", "Photo b .")}
    assert pairs(data.test) == {"a.jpg": ("Photo a .", "Photo a .")}
    assert pairs(open_captions(tokens / "Small.token.txt").val) == {"c.jpg": ("Photo c .",) * 2}
    (tokens / "Small.devImages.txt").write_text("")
    refused(tokens, "none of the val photos has a caption")
    assert not recwarn.list


def test_tokens_without_lists(tokens):
    for path in tokens.glob("*Images.txt"):
        path.unlink()
    data = open_captions(tokens, val_fraction=0.3, seed=1)
    assert [len(data.train), len(data.val), data.test] == [2, 1, None]
    assert data.split == "2 train, 1 val photos; of train random, 30% for validation, seed 1"
    files = {*data.train.files, *data.val.files}
    assert {file.name for file in files} == {"a.jpg", "b.jpg", "c.jpg"}
    again = open_captions(tokens, val_fraction=0.3, seed=1)
    assert again.val == data.val
    data = open_captions(tokens, val_fraction=0.3, test_fraction=0.3)
    assert [len(part) for part in (data.train, data.val, data.test)] == [1, 1, 1]


def test_a_part_that_is_there_is_not_drawn(tokens):
    with pytest.raises(UsageError, match="has its own images for validation"):
        open_captions(tokens, val_fraction=0.2)


def test_coco(coco):
    data = open_captions(coco)
    assert pairs(data.train) == {"3.jpg": ("Three. ", "A three"), "7.jpg": ("Seven\n",)}
    assert data.train.words(0) == [["three"], ["a", "three"]]
    assert {file.parent.name for file in data.val.files} == {"val2014"}
    assert (data.name, data.test) == (coco.name, None)


def test_karpathy(karpathy, recwarn):
    """What was kept back of COCO's validation photos is trained on."""
    for path in (karpathy, karpathy.parent):
        data = open_captions(path)
        assert pairs(data.train) == {"0.jpg": ("Photo 0!",), "1.jpg": ("Photo 1!",)}
        assert pairs(data.val) == {"2.jpg": ("Photo 2!",)}
        assert pairs(data.test) == {"3.jpg": ("Photo 3!",)}
    assert not recwarn.list


def test_table(table):
    """Captions with commas and quotes."""
    for path in (table, table.parent):
        data = open_captions(path)
        found = pairs(data.train) | pairs(data.val)
        assert [len(data.train), len(data.val)] == [4, 1]
        assert found["0.jpg"] == ("A dog , running , jumps .", "A cat .")
        assert found["4.jpg"] == ("A dog , running , jumps .", 'A "quoted" word .')
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert pairs(open_captions(table).train) == pairs(data.train)


def test_characters_that_part_lines_elsewhere(table):
    table.write_text(table.read_text().replace("A cat .", "A\x85big\u2028cat ."))
    data = open_captions(table)
    found = Counter(len(captions) for captions in data.train.captions + data.val.captions)
    assert found == {2: 5}
    record = {"id": 1, "image_id": 1, "caption": "one\u2028two"}
    path = table.with_name("captions_train.json")
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    captions = [record, {**record, "image_id": 2}]
    path.write_text(json.dumps({"images": images, "annotations": captions}, ensure_ascii=False))
    for number in (1, 2):
        (table.parent / "Images" / f"{number}.jpg").rename(table.parent / f"{number}.jpg")
    assert open_captions(path).train.captions == (("one\u2028two",),)


# ---------------------------------------------------------------- small files, wrongly


def test_captions_for_missing_photos(tokens, coco, karpathy):
    (tokens / "Images" / "b.jpg").unlink()
    refused(tokens, r"1 of the 1 train photos are not there, the first: .*b\.jpg")
    (coco / "val2014" / "3.jpg").unlink()
    refused(coco / "annotations" / "captions_val2014.json", "no captions of training photos")
    refused(coco, r"1 of the 2 val photos are not there, the first: .*val2014.3\.jpg")
    (karpathy.parent / "train2014" / "1.jpg").unlink()
    refused(karpathy, r"1 of the 2 train photos are not there, the first: .*train2014.1\.jpg")


def test_photos_without_captions(tokens, coco):
    """They are said, and the others used; photos in no list have captions."""
    draw(tokens / "Images", "x.jpg", "y.png")
    (tokens / "Images" / "notes.txt").write_text("no photo")
    with pytest.warns(ZooWarning, match=r"2 photos of .*Images have no caption: x\.jpg, y\.png"):
        assert len(open_captions(tokens).train) == 1
    (tokens / "Small.trainImages.txt").write_text("b.jpg\nx.jpg\n")
    with pytest.raises(DataError, match=r"no captions in .*token\.txt of x\.jpg"):
        open_captions(tokens)
    path = coco / "annotations" / "captions_train2014.json"
    record = json.loads(path.read_text())
    record["annotations"] = record["annotations"][:1]
    path.write_text(json.dumps(record))
    with pytest.warns(ZooWarning, match=r"1 photos of .*train2014 have no caption: 7\.jpg"):
        assert len(open_captions(coco).train) == 1


def test_an_empty_caption(table):
    """Left out, which is said; the photo goes with its last one."""
    table.write_text(table.read_text().replace("1.jpg,A cat .", "1.jpg,").replace("A cat .", "."))
    with pytest.warns(ZooWarning, match=r"4 captions without a word are left out, of 0\.jpg, 1"):
        data = open_captions(table)
    assert Counter(map(len, data.train.captions + data.val.captions)) == {1: 4, 2: 1}
    table.write_text('image,caption\n0.jpg,a dog\n1.jpg,a cat\n2.jpg,""\n3.jpg,.\n4.jpg," "\n')
    with pytest.warns(ZooWarning, match="3 captions without a word"):
        data = open_captions(table)
    assert {file.name for file in data.train.files + data.val.files} == {"0.jpg", "1.jpg"}
    table.write_text("image,caption\n0.jpg,.\n")
    with pytest.warns(ZooWarning):
        refused(table, "none of the train photos has a caption")
    table.write_text("image,caption\n0.jpg,a dog\n")
    with pytest.warns(ZooWarning, match="4 photos"):
        refused(table, "1 photos: 2 are needed to split them")


@pytest.mark.parametrize("form", ["tokens", "coco", "karpathy", "table"])
def test_no_utf8(form, request):
    path = request.getfixturevalue(form)
    if form == "tokens":
        path /= "Small.token.txt"
    elif form == "coco":
        path /= "annotations/captions_train2014.json"
    content = path.read_bytes().replace(b"{", b"\n{")
    for word in (b"Photo b", b"Seven", b"Photo 1", b"2.jpg,A cat"):
        content = content.replace(word, word + "é".encode("latin-1"), 1)
    path.write_bytes(content)
    line = content[: content.index(b"\xe9")].count(b"\n") + 1
    assert line > 1
    refused(path, f"line {line}: no UTF-8 text")


@pytest.mark.parametrize("form", ["coco", "karpathy"])
def test_broken_json(form, request):
    path = request.getfixturevalue(form)
    if form == "coco":
        path /= "annotations/captions_train2014.json"
    whole = path.read_text()
    path.write_text(whole[:-9])
    refused(path, r"is no JSON: Expecting .*: line 1 column \d+")
    path.write_text("[1, 2]")
    refused(path, "no captions in COCO's or Karpathy's form: it has no 'images'")
    path.write_text('{"images": [3], "annotations": []}')
    refused(path, "image 1: no captions in COCO's or Karpathy's form")
    path.write_text(whole.replace(".jpg", ".jpg ", 1).replace('"images"', '"pictures"'))
    refused(path, "it has no 'images'")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"image_id": 7', '"image_id": 8', "annotation 2: there is no image 8 in this file"),
        ('"image_id": 7', '"number": 7', "annotation 2: .* it has no 'image_id'"),
        ('"caption": "Three. "', '"caption": null', "annotation 1: .* it has no 'caption'"),
        ('"file_name": "3.jpg"', '"file_name": 3', "image 2: .* it has no 'file_name'"),
        ('"split": "test"', '"split": "mine"', "image 4: split 'mine': expected one of train, "),
        ('"split": "test"', '"s": "test"', "image 4: .* it has no 'split'"),
        ('"raw": "Photo 1!"', '"text": "Photo 1!"', "image 2: .* it has no 'raw'"),
        ('"filename": "1.jpg"', '"name": "1.jpg"', "image 2: .* it has no 'filename'"),
    ],
)
def test_wrong_records(coco, karpathy, old, new, message):
    path = coco / "annotations" / "captions_train2014.json"
    path = path if old in path.read_text() else karpathy
    path.write_text(path.read_text().replace(old, new, 1))
    refused(path, message)


def test_lines_that_are_wrong(tokens):
    path = tokens / "Small.token.txt"
    whole = path.read_text()
    path.write_text(whole.replace("b.jpg#1\t", "b.jpg#1 "))
    refused(path, r"line 4: expected photo\.jpg#0, a tab and a caption")
    path.write_text(whole.replace("b.jpg#1\t", "b.jpg\t"))
    refused(path, "line 4: expected")
    path.write_text(whole.replace("b.jpg#1\t", "\nb.jpg#1\t"))
    assert len(open_captions(path).train.captions[0]) == 2, "an empty line is none"


def test_tables_that_are_wrong(table):
    whole = table.read_text()
    for header in ("file,caption", "image;caption", "0.jpg,a dog", ""):
        table.write_text(whole.replace("image,caption", header))
        refused(table, "line 1: expected image,caption")
    table.write_text("")
    refused(table, "line 1: expected image,caption")
    table.write_text(whole.replace("1.jpg,A cat .", "1.jpg A cat ."))
    refused(table, "line 5: expected a photo and a caption")
    table.write_text(whole.replace("1.jpg,A cat .", "1.jpg,A cat , a dog"))
    refused(table, "line 5: expected a photo and a caption")
    table.write_text(whole.replace("1.jpg,A cat .", '1.jpg,"A cat .'))
    refused(table, "line .*: ('.' expected after|unexpected end of data)")


def test_a_photo_in_two_parts(tokens):
    (tokens / "Small.testImages.txt").write_text("a.jpg\nb.jpg\n")
    refused(tokens, r"b\.jpg is in two parts, train and test")


def test_no_captions(tmp_path, tokens):
    empty = tmp_path / "empty"
    empty.mkdir()
    message = re.escape("has no captions: needs *token.txt, captions_*.json, dataset_*.json or ")
    refused(empty, message, UsageError)
    refused(tmp_path / "nowhere", message, UsageError)
    with pytest.raises(InputError, match="needs a number between 0 and 1"):
        open_captions(tokens, val_fraction=3)

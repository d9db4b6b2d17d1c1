"""Results in a notebook that is really executed, and at a terminal."""

import os
import pty
import subprocess
import sys
from xml.etree import ElementTree

import nbclient
import nbformat
import pytest

import zoo
from zoo.formatting import Printable, Table, section_html, section_text

CELLS = {  # a result's cell, and words that its table has
    "profile": ('zoo.profile("lenet5")', ["module", "LeNet5", "    c3", "150,000"]),
    "comparison": ('zoo.compare(["lenet5", "vgg11"])', ["MACs", "vgg11", "7,609,090,048"]),
    "info": ('zoo.info("lenet5")', ["parameters", "60,000", "input"]),
    "memory": ('zoo.memory("lenet5", device="cpu")', ["at the peak", "activations", "  features"]),
    "verification": ('zoo.verify("lenet5")', ["verdict", "340,908", "agrees"]),
    "run": ("run", ["validation accuracy", "360 validation images", "lenet5_modern"]),
    "predictions": ("found", ["predicted", "true", "rank 2"]),
    "prediction": ("found[0]", ["predicted", "true", "rank 2"]),
}
SET_UP = """
import zoo
from zoo.data.digits import export_digits
run = zoo.finetune("lenet5_modern", "digits", pretrained=False, epochs=1, batch_size=128,
                   progress=False, cpu=True)
found = zoo.predict(run, export_digits("png", 3), top=3)
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What each cell gives: `text/html` and `text/plain`; and what `print` does."""
    cells = [SET_UP, *(code for code, _ in CELLS.values())]
    cells += [f"print({code})" for code, _ in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    folder = str(tmp_path_factory.mktemp("notebook"))
    nbclient.execute(notebook, cwd=folder, timeout=300, kernel_name="python3")
    results = notebook.cells[1 : 1 + len(CELLS)]
    printed = notebook.cells[1 + len(CELLS) :]
    return {
        name: (result.outputs[-1].data, text.outputs[-1].text)
        for name, result, text in zip(CELLS, results, printed, strict=True)
    }


@pytest.mark.parametrize("name", CELLS)
def test_a_result_in_a_notebook(shown, name):
    data, printed = shown[name]
    html = ElementTree.fromstring(f"<div>{data['text/html']}</div>")
    cells = {cell.text or "" for table in html.iter("table") for cell in table.iter()}
    for word in CELLS[name][1]:
        assert any(word in cell for cell in cells), word
        assert word in data["text/plain"], word
    assert printed.rstrip("\n") == data["text/plain"], "one table, wherever it is shown"


def test_what_is_public():
    assert dir(zoo) == sorted(zoo.__all__)


# ------------------------------------------------------------------- made from sections


class Result(Printable):
    def sections(self):
        return [
            Table(["name", "n", "text"], [["  a<b", "1", "one two " * 9]], ["name"], wrap="text"),
            {"label": "first\nsecond", "": "third"},
            "a line <&>",
        ]


def test_sections_as_text_and_as_html():
    text = str(Result()).splitlines()
    assert text[0].split() == ["name", "n", "text"]
    assert text[2].startswith("  a<b  1  one two")
    assert text[3:] == ["", "label: first", "       second", ":      third", "", "a line <&>"]
    assert repr(Result()) == str(Result())
    html = ElementTree.fromstring(f"<div>{Result()._repr_html_()}</div>")
    assert [cell.text for cell in html.iter("td")][:2] == ["  a<b", "1"]
    assert [cell.get("style").split(";")[0] for cell in html.iter("th")][:2] == [
        "text-align: left",
        "text-align: right",
    ]
    assert html.find("p").text == "a line <&>"
    assert "<table>" in section_html({"label": "value"})


def test_a_table_fits_a_terminal():
    table = Table(
        ["name", "n", "kind", "text"],
        [["a", "1", "kind", "one two three " * 4], ["漢字", "22", "", ""]],
        ["name", "text"],
        wrap="text",
        optional=["kind", "n"],
    )
    assert table.text().splitlines()[2:] == [
        "a      1  kind  " + "one two three " * 3 + "one two three",
        "漢字  22",  # as wide as four letters
    ]
    fitted, dropped = table.fitted(44)
    assert (dropped, list(fitted.headers)) == ([], ["name", "n", "kind", "text"])
    assert all(len(line) <= 44 for line in fitted.text().splitlines())
    fitted, dropped = table.fitted(30)
    assert (dropped, list(fitted.headers)) == (["kind", "n"], ["name", "text"])
    shown = section_text(table, 30).splitlines()
    assert shown[-1] == "(30 columns have no room for: kind, n)"
    assert " ".join(line[6:] for line in shown[2:-2]).split() == ["one", "two", "three"] * 4
    facts = section_text({"label": "word " * 12}, 40).splitlines()
    assert all(len(line) <= 40 and line[7:].startswith("word") for line in facts)


def test_results_fit_the_terminal_they_are_printed_on():
    """A real one, of 80 columns."""
    code = 'import zoo; print(zoo.compare("lenet5")); print(repr(zoo.compare("lenet5")))'
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, env=environment)
    assert process.wait(120) == 0
    os.close(theirs)
    lines = os.read(ours, 100_000).decode().replace("\r", "").splitlines()
    os.close(ours)
    assert all(len(line) <= 80 for line in lines)
    assert "(80 columns have no room for: reported by the paper" in lines[-1]
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]

"""The pages with commands: what these print now is what the pages say."""

import difflib
import importlib.util
import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).resolve().parent.parent / "docs"
PINNED = dict(
    line.split("==")
    for line in (DOCS.parent / "constraints.txt").read_text().splitlines()
    if "==" in line
)


def load():
    spec = importlib.util.spec_from_file_location("outputs", DOCS / "outputs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OUTPUTS = load()


def sections(text):
    return re.split(
        r"^(?=#{1,3} )",
        re.sub(r"^(>>>|\.\.\.|\$).*\n", "", text, flags=re.MULTILINE),
        flags=re.MULTILINE,
    )


@pytest.mark.parametrize("page", [path.name for path in OUTPUTS.PAGES])
def test_the_outputs_on_a_page_are_those_of_its_commands(page):
    if page == "counting.md" and torch.__version__.partition("+")[0] != PINNED["torch"]:
        pytest.skip("what other counters print is on the page for the pinned torch")
    text = (DOCS / page).read_text(encoding="utf-8")
    now = OUTPUTS.updated(text)
    assert not list(
        difflib.unified_diff(text.splitlines(), now.splitlines(), page, "now", n=0, lineterm="")
    )


@pytest.mark.parametrize("page", [path.name for path in OUTPUTS.PAGES])
def test_bold_figures_are_in_an_output_of_their_section(page):
    found = 0
    for section in sections((DOCS / page).read_text(encoding="utf-8")):
        outputs = "\n".join(match[2] for match in OUTPUTS.FENCE.finditer(section))
        for figure in re.findall(r"\*\*([\d.,]*\d)\*\*", section):
            found += 1
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d.,]*\d)", outputs), (
                f"{section.splitlines()[0]}: {figure}"
            )
    assert found >= 10


def test_the_course_has_every_figure():
    text = (DOCS / "course.md").read_text(encoding="utf-8")
    headings = "\n".join(re.findall(r"^### (.*)$", text, re.MULTILINE))
    for figure in (
        "28x28x6",
        "24x24x10",
        "(N - F) / stride + 1",
        "(F - 1) / 2",
        "76 parameters",
        "7x7",
        "LeNet-5",
        "CONV1-MAXPOOL1-NORM1",
        "34,944",
        "60 million",
        "8 layers",
        "512, 1024, 512",
        "138 million",
        "96 MB",
        "22 layers",
        "5 million",
        "12 times",
        "854M",
        "672",
        "358M",
        "152",
        "plain",
        "wide ResNet-50",
        "Stochastic depth",
        "50 times",
        "0.5 MB",
        "tanh",
        "logarithm",
        "sqrt(2 / n)",
    ):
        assert figure in headings, figure


def test_a_stale_page_is_seen(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "Text **1**.\n\n```console\n"
        "$ zoo profile lenet5_modern --depth 0 | grep -c lenet5_modern\n3\n```\n\n"
        "```pycon\n>>> x = 1\n>>> for i in range(2):\n...     print(x + i)\n7\n```\n"
    )
    assert OUTPUTS.main(["--check", str(page)]) == 1
    assert capsys.readouterr().out == "stale: docs/page.md\n"
    assert OUTPUTS.main([str(page)]) == 0
    assert page.read_text().splitlines()[4] == "2"
    assert page.read_text().splitlines()[-3:] == ["1", "2", "```"]
    capsys.readouterr()
    assert OUTPUTS.main(["--check", str(page)]) == 0
    assert capsys.readouterr().out == "the outputs are up to date\n"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("rm -r runs", ValueError),
        ("zoo profile --wrong lenet5", RuntimeError),
        ("zoo profile vvg16", LookupError),
    ],
)
def test_a_command_that_fails_is_an_error(command, error):
    with pytest.raises(error):
        OUTPUTS.shell(command)

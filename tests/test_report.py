"""The page that `zoo compare --html` writes, in a real browser without a head."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner

import zoo
from zoo import registry
from zoo.cli import cli
from zoo.errors import ZooError
from zoo.spec import Result
from zoo.tables import evaluation_protocols, html_report

BROWSER = next(
    filter(
        None,
        map(
            shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        ),
    ),
    None,
)
ODD = "</script><script>alert(1)</script><b>&quot;"
NETWORKS = [
    "alexnet",
    "vgg16",
    "googlenet",
    "resnet34",
    "resnet50",
    "resnet152",
    "densenet121",
    "lenet5",
    "caffenet",
]
needs_browser = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium or Chrome: apt-get install chromium"
)


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    """The page of some networks, one of which has a name that would end a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", {})
        family = registry.family("lenet5")
        odd = replace(
            family.variants["lenet5"],
            results=(
                Result("top-5 error %", 50.0, "ILSVRC-2012 val", "single network, 10 crops", ODD),
            ),
        )
        zoo.register_family(replace(family, variants={ODD: odd}))
        target = tmp_path_factory.mktemp("report") / "report.html"
        zoo.compare([*NETWORKS, ODD], layers=True).to_html(target)
    return target


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    switches = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=switches)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, html):
    """A function that opens the page; at the end nothing must have gone wrong in it,
    and nothing been asked of anyone.
    """
    opened, said, asked = [], [], []

    def load(width=1280, height=900, scheme="light", address=""):
        page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(html.as_uri() + address)
        page.wait_for_selector(".bubble")
        opened.append(page)
        return page

    yield load
    for page in opened:
        page.close()
    assert said == []
    assert [address.partition("#")[0] for address in asked] == [html.as_uri()] * len(opened)


def names(page):
    return page.locator("#table tbody tr td:first-child").all_inner_texts()


def bubbles(page):
    return {bubble.get_attribute("data-name") for bubble in page.locator(".bubble").all()}


def protocol(page, text):
    page.select_option(
        "#protocol",
        label=next(
            label for label in page.locator("#protocol option").all_inner_texts() if text in label
        ),
    )


@needs_browser
def test_the_page_shows_all_networks(open_page):
    page = open_page()
    assert names(page) == [*NETWORKS, ODD]
    assert page.locator("#count").inner_text() == "10 networks"
    assert page.locator("#table thead th").all_inner_texts()[0].startswith("name")
    cells = page.locator("#table tbody tr").nth(1).locator("td").all_inner_texts()
    assert cells[:8] == [
        "vgg16",
        "2015",
        "16",
        "3x224x224",
        "138,357,544",
        "15,470,264,320",
        "30,940,528,640",
        "527.80",
    ]
    assert page.locator("#table tbody tr b").count() == 0, "names are text"


@needs_browser
def test_sorting(open_page):
    page = open_page()
    header = page.get_by_role("columnheader", name="parameters")
    assert header.get_attribute("aria-sort") == "none"
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    params = {row.name: row.params for row in zoo.compare(NETWORKS).rows} | {ODD: 60_000}
    assert [params[name] for name in names(page)] == sorted(params.values())
    header.get_by_role("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert [params[name] for name in names(page)] == sorted(params.values(), reverse=True)
    page.get_by_role("columnheader", name="name").get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "none"
    assert names(page)[-4:] == ["resnet34", "resnet50", "resnet152", "vgg16"], "in natural order"
    page.get_by_role("columnheader", name="reported").get_by_role("button").click()
    assert names(page)[:3] == ["resnet152", "densenet121", "resnet50"], "of the chart's protocol"
    assert names(page)[-1] == "caffenet", "nothing reported: last"
    page.select_option("#protocol", "-1")
    assert names(page)[-1] == "caffenet"


@needs_browser
def test_filtering_reaches_the_table_and_the_chart(open_page):
    page = open_page()
    protocol(page, "top-5 (ILSVRC-2012 val; single network, 10 crops)")
    before = bubbles(page)
    assert before == {
        "alexnet",
        "googlenet",
        "resnet34",
        "resnet50",
        "resnet152",
        "densenet121",
        ODD,
    }
    page.fill("#filter", "ResNet 2016")
    assert names(page) == ["resnet34", "resnet50", "resnet152"]
    assert page.locator("#count").inner_text() == "3 of 10 networks"
    assert bubbles(page) == {"resnet34", "resnet50", "resnet152"}
    page.fill("#filter", "nothing of the kind")
    assert names(page) == []
    assert bubbles(page) == set()
    assert not page.locator("#chart").is_visible(), "no empty panel"
    assert page.locator("#instead").inner_text() == "No network has all these words."
    page.fill("#filter", "")
    assert (len(names(page)), bubbles(page)) == (10, before)


@needs_browser
def test_protocols_are_never_in_one_chart(open_page):
    page = open_page()
    shown = {}
    options = page.locator("#protocol optgroup option").all_inner_texts()
    for label in options:
        page.select_option("#protocol", label=label)
        shown[label.partition(" – ")[0]] = bubbles(page)
    assert shown["top-5 (ILSVRC-2012 val; single network, dense, S=256, Q=256)"] == {"vgg16"}
    assert shown["top-1 (ILSVRC-2012 val; single network, single crop)"] == {"densenet121"}
    for label, found in shown.items():
        for name in found - {ODD}:
            results = zoo.info(name).variant.results
            assert label in [str(evaluation_protocols.protocol(each)) for each in results]
    protocol(page, "single network, many scales")
    assert (
        page.locator("#left-out").inner_text()
        == "7 networks of the table reported nothing under this one."
    )


@needs_browser
def test_the_table_shows_the_protocol_of_the_chart(open_page):
    page = open_page()

    def reported():
        cells = page.locator("#table tbody tr td:last-child").all_inner_texts()
        return dict(zip(names(page), cells, strict=True))

    protocol(page, "top-5 (ILSVRC-2012 val; single network, 10 crops)")
    assert reported()["googlenet"] == "9.15 top-5 error %", "the protocol stands above the table"
    assert {name for name, text in reported().items() if text} == bubbles(page)
    shows = page.locator("#table-shows")
    assert shows.inner_text() == (
        "Reported: only top-5 (ILSVRC-2012 val; single network, 10 crops), as in the chart."
    )
    page.select_option("#protocol", "-1")
    assert reported()["vgg16"] == zoo.compare("vgg16").rows[0].reported
    assert shows.inner_text().startswith("Reported: by each paper in its own way")
    assert bubbles(page) == {*NETWORKS, ODD}, "parameters against operations need no results"
    assert page.locator("#plot-title").inner_text() == "Parameters against operations"


@needs_browser
def test_protocols_are_grouped_by_data_set(open_page):
    page = open_page()
    groups = page.locator("#protocol optgroup")
    labels = [group.get_attribute("label") for group in groups.all()]
    assert len(set(labels)) == len(labels)
    assert {"ILSVRC-2012 val", "MNIST test"} <= set(labels)
    for label, group in zip(labels, groups.all(), strict=True):
        for text in group.locator("option").all_inner_texts():
            assert f"({label}; " in text


@needs_browser
def test_a_filter_never_leaves_an_empty_panel(open_page):
    page = open_page()
    protocol(page, "top-5 (ILSVRC-2012 val; single network, 10 crops)")
    page.fill("#filter", "vgg16")
    assert bubbles(page) == {"vgg16"}
    assert (
        page.locator("#instead")
        .inner_text()
        .endswith("shown is top-1 (ILSVRC-2012 val; single network, dense, S=256, Q=256).")
    )
    page.fill("#filter", "caffenet")
    assert bubbles(page) == {"caffenet"}
    assert page.locator("#instead").inner_text().endswith("shown is parameters against operations.")
    page.fill("#filter", "")
    assert page.locator("#instead").inner_text() == ""
    assert "googlenet" in bubbles(page)


@needs_browser
def test_each_network_has_an_address(open_page):
    page = open_page(address="#vgg16")
    assert page.get_by_role("dialog", name="vgg16").is_visible()
    page.get_by_role("button", name="Close").click()
    assert page.evaluate("location.hash") == ""
    page.locator(".bubble[data-name=googlenet]").click()
    assert page.evaluate("location.hash") == "#googlenet"
    page.keyboard.press("Escape")
    page.evaluate("location.hash = '#lenet5'")
    page.wait_for_selector("#details[open]")
    assert page.locator("#details-title").inner_text() == "lenet5"


@needs_browser
def test_the_dialog_has_paper_link_departures_and_the_sizes_of_the_parts(open_page):
    page = open_page(address="#vgg16")
    info = zoo.info("vgg16")
    assert page.locator("#paper").inner_text() == f"{info.paper} {info.paper.url}"
    assert page.locator("#paper a").get_attribute("href") == "https://arxiv.org/abs/1409.1556"
    assert page.locator("#note").inner_text() == "Variant: D"
    page.locator("#notes summary").click()
    assert page.locator("#notes-text h3").all_inner_texts() == ["Departures"]
    assert (
        page.locator("#notes-text li").first.inner_text().startswith("Initialisation: section 3.1")
    )
    parts = page.locator("#shape-box svg").get_attribute("aria-label")
    assert parts == (
        "stage1 64x112x112, stage2 128x56x56, stage3 256x28x28, stage4 512x14x14, stage5 512x7x7, "
        "fc6 4096, fc7 4096, head 1000"
    )


@needs_browser
def test_the_dialog_has_the_picture_of_the_block(open_page):
    page = open_page(address="#googlenet")
    assert not page.is_visible("#picture svg")
    page.click("#picture summary")
    assert page.is_visible("#picture svg")
    assert "inception3a of googlenet" in page.inner_text("#picture summary")
    words = page.locator("#picture svg text").all_text_contents()
    assert {"5x5 conv, 32", "3x3 max pool", "concatenate", "256x28x28"} <= set(words)


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_clipped(open_page, width):
    page = open_page(width)
    outside = """() => {
      const box = document.querySelector("#chart svg").getBoundingClientRect();
      return [...document.querySelectorAll("#chart svg text, #chart svg circle")].filter(each => {
        const own = each.getBoundingClientRect();
        return own.left < box.left || own.right > box.right || own.top < box.top || own.bottom > box.bottom;
      }).map(each => each.textContent || each.parentNode.dataset.name);
    }"""
    for place in page.locator("#protocol option").all():
        page.select_option("#protocol", place.get_attribute("value"))
        assert page.evaluate(outside) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = page.evaluate(
            "(box => box.scrollWidth <= box.clientWidth)(document.querySelector('#box'))"
        )
        assert box == (width == 1280), "a narrow table scrolls in its box"
    page.select_option("#protocol", "-1")
    assert page.locator("#sizes .size").count() == 0, "areas mean nothing there"
    protocol(page, "top-5 (ILSVRC-2012 val; single network, 10 crops)")
    assert page.locator("#sizes .size").all_inner_texts() == [
        "2 M parameters",
        "20 M parameters",
        "60 M parameters",
    ]


@needs_browser
def test_a_click_on_a_bubble_opens_the_layers(open_page):
    page = open_page()
    protocol(page, "top-5 (ILSVRC-2012 val; single network, 10 crops)")
    assert not page.locator("#details").is_visible()
    page.locator(".bubble[data-name=googlenet]").click()
    assert page.get_by_role("dialog", name="googlenet").is_visible()
    rows = [line.split("\t") for line in page.locator("#layers tbody tr").all_inner_texts()]
    wanted = zoo.compare("googlenet", layers=True).rows[0].layers
    assert len(rows) == len(wanted) > 50
    assert [row[0].split(" (")[0] for row in rows] == [
        each.path.rpartition(".")[2] for each in wanted
    ]
    assert [row[3:5] for row in rows] == [[f"{each.params:,}", f"{each.macs:,}"] for each in wanted]
    assert (
        "9.15 top-5 error % (ILSVRC-2012 val; single network, 10 crops), Table 3"
        in page.locator("#results").inner_text()
    )
    page.get_by_role("button", name="Close").click()
    assert not page.locator("#details").is_visible()


@needs_browser
def test_a_click_on_a_row_opens_the_layers(open_page):
    page = open_page()
    page.locator("#table tbody tr").nth(1).locator("td").nth(4).click()
    assert page.get_by_role("dialog", name="vgg16").is_visible()
    page.keyboard.press("Escape")
    page.locator("#table tbody tr").nth(9).locator("button").click()
    assert page.locator("#details-title").inner_text() == ODD


@needs_browser
@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_alone_can_do_it(open_page, key):
    page = open_page()

    def tab_to(selector):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never reached {selector}")

    tab_to("#filter")
    page.keyboard.type("densenet")
    tab_to("#protocol")
    tab_to(".bubble[data-name=densenet121]")
    assert page.locator("#tip").is_visible(), "the focus shows the details"
    focused = page.evaluate(
        "getComputedStyle(document.activeElement.querySelector('circle')).strokeWidth"
    )
    assert focused == "4px", "the focus is visible"
    page.keyboard.press(key)
    assert page.get_by_role("dialog", name="densenet121").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.name") == "densenet121", (
        "back where it was"
    )
    tab_to("th:nth-child(6) button")
    page.keyboard.press(key)
    assert page.locator("#table th:nth-child(6)").get_attribute("aria-sort") == "ascending"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
    tab_to("td button")
    page.keyboard.press(key)
    assert page.get_by_role("dialog", name="densenet121").is_visible()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_only_the_table_scrolls_sideways(open_page, scheme):
    page = open_page(375, 740, scheme)
    fits = (
        "document.documentElement.scrollWidth <= innerWidth && document.body.scrollWidth "
        "<= innerWidth"
    )
    assert page.evaluate(fits)
    assert page.evaluate(
        "(box => box.scrollWidth > box.clientWidth)(document.getElementById('box'))"
    )
    page.locator(".bubble").last.click()
    assert page.locator("#details").is_visible()
    assert page.evaluate(fits)
    page.get_by_role("button", name="Close").click()
    light = (
        sum(
            map(
                int,
                re.findall(
                    r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")
                )[:3],
            )
        )
        > 384
    )
    assert light == (scheme == "light")


@needs_browser
def test_another_width_draws_the_chart_anew(open_page):
    page = open_page()
    wide = page.locator("#chart svg").bounding_box()["width"]
    page.set_viewport_size({"width": 500, "height": 900})
    for _ in range(
        100
    ):  # wait_for_function would evaluate text in the page, which its security policy forbids
        drawn = page.evaluate("document.querySelector('#chart svg').viewBox.baseVal.width")
        if drawn < 500:
            break
        page.wait_for_timeout(50)
    assert drawn < 500
    assert page.locator("#chart svg").bounding_box()["width"] < 500 < wide


# ---------------------------------------------------------------- what needs no browser


def test_the_page_names_no_address_but_those_of_the_papers(html):
    text = html.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    papers = {zoo.info(name).paper.url for name in NETWORKS}
    assert set(re.findall(r'(?:https?:)?//[\w-]+\.[^"\s]*', text)) == papers
    assert not re.search(r"<(link|script|img|iframe)[^>]*(src|href)=\"(?!data:)", text)
    assert text.count("</script>") == 2, "no name ends the script"


def test_the_data_in_the_page_are_those_of_the_table():
    comparison = zoo.compare(["alexnet", "resnet50"])
    data = json.loads(re.search(r'id="data">(.*?)</script>', comparison.to_html(), re.DOTALL)[1])
    assert [row["cells"] for row in data["rows"]] == comparison.cells()
    assert data["titles"] == list(comparison.titles.values())
    assert [row["layers"] for row in data["rows"]] == [[], []]


def test_the_page_opens_with_the_protocol_of_the_table():
    for words, wanted in (("", "10 crops"), ("top-1 single crop", "single network, single crop")):
        text = zoo.compare(["resnet50", "densenet121"], protocol=words).to_html()
        data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
        assert wanted in data["protocols"][data["first"]]["text"]


@pytest.mark.parametrize("name", zoo.list_models())
def test_readings_and_departures_are_all_there(name):
    doc = zoo.info(name).doc
    notes = html_report.notes(doc)
    assert notes[0][0] == "h"
    assert "h" not in {
        kind for kind, text in notes if not text.startswith(("Reading", "Departure"))
    }
    words = " ".join(text for _, text in notes).split()
    assert doc.replace("\n- ", "\n").split()[-len(words) :] == words
    assert html_report.notes("A network.\n\nNo list.") == []


def test_zoo_compare_writes_it(tmp_path):
    target = tmp_path / "report.html"
    done = CliRunner().invoke(cli, ["compare", "lenet5*", "--html", str(target)])
    assert done.exit_code == 0
    assert done.stdout == f"{target}: 2 networks\n"
    assert target.read_text(encoding="utf-8") == zoo.compare("lenet5*", layers=True).to_html()


def test_an_error_leaves_no_half_written_page(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("the old page")
    comparison = zoo.compare("lenet5")
    with pytest.raises(
        ZooError, match=r"none/report\.html cannot be written: No such file or directory"
    ):
        comparison.to_html(tmp_path / "none" / "report.html")

    def full(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(ZooError, match=r"report\.html cannot be written: No space left on device"):
        comparison.to_html(target)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text() == "the old page"


def test_the_template_is_in_the_package():
    assert html_report.TEMPLATE.is_file()
    assert html_report.TEMPLATE.read_text(encoding="utf-8").count("@DATA@") == 1

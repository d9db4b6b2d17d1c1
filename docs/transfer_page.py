"""The tables of what benchmarks/transfer.py measured, from the files that it wrote."""

import json
import statistics
from pathlib import Path
from typing import Any

from zoo.formatting import markdown
from zoo.transfer.choose import advised

BEGIN, END = "<!-- tables: written by docs/build.py -->", "<!-- end of tables -->"
TITLES = {"few": "10", "all": "all"}
Rows = list[dict[str, Any]]


def transfer_page(page: Path, folder: Path) -> str:
    """The page with the tables in their place; as it is where nothing was measured."""
    text = page.read_text(encoding="utf-8")
    found = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    if not found:
        return text
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{tables(found)}\n{end}{after}"


def tables(cells: Rows) -> str:
    parts = []
    for network in dict.fromkeys(each["network"] for each in cells):
        own = [each for each in cells if each["network"] == network]
        strategies = list(dict.fromkeys(row["strategy"] for each in own for row in each["rows"]))
        lines = [line(each, size, strategies) for each in own for size in TITLES]
        headers = ["photos", "per class", *strategies, "`auto` takes"]
        parts += [f"### {network}", markdown(headers, lines, left=("photos", "`auto` takes"))]
        for each in own:
            picture = f"images/transfer/{network}-{each['data']}.png"
            parts.append(f"![Accuracy of a probe on each stage of {network}]({picture})")
    return "\n\n".join(parts)


def line(cell: dict[str, Any], size: str, strategies: list[str]) -> list[str]:
    """Accuracies in per cent: the mean of the draws, their range; the best is bold."""
    rows = [row for row in cell["rows"] if bool(row["per_class"]) == (size == "few")]
    means, texts = {}, {}
    for strategy in strategies:
        shares = [100 * row["accuracy"] for row in rows if row["strategy"] == strategy]
        if shares:
            means[strategy] = statistics.mean(shares)
            around = f" ({min(shares):.1f} to {max(shares):.1f})" if len(shares) > 1 else ""
            texts[strategy] = f"{means[strategy]:.1f}{around}"
    best = max(means.values(), default=0.0)
    shown = [
        f"**{texts[each]}**" if means.get(each) == best else texts.get(each, "")
        for each in strategies
    ]
    per_class = TITLES[size] if size == "few" else f"all {cell['train'] // cell['classes']}"
    images = 10 if size == "few" else cell["train"] / cell["classes"]
    quick = [row["quick_probe"] for row in rows if "quick_probe" in row]
    chosen = [str(advised(images, share)[0]) for share in quick]
    return [f"`{cell['data']}`", per_class, *shown, taken(chosen, means, best)]


def taken(chosen: list[str], means: dict[str, float], best: float) -> str:
    """What `auto` chooses in these draws, and how far below the best that is."""
    texts = []
    for strategy in dict.fromkeys(chosen):
        count = f" ({chosen.count(strategy)} of {len(chosen)})" if len({*chosen}) > 1 else ""
        below = f", {best - means[strategy]:.1f} below" if strategy in means else ""
        texts.append(f"{strategy}{count}{'' if means.get(strategy) == best else below}")
    return "; ".join(texts)

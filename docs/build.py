"""Writes the generated pages: docs/models/<family>.md with the pictures of a network
and its block, the index docs/models/README.md, the table of networks in README.md, and
docs/gpu.md and the tables of docs/transfer.md where there are measurements
(docs/data).

python docs/build.py [FAMILY]...          the index, and all pages or these
python docs/build.py --check [FAMILY]...  says which are stale (exit 1)
"""

import math
import re
import sys
import tomllib
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from diagram import block_svg  # beside this file
from gpu_page import gpu_page
from network_diagram import network_svg
from transfer_page import transfer_page

import zoo
from zoo import registry
from zoo.count.module_table import Row
from zoo.count.profile import Profile
from zoo.formatting import figure, markdown, reference
from zoo.spec import Paper
from zoo.tables.rows import reported
from zoo.tables.verify import HEADERS, Check, Tally

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- networks: written by docs/build.py -->", "<!-- end of networks -->"
LONGEST = 40  # rows of a layer table; longer ones list the stages instead of what is in them
GENERATED = (
    "<!-- written by docs/build.py from the model file and docs/families.toml: edit those -->"
)


def families() -> dict[str, list[str]]:
    """The networks of this package by the model file that they are in, oldest paper
    first, in the order of the file.
    """
    own = {entry.family: name for name, entry in registry.entries().items() if entry.own}
    found = {family: registry.family(name) for family, name in own.items()}
    return {
        family: list(known.variants)
        for family, known in sorted(found.items(), key=lambda item: (item[1].paper.year, item[0]))
    }


def texts() -> dict[str, dict[str, Any]]:
    """What cannot be read off the networks."""
    return tomllib.loads((HERE / "families.toml").read_text(encoding="utf-8"))


def networks(names: list[str]) -> str:
    rows = []
    for known in map(zoo.info, names):
        macs, variant = known.variant.claims.macs, known.variant
        counts = [variant.claims.params, macs, 2 * macs]
        facts = [
            f"`{known.name}`",
            variant.note,
            str(known.paper.year),
            str(variant.depth),
            " and ".join(map(figure, variant.input_shapes())),
        ]
        rows.append([*facts, *map(figure, counts)])
    return markdown(
        ["name", "what", "year", "depth", "input", "parameters", "MACs", "FLOPs"],
        rows,
        left=("name", "what"),
    )


def layouts(names: list[str]) -> str:
    """Under which peers' key names the networks load and export."""
    lines = []
    known = [zoo.info(name) for name in names]
    for peer in sorted({peer for each in known for peer in (*each.layouts, *each.named_by_peers)}):
        own = [(each.layouts[peer], each.name) for each in known if peer in each.layouts]
        for args, group in groupby(own, itemgetter(0)):
            lines.append(f"`{peer}` for {', '.join(f'`{name}`' for _, name in group)}")
            if args:
                given = ", ".join(f"{key}={value!r}" for key, value in args.items())
                lines[-1] += f" (the peer's networks have `{given}`)"
        lines += [
            f"{peer}'s {each.name} is `{each.named_by_peers[peer]}`"
            for each in known
            if peer in each.named_by_peers
        ]
    return f"Key names of peers (`layout=`): {'; '.join(lines)}." if lines else ""


def layers(profile: Profile) -> str:
    """The layers, blocks or stages of a network in order: what holds parameters or
    changes the size. Equal ones share a line.
    """
    rows = listed(profile, 3)
    if len(rows) > LONGEST or not all(row.calls for row in parts(profile, 3)):
        rows = listed(profile, 2)
    whole = profile.rows[0]
    rows.append(
        [
            "the whole network",
            whole.kind,
            figure(first(whole.output)),
            figure(whole.params),
            figure(whole.macs),
        ]
    )
    return markdown(
        ["module", "kind", "output", "parameters", "MACs"], rows, left=("module", "kind")
    )


def listed(profile: Profile, level: int) -> list[list[str]]:
    """The lines of the layer table at a level of the tree."""
    lines: list[tuple[list[str], list[str]]] = []
    size = math.prod(profile.inputs[0][1:])
    for row in parts(profile, level):
        shape = first(row.output)
        if row.params or math.prod(shape) != size:
            cells = [
                contents(profile, row),
                figure(shape),
                figure(row.params),
                figure(row.macs),
            ]
            if lines and lines[-1][1] == cells:
                lines[-1][0].append(row.path)
            else:
                lines.append(([row.path], cells))
        size = math.prod(shape)
    rows = []
    for paths, (kind, *figures) in lines:
        if len(paths) > 1:
            rows.append([f"`{paths[0]}` to `{paths[-1]}`", f"{kind}, each", *figures])
        else:
            rows.append([f"`{paths[0]}`", kind, *figures])
    return rows


def first(shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of an output, of several the first, without the batch."""
    return first(shape[0]) if shape and isinstance(shape[0], tuple) else shape[1:]


def parts(profile: Profile, level: int) -> list[Row]:
    """The modules of this level of the tree, and those above it that have none below
    them; not what is there for nothing.
    """
    used = [row for row in profile.rows if row.calls or row.params]
    inner = {row.path.rpartition(".")[0] for row in used}
    return [
        row
        for row in used
        if row.level == level or (0 < row.level < level and row.path not in inner)
    ]


def contents(profile: Profile, row: Row) -> str:
    """The class of a module; of a sequence, the classes of what is in it."""
    if row.kind != "Sequential":
        return row.kind
    kinds = [each.kind for each in profile.rows if each.path.rpartition(".")[0] == row.path]
    runs = [(kind, len(list(run))) for kind, run in groupby(kinds)]
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in runs)


def claims(names: list[str]) -> str:
    """What the paper prints against what is computed. Networks with equal lines share
    one, and so do a network's outputs that agree.
    """
    lines: dict[tuple[str, ...], list[str]] = {}
    checks: list[Check] = []
    failed = []
    for verification in map(zoo.verify, names):
        checks += verification.checks
        if not verification.ok:
            failed.append(verification.name)
        outputs: dict[str, int] = {}
        for check, cells in zip(verification.checks, verification.cells(), strict=True):
            if check.quantity.startswith("output of ") and check.agrees and not check.reason:
                outputs[check.source] = outputs.get(check.source, 0) + 1
            elif check.source != "exact":
                lines.setdefault(tuple(cells), []).append(verification.name)
        for where, many in outputs.items():
            ending = "s" if many > 1 else ""
            claim, cell = f"output of {many} module{ending}", f"{many} shape{ending}"
            row = (claim, where, cell, "the same", "agrees")
            lines.setdefault(row, []).append(verification.name)
    rows = [
        [
            "all" if len(names) > 1 and who == names else ", ".join(f"`{name}`" for name in who),
            *cells,
        ]
        for cells, who in lines.items()
    ]
    table = markdown(["network", *HEADERS], rows, left=("network", "claim", "where", "verdict"))
    wrong = f"; these do not hold: {', '.join(failed)}" if failed else ""
    total = (
        f"With the exact counts of parameters and MACs that is {len(checks)} claims: "
        f"{Tally.of(checks)}{wrong} (`zoo verify {names[0]}`)."
    )
    return f"{table if rows else 'The paper prints nothing that could be recomputed.'}\n\n{total}"


def results(names: list[str]) -> str:
    """What the papers report, the values of one measurement in one line."""
    lines: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for name in names:
        for result in zoo.info(name).variant.results:
            lines.setdefault((name, result.data, result.protocol, result.source), []).append(
                (result.metric, result.value)
            )
    rows = []
    for (name, data, protocol, where), found in lines.items():
        kinds, measure = zip(*(metric.split(" ", 1) for metric, _ in found), strict=True)
        rows.append(
            [
                f"`{name}`",
                f"{' / '.join(kinds)} {measure[0]}",
                " / ".join(str(value) for _, value in found),
                data,
                protocol,
                where,
            ]
        )
    left = ("network", "measure", "data", "protocol", "where")
    return (
        markdown(["network", "measure", "value", "data", "protocol", "where"], rows, left=left)
        if rows
        else ""
    )


def pictures(family: str, text: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """The pictures of a family by the name of their file, each with what it shows: a
    whole network, and the block that shows best what was new, where there is one.
    """
    if not text.get("picture", True):  # of what runs again and again for each word
        return {}
    name, path = text["block"]
    model: Any = zoo.create(name, device="meta").eval()
    example = zoo.info(name).variant.example_inputs(device="meta")
    labels = text.get("labels")
    svg = network_svg(model, *example, f"{name}, the whole network", labels=labels)
    found = {f"{family}.svg": (f"`{name}`", svg)}
    if path:
        block, seen = model.get_submodule(path), []
        hook = block.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        model(*example)
        hook.remove()
        title, fold = f"{path} of {name}", text.get("fold", True)
        svg = block_svg(block, seen[0], title, labels=labels, fold=fold)
        found[f"{family}_block.svg"] = (f"`{path}` of `{name}`", svg)
    return found


def readings(doc: str, paper: Paper, names: list[str]) -> str:
    """The head of a model file without its first sentence and its citation, as
    Markdown.
    """
    _, cited, *others = doc.split("\n\n")
    numbers = [number for number in (paper.arxiv, paper.doi) if number and number in cited]
    end = max((cited.find(number) + len(number) for number in numbers), default=0)
    sources = re.sub(r"^(\s*\(\d{4}\))?[.,;]\s*", "", cited[end:])
    text = "\n\n".join([sources[:1].upper() + sources[1:], *others]).strip()
    text = re.sub(
        r"^(Readings?( and departures)?|Departures?)\n(?=- )",
        r"### \1\n\n",
        text,
        flags=re.MULTILINE,
    )
    text = re.sub(r"\bdocs/(\S+\.md)", r"[docs/\1](../\1)", text)
    known = rf"(?<![\w.])({'|'.join(names)})(?!\w)"
    return "`".join(
        re.sub(known, r"`\1`", part) if i % 2 == 0 else part
        for i, part in enumerate(text.split("`"))
    )


def page(family: str, names: list[str], text: dict[str, Any]) -> dict[str, str]:
    """The files of a family: its page, and its pictures."""
    known = registry.family(names[0])
    head = known.doc.partition("\n\n")[0].partition(": ")
    table_of = text.get("layers", text["block"][0])
    drawn = pictures(family, text)
    shown = [
        f"![{what.replace('`', '')}](images/{file})\n\n{what}, drawn from the module as it runs "
        "in evaluation."
        for file, (what, _) in drawn.items()
    ]
    body = [
        GENERATED,
        f"# {text['title']}",
        head[2][:1].upper() + head[2][1:] if head[1] else head[0],
        f"{reference(known.paper)} Code: [zoo/models/{family}.py](../../zoo/models/{family}.py).",
        f"**What was new.** {' '.join(text['new'].split())}",
        *shown,
        "## Networks",
        networks(names),
        "MACs are multiply-adds of convolutions and matrix products for one image, FLOPs twice as "
        f"many (`zoo compare {names[0]}`).",
        *filter(None, [layouts(names)]),
        f"## Layers of `{table_of}`",
        layers(zoo.profile(table_of)),
        f"All modules: `zoo profile {table_of} --depth 9`.",
        "## Printed and computed",
        claims(names),
        "## Sources, readings and departures",
        readings(known.doc, known.paper, names),
        "## Results that the paper reports",
        results(names) or "None for these networks.",
    ]
    if recipe := text.get("recipe"):
        body += [
            "## Recipe of the paper",
            markdown(
                ["what", "how"], [list(item) for item in recipe.items()], left=("what", "how")
            ),
        ]
    images = {f"images/{file}": svg for file, (_, svg) in drawn.items()}
    return {f"{family}.md": "\n\n".join(body) + "\n", **images}


def index(known: dict[str, list[str]], text: dict[str, dict[str, Any]]) -> str:
    papers, rows = [], []
    for family, names in known.items():
        papers.append(
            [
                f"[{text[family]['title']}]({family}.md)",
                str(len(names)),
                reference(zoo.info(names[0]).paper),
            ]
        )
        for each in map(zoo.info, names):
            counts = [each.variant.depth, each.variant.claims.params, each.variant.claims.macs]
            rows.append(
                [
                    f"[`{each.name}`]({family}.md)",
                    str(each.paper.year),
                    *map(figure, counts),
                    reported(each.variant.results),
                ]
            )
    body = [
        GENERATED,
        "# All networks",
        f"{len(rows)} networks of {len(known)} papers, each with a page: what was new, the block, "
        "the layers, printed against computed.",
        markdown(["page", "networks", "paper"], papers, left=("page", "paper")),
        "Depth: layers with weights on the longest path, as the paper counts them. MACs: "
        "multiply-adds of convolutions and matrix products for one image of the network's own size. "
        "Errors are the papers' own, and comparable only where data and protocol are the same. "
        "`zoo verify --all --markdown` holds all of this to the papers' figures.",
        markdown(
            ["name", "year", "depth", "parameters", "MACs", "reported by the paper"],
            rows,
            left=("name", "reported by the paper"),
        ),
    ]
    return "\n\n".join(body) + "\n"


def readme(known: dict[str, list[str]], text: dict[str, dict[str, Any]]) -> str:
    """README.md with a small table of all papers and networks in its place."""
    rows = []
    for family, names in known.items():
        title = f"[{text[family]['title']}](docs/models/{family}.md)"
        rows.append(
            [title, str(zoo.info(names[0]).paper.year), " ".join(f"`{name}`" for name in names)]
        )
    table = markdown(["paper", "year", "networks"], rows, left=("paper", "networks"))
    before, begin, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{table}\n{end}{after}"


def read(path: Path) -> str:
    """The text of a file; "" where there is none."""
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def main(arguments: list[str]) -> int:
    check, chosen = (
        "--check" in arguments,
        [argument for argument in arguments if argument != "--check"],
    )
    known, text = families(), texts()
    for family in [*chosen, *(known.keys() ^ text.keys())]:
        if family not in known or family not in text:
            print(
                f"{family}: no networks of such a model file are registered, or docs/families.toml "
                "lacks its text",
                file=sys.stderr,
            )
            return 2
    files = {"README.md": index(known, text)}
    for family in chosen or known:
        files |= page(family, known[family], text[family])
    root = HERE / "models"
    old = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    stale = [
        name
        for name, content in files.items()
        if name not in old or (root / name).read_text(encoding="utf-8") != content
    ]
    gone = [] if chosen else sorted(old - files.keys())
    single = {HERE / "gpu.md": gpu_page(HERE / "data" / "gpu")}  # "": no such page
    if (transfer := HERE / "transfer.md").is_file():
        single[transfer] = transfer_page(transfer, HERE / "data" / "transfer")
    if README.is_file():
        single[README] = readme(known, text)
    outdated = [path for path, content in single.items() if content != read(path)]
    if check:
        found = [f"stale: docs/models/{name}" for name in [*stale, *gone]]
        found += [f"stale: {path.relative_to(HERE.parent).as_posix()}" for path in outdated]
        print("\n".join(found) or "the pages are up to date")
        return int(bool(found))
    for path in outdated:
        if single[path]:
            path.write_text(single[path], encoding="utf-8")
        else:
            path.unlink()
    for name in gone:
        (root / name).unlink()
    for name in stale:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(files[name], encoding="utf-8")
    print(
        f"{len(stale)} of {len(files)} pages and pictures written to docs/models, "
        f"{len(gone)} removed"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The card of a run, README.md in its folder: what was trained from what on what, what
it is worth, and the commands that use and repeat it.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.files import write
from zoo.formatting import Printable, Section, Table, markdown
from zoo.training.metrics import PARTS
from zoo.training.recipe import Recipe
from zoo.training.recipe_files import load_recipe
from zoo.training.run_text import outcome, run_sections, run_title

if TYPE_CHECKING:
    from zoo.training.run import Run

CARD = "README.md"
PICTURES = {  # of the folder, where they are there: what they show
    "curves.png": "the metrics over the epochs",
    "confusion.png": "which classes are taken for which",
    "mistakes.png": "the worst mistakes, as the network sees the images",
}
REPEATED = "finetune"  # the recipe whose differences a repeated run is given


def write_card(run: Run, report: Printable | None = None) -> None:
    """Write README.md into the run's folder: with what the task reports, and the
    pictures that are there. Raises ZooError when it cannot be written.
    """
    write(run.path / CARD, "\n".join(_lines(run, report)) + "\n")


def _lines(run: Run, report: Printable | None) -> Iterator[str]:
    yield f"# {run_title(run.config)}"
    yield from _section(_facts(run))
    yield "\n## Result"
    yield from _section({run.metric: outcome(run)[run.metric]} if run.history else {})
    for section in report.sections() if report else run_sections(run)[1:]:
        yield from _section(section)
    for name, title in PICTURES.items():
        if (run.path / name).is_file():
            yield f"\n![{title}]({name})"
    yield "\n## Use it\n\n```sh"
    yield from _commands(run, report)
    yield "```\n\n## Recipe\n\n```toml"
    yield from _toml(run.config["recipe"])
    yield "```"


def _facts(run: Run) -> dict[str, str]:
    config = run.config
    data, weights = config.get("data", {}), config.get("initial_weights", "")
    words = {**PARTS, "test": "test"}
    counts = {key.partition("_"): data[key] for key in data if key.partition("_")[0] in words}
    unit = next((what for _, _, what in counts), "examples")
    skipped = len(data.get("skipped") or ())
    versions = {
        "zoo": config.get("zoo_version", ""),
        "torch": config.get("torch_version", ""),
        "Python": platform.python_version(),
    }
    licence = config.get("initial_licence", "")
    facts = {
        "network": config.get("architecture") or config.get("module", ""),
        "starts from": "random weights" if weights == "random" else weights,
        "licence of these weights": licence,
        "data": data.get("source", ""),
        unit: ", ".join(f"{count:,} for {words[part]}" for (part, _, _), count in counts.items()),
        "split": data.get("split", ""),
        "left out": f"{skipped} files that cannot be read (config.json names them)"
        if skipped
        else "",
        "fingerprint of the data": data.get("fingerprint") or "not known: no files or tensors",
        "seed": str(config.get("seed", "")),
        "computed on": config.get("device", ""),
        "threads": str(config.get("threads", "")),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items() if number),
    }
    return {label: text for label, text in facts.items() if text}


def _section(section: Section) -> Iterator[str]:
    """As Markdown, after an empty line."""
    yield ""
    if isinstance(section, str):
        yield section
    elif isinstance(section, Table):
        yield markdown(section.headers, section.rows, section.left)
    else:
        yield from (f"- **{label}**: {text}" for label, text in section.items())


def _commands(run: Run, report: Printable | None) -> Iterator[str]:
    path = shlex.quote(str(run.path))
    if report is not None:
        lines = {
            run.config.get("use", "").format(run=path): "use it",
            f"zoo eval {path}": "test it again on the same data",
            f"zoo eval {path} --data DATA": "or on others",
        }
        width = max(map(len, lines))
        yield from (f"{line:{width}}  # {text}" for line, text in lines.items() if line)
    if command := repeating(run.config):
        yield f"{shlex.join(command)}  # repeat it"
    else:
        yield "# repeat it in Python: the network or its data were objects of the process"


def repeating(config: Mapping[str, Any]) -> list[str]:
    """The command that trains the same again; [] where a part of it was an object of
    its process.
    """
    data, weights = config.get("data", {}), config.get("initial_weights", "")
    name, tag = config.get("architecture", ""), config.get("tag", "")
    if not name or not data.get("reopen") or weights == "the module's own":
        return []
    what = [name, "--from-scratch"]
    if tag and weights == f"{name}.{tag}":
        what = [weights]
    elif weights != "random":
        what = [name, "--checkpoint", weights]
    base, recipe = load_recipe(REPEATED).to_dict(), config["recipe"]
    changes: list[str] = []
    for key in Recipe().to_dict():
        value = recipe.get(key, base[key])
        option = f"--{key.replace('_', '-')}"
        if value in (base[key], None):
            continue
        if isinstance(value, bool):
            changes.append(option if value else f"--no-{option[2:]}")
        else:
            changes += [option, _text(key, value)]
    known = ["--data", data["reopen"], "--seed", str(config.get("seed", 0))]
    args = config.get("begun", {}).get("model_args", {}).items()
    known += [word for key, value in args for word in ("--model-arg", f"{key}={value}")]
    return ["zoo", "finetune", *what, *known, *changes]


def _text(key: str, value: Any) -> str:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    between = "x" if key == "input_size" else ","
    return between.join(map(str, value)) if listed else str(value)


def _toml(recipe: Mapping[str, Any]) -> Iterator[str]:
    """The fields that are given; those that are not have the default."""
    for key, value in recipe.items():
        if value is not None:
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"

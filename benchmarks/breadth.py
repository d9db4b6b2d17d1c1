"""Every network that torchvision and timm can build, counted on the meta device: which
operators are not counted, which networks not.

`python breadth.py RESULTS.jsonl [--every 20] [--processes 2] [--timeout 300] [--check]
[PATTERN …]` appends a line per network to the file, leaves out those that are in it
(`--again` repeats those that were not fully counted), and prints the summary of
docs/breadth.md.
"""

from __future__ import annotations

import argparse
import fnmatch
import inspect
import json
import re
import signal
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import zoo
from zoo.count.isolation import first_line
from zoo.errors import ZooError

Result = dict[str, Any]  # a line of the file


def networks() -> list[tuple[str, str]]:
    """Library and name of each."""
    import timm
    import torchvision

    return [("torchvision", name) for name in torchvision.models.list_models()] + [
        ("timm", name) for name in timm.list_models()
    ]


def build(library: str, name: str) -> nn.Module:
    import timm
    import torchvision

    if library == "timm":
        return timm.create_model(name, pretrained=False)
    without = {
        "weights": None,
        "weights_backbone": None,
        "init_weights": False,
    }  # no numbers are needed
    builder = torchvision.models.get_model_builder(name)
    taken = inspect.signature(builder).parameters
    options = {option: value for option, value in without.items() if option in taken}
    return builder(**options)


def example(library: str, name: str, model: nn.Module) -> tuple[Any, ...]:
    """The arguments of one forward pass: one image of the network's own size, or what
    else it takes.
    """
    if library == "timm":
        return (torch.empty(1, *model.pretrained_cfg["input_size"], device="meta"),)
    image = torch.empty(1, 3, 224, 224, device="meta")
    place = type(model).__module__
    if ".detection" in place:
        return ([image[0]],)
    if ".optical_flow" in place:
        return image, image
    if ".video" in place:
        return (torch.empty(1, 3, 16, 224, 224, device="meta"),)  # 16 pictures
    return (torch.empty(1, 3, 299, 299, device="meta") if "inception" in name else image,)


def count(library: str, name: str, timeout: int, check: bool) -> Result:
    """What came of one network: its counts, or the stage that failed and why; with
    `check`, torch's count of multiply-adds too.
    """
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(timeout)
    start = time.perf_counter()
    result: Result = {"library": library, "name": name, "built": "meta", "stage": "build"}
    try:
        try:
            with torch.device("meta"):
                model = build(library, name)
        except (RuntimeError, NotImplementedError) as error:  # its constructor asks for values
            result |= {"built": "cpu", "why": first_line(error)}
            model = build(library, name)
        result["stage"] = "count"
        profile = zoo.profile(model, inputs=example(library, name, model))
        result |= {
            "stage": "done",
            "inputs": profile.inputs,
            "params": profile.params,
            "macs": profile.macs,
        }
        result["uncounted"] = dict(profile.uncounted)
        if check:
            with FlopCounterMode(display=False) as counter:
                model.to("meta").eval()(*example(library, name, model))
            result["torch"] = counter.get_total_flops() // 2
    except Exception as error:
        result["error"] = str(error) if isinstance(error, ZooError) else first_line(error)
    finally:
        signal.alarm(0)
    return result | {"seconds": round(time.perf_counter() - start, 2)}


def _too_long(*_: Any) -> None:
    raise TimeoutError("took too long")


# ------------------------------------------------------------------------------ summary


def summary(results: Iterable[Result]) -> Iterable[str]:
    """The tables of docs/breadth.md."""
    by_library = defaultdict(list)
    for result in results:
        by_library[result["library"]].append(result)
    by_library["both"] = [
        result for library in ("torchvision", "timm") for result in by_library[library]
    ]
    yield "| library | networks | counted | of these without an uncounted operator | not counted |"
    yield "|---|---|---|---|---|"
    for library in ("torchvision", "timm", "both"):
        found = by_library[library]
        done = [result for result in found if result["stage"] == "done"]
        full = [result for result in done if not result["uncounted"]]
        of_done, of_all = len(full) / max(len(done), 1), len(full) / max(len(found), 1)
        share = f"{len(full)} ({of_done:.1%}; {of_all:.1%} of all)"
        yield f"| {library} | {len(found)} | {len(done)} | {share} | {len(found) - len(done)} |"
    everything = by_library["both"]
    missing = [result for result in everything if result.get("uncounted")]
    yield (
        "\n| operator that is not counted | calls | networks |\n|---|---|---|"
        if missing
        else "\nOperators that are not counted: none."
    )
    for operator in sorted({operator for result in missing for operator in result["uncounted"]}):
        having = [result for result in missing if operator in result["uncounted"]]
        calls = sum(result["uncounted"][operator] for result in having)
        yield f"| `{operator}` | {calls} | {names(having)} |"
    yield "\n| not counted because | networks | names |\n|---|---|---|"
    reasons: dict[str, list[Result]] = defaultdict(list)
    for result in everything:
        if result["stage"] != "done":
            reasons[f"{result['stage']}: {reason(result)}"].append(result)
    for text, having in sorted(reasons.items(), key=lambda item: -len(item[1])):
        yield f"| {text} | {len(having)} | {names(having)} |"
    checked = [result for result in everything if "torch" in result]
    different = [result for result in checked if result["torch"] != result["macs"]]
    if checked:
        yield (
            f"\nFlopCounterMode counted {len(checked)} of them too, and gives the same "
            f"multiply-adds for {len(checked) - len(different)}."
        )
        if different:
            yield "\n| other multiply-adds | ours | FlopCounterMode | ours / it |"
            yield "|---|---|---|---|"
        for result in different:
            ours, theirs = result["macs"], result["torch"]
            yield f"| {result['name']} | {ours:,} | {theirs:,} | {ours / max(theirs, 1):.4f} |"
    on_cpu = [result for result in everything if result["built"] == "cpu"]
    yield (
        "\nBuilt with real tensors, because the constructor asks for values: "
        f"{len(on_cpu)} ({names(on_cpu) or 'none'})."
    )
    yield f"Time of all together: {sum(result['seconds'] for result in everything):.0f} s."


def names(results: list[Result]) -> str:
    return ", ".join(f"`{result['name']}`" for result in results)


def reason(result: Result) -> str:
    """The error without what differs from network to network."""
    return re.sub(r"^\S+ (cannot|does)", r"\1", result["error"]).replace("|", "\\|")


def open_(result: Result, again: bool, check: bool) -> bool:
    """Whether a network that is in the file is to be counted once more."""
    done = result["stage"] == "done"
    return (again and not (done and not result["uncounted"])) or (
        check and done and "torch" not in result
    )


def read(path: Path) -> dict[tuple[str, str], Result]:
    """The last line of each network in the file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return {(result["library"], result["name"]): result for result in map(json.loads, lines)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="file of lines of JSON, to which is added")
    parser.add_argument("patterns", nargs="*", default=["*"], help="names")
    parser.add_argument("--every", type=int, default=1, help="only every n-th network")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--timeout", type=int, default=300, help="seconds per network")
    parser.add_argument(
        "--check",
        action="store_true",
        help="compare the multiply-adds with those of torch's FlopCounterMode",
    )
    parser.add_argument("--again", action="store_true", help="repeat what was not fully counted")
    options = parser.parse_args()
    every = networks()
    known = read(options.results)
    wanted = [
        one
        for one in every
        if any(fnmatch.fnmatch(one[1], pattern) for pattern in options.patterns)
    ][:: options.every]
    todo = [
        one for one in wanted if one not in known or open_(known[one], options.again, options.check)
    ]
    options.results.parent.mkdir(parents=True, exist_ok=True)
    with (
        options.results.open("a", encoding="utf-8") as file,
        ProcessPoolExecutor(options.processes) as pool,
    ):
        futures = [pool.submit(count, *one, options.timeout, options.check) for one in todo]
        for future in track(
            as_completed(futures), "counting", len(futures), console=Console(stderr=True)
        ):
            print(json.dumps(future.result()), file=file, flush=True)
    known = read(options.results)
    print("\n".join(summary([known[one] for one in every if one in known])))


if __name__ == "__main__":
    main()

"""All figures that need a GPU, in one run.

python benchmarks/gpu.py [SECTION]... [--out FOLDER] [--tiny]

Each section is a process of its own, of three minutes at most, and writes
FOLDER/SECTION.json, row by row as SECTION.part.json until it is through. One whose file
is there is left out; one that fails leaves SECTION.error.txt, and the next begins.
docs/build.py makes docs/gpu.md from such files in docs/data/gpu.

Needs torch, torchvision and what the package imports; nothing else is read, and the
package itself need not be installed. --tiny: smallest sizes, on the CPU too, to try the
script; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
import traceback
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("training", "speed", "matrix", "memory", "batches", "compiled", "probe", "tests")
SECONDS = 180  # of a section, after which it is ended
GOAL = 150  # of a section, after which it begins no further row


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(NAMES))
    parser.add_argument("--out", type=Path, help="default: build/gpu, with --tiny build/gpu-tiny")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if unknown := set(chosen.sections) - {*NAMES}:
        parser.error(f"no section {', '.join(sorted(unknown))}: expected {', '.join(NAMES)}")
    chosen.out = chosen.out or ROOT / "build" / ("gpu-tiny" if chosen.tiny else "gpu")
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.here:
        return measure(chosen.sections[0], chosen.out, chosen.tiny)
    with tempfile.TemporaryDirectory() as folder:
        environment = found_by_name(Path(folder))
        codes = [
            run(name, chosen.out, chosen.tiny, environment) for name in chosen.sections or NAMES
        ]
    return int(any(codes))


def run(name: str, out: Path, tiny: bool, environment: dict[str, str]) -> int:
    """A section in a process of its own, as it may run out of memory or hang."""
    if (out / f"{name}.json").exists():
        print(f"{name}: there already", flush=True)
        return 0
    error, part = out / f"{name}.error.txt", out / f"{name}.part.json"
    for before in (error, part):
        before.unlink(missing_ok=True)
    command = [sys.executable, __file__, name, "--out", str(out), "--here"]
    command += ["--tiny"] if tiny else []
    begin = time.perf_counter()
    late = False
    try:
        code = subprocess.run(command, env=environment, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        code, late = 1, True
    if late and part.exists():  # the rows that it has
        part.rename(out / f"{name}.json")
        code = 0
    elif code and not error.exists():
        reason = f"not through after {SECONDS} s" if late else f"ended with code {code}"
        error.write_text(f"{reason}\n", encoding="utf-8")
    outcome = error.read_text(encoding="utf-8").splitlines()[-1] if code else "done"
    print(f"{name}: {outcome} ({time.perf_counter() - begin:.0f} s)", flush=True)
    return code


def measure(name: str, out: Path, tiny: bool) -> int:
    """The rows of a section, written one by one."""
    begin = time.perf_counter()
    try:
        import torch
        from gpu_sections import SECTIONS  # beside this file

        gpu = torch.cuda.is_available()
        if not gpu and not tiny:
            raise RuntimeError("there is no GPU (--tiny tries the script without one)")
        section = SECTIONS[name]
        found = {
            "section": name,
            "number": NAMES.index(name),
            "about": " ".join((section.__doc__ or "").split()),
            "device": torch.cuda.get_device_name() if gpu else "CPU",
            "torch": torch.__version__,
            "tiny": tiny,
            "complete": False,
            "seconds": 0.0,
            "rows": [],
        }
        rows = section(tiny)
        while time.perf_counter() - begin < GOAL:
            row = next(rows, None)
            if row is None:
                found["complete"] = True
                break
            found["rows"].append(row)
            found["seconds"] = round(time.perf_counter() - begin, 1)
            print("  ", *(f"{key} {value};" for key, value in row.items()), flush=True)
            write(out / f"{name}.part.json", found)
        write(out / f"{name}.part.json", found)
        (out / f"{name}.part.json").rename(out / f"{name}.json")
    except Exception:
        (out / f"{name}.error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        return 1
    return 0


def write(path: Path, found: dict) -> None:
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def found_by_name(folder: Path) -> dict[str, str]:
    """The environment of a process that imports this source tree. The networks' names
    come from installed metadata: where the package is not installed, they are written
    into the folder.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    paths = [str(ROOT)]
    try:
        metadata.distribution(project["name"])
    except metadata.PackageNotFoundError:
        about = folder / f"{project['name'].replace('-', '_')}-0.dist-info"
        about.mkdir()
        lines = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0\n"
        (about / "METADATA").write_text(lines, encoding="utf-8")
        groups = [
            f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items())
            for group, points in project["entry-points"].items()
        ]
        (about / "entry_points.txt").write_text("\n".join(groups), encoding="utf-8")
        paths.append(str(folder))
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *([before] if before else [])])}


if __name__ == "__main__":
    sys.exit(main())

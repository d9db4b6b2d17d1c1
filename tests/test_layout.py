"""The rules of the architecture: who may import whom, what stays lazy, and one entry
line per row.
"""

import ast
import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import zoo
from zoo.paths import PACKAGE

ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
BASE = {"errors", "paths", "checkpoints", "file_kinds", "files", "formatting", "inputs", "spec"}
BASE |= {"optimizers"}
ROOMS = {  # what each may import, beside itself; api and cli join them
    **{name: {"errors", "inputs"} for name in BASE},
    "file_kinds": {"checkpoints"},
    "files": {"errors", "checkpoints", "file_kinds"},
    "registry": BASE,
    "weights": BASE,
    "layers": BASE,
    "interfaces": BASE | {"layers"},
    "figures": {"spec"},  # as papers print them
    "models": {"spec", "errors", "figures", "interfaces", "layers"},
    "count": BASE,
    "data": BASE,
    "training": BASE,
    "decoding": BASE | {"data"},
    "exporting": BASE | {"interfaces"},
    "tasks": BASE | {"training", "data", "decoding", "interfaces"},
    "transfer": BASE | {"training", "data", "count", "tasks"},
    "tables": BASE | {"count"},
}
ROOMS["__main__"] = {"cli"}
API = {*ROOMS, "api"} - {"models"}
LAZY = {"torchvision", "matplotlib", "plotly", "sklearn", "accelerate"}
LAZY |= {"PIL", "fvcore", "timm", "scipy", "pandas"}
STDLIB_ONLY = {*BASE, "registry", "__init__"}
MAX_LINES, MAX_COLUMNS = 320, 100


def part(path):
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path, top_level_only=False):
    """Dotted names that a file imports; those under `if TYPE_CHECKING:` do not
    count.
    """
    found = []

    def visit(node, inside_function=False):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            if isinstance(child, (ast.Import, ast.ImportFrom)) and not (
                top_level_only and inside_function
            ):
                if isinstance(child, ast.Import):
                    found.extend(alias.name for alias in child.names)
                else:
                    assert child.level == 0, f"{path}: relative import"
                    found.extend(f"{child.module}.{alias.name}" for alias in child.names)
            visit(
                child, inside_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            )

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def parts_imported(path):
    parts = {name.split(".")[1] for name in imports(path) if name.startswith("zoo.")}
    return {p for p in parts if (PACKAGE / p).is_dir() or (PACKAGE / f"{p}.py").is_file()}


def relative(path):
    return str(path.relative_to(PACKAGE))


def file_of(name):
    """The file of this package that a dotted name is in; None for another package's."""
    parts = name.split(".")
    if parts[0] != "zoo":
        return None
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_import_directions(path):
    own = part(path)
    if own != "cli":
        allowed = API if own in ("api", "__init__") else ROOMS[own] | {own}
        assert parts_imported(path) <= allowed
    if own == "models":
        others = [name for name in imports(path) if name.startswith("zoo.models")]
        assert not others, "a model file imports no other model"
    tops = {name.split(".")[0] for name in imports(path, top_level_only=True)}
    assert not tops & LAZY, "import it inside the function that needs it"
    if own in STDLIB_ONLY:
        assert tops <= sys.stdlib_module_names | {"zoo"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_lines(path):
    """Short files of short lines; tables of rows, marked `# fmt: off`, are neither."""
    lines, wide, table = [], [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        table = (table or line.strip() == "# fmt: off") and line.strip() != "# fmt: on"
        if not table:
            lines.append(line)
            wide += [line] if len(line) > MAX_COLUMNS else []
    assert len(lines) <= MAX_LINES
    assert not wide


def test_the_rules_see_a_breach(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("import torchvision\ndef f():\n    from zoo.models import vgg\n    import PIL\n")
    assert imports(bad) == ["torchvision", "zoo.models.vgg", "PIL"]
    assert imports(bad, top_level_only=True) == ["torchvision"]
    assert parts_imported(bad) == {"models"}


def cycle(graph):
    """One circle of a graph as a list of its nodes; [] when there is none."""
    done, way = set(), []

    def walk(node):
        if node in way:
            return [*way[way.index(node) :], node]
        if node in done:
            return []
        way.append(node)
        found = next(filter(None, map(walk, sorted(graph.get(node, ())))), [])
        way.pop()
        done.add(node)
        return found

    return next(filter(None, map(walk, sorted(graph))), [])


def test_no_circles_between_rooms():
    graph = {}
    for path in FILES:
        if part(path) != "__init__":
            graph.setdefault(part(path), set()).update(parts_imported(path) - {part(path)})
    assert not cycle(graph)


def test_no_circles_between_files():
    """Not even through imports inside functions."""
    graph = {}
    for path in FILES:
        if part(path) != "__init__":
            found = {file_of(name) for name in imports(path)} - {
                None,
                path,
                PACKAGE / "__init__.py",
            }
            graph[relative(path)] = {relative(other) for other in found}
    assert not cycle(graph)


def test_the_search_for_circles_finds_one():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not cycle({"a": {"b", "c"}, "b": {"c"}})


def test_no_public_function_has_the_name_of_a_module():
    modules = {module.name for module in pkgutil.iter_modules([str(PACKAGE)])}
    assert not set(zoo.__all__) & modules


def test_every_public_name_loads_and_is_documented():
    for name in zoo.__all__:
        value = getattr(zoo, name)
        assert name == "__version__" or value.__doc__
    assert zoo.create_model is zoo.create
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = zoo.nothing


def test_one_entry_line_per_row():
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][
        "zoo.models"
    ]
    rows = {}
    for path in sorted((PACKAGE / "models").glob("*.py")):
        if path.stem != "__init__":
            module = __import__(f"zoo.models.{path.stem}", fromlist=["FAMILY"])
            rows |= dict.fromkeys(module.FAMILY.variants, f"zoo.models.{path.stem}:FAMILY")
    assert entries == rows
    assert set(
        zoo.list_models(family=[path.stem for path in (PACKAGE / "models").glob("*.py")])
    ) == set(rows), "reinstall the package"


def loaded_by(code):
    heavy = ("torch", "torchvision", "click", "rich", "numpy")
    probe = f"import sys; {code}; print(*sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()


def test_what_stays_unimported():
    assert (
        loaded_by(
            "import zoo; zoo.list_models('resnet*', exclude_filters='*cifar*', pretrained=False); zoo.is_model('vgg16')"
        )
        == []
    )
    command = "from click.testing import CliRunner; from zoo.cli import cli; r = CliRunner().invoke(cli, {}); assert not r.exit_code"
    assert loaded_by(command.format(["list"])) == ["click"]
    assert loaded_by(command.format(["list", "--long"])) == ["click", "rich"]
    assert loaded_by(command.format(["list", "--pretrained"])) == ["click", "rich"]
    assert loaded_by(command.format(["info", "resnet50"])) == ["click"]
    assert "torchvision" not in loaded_by("import zoo; zoo.create('vgg11')")


def test_a_source_tree_without_installation_says_so(tmp_path):
    (tmp_path / "zoo").symlink_to(PACKAGE)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import zoo; zoo.list_models()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path, env={}
    )
    assert "classic-zoo is not installed; run `pip install -e .`" in done.stderr


def test_no_file_of_this_package_is_left_unlisted():
    """Every folder of the package is a package, so that the wheel has it."""
    folders = {path.parent for path in FILES}
    assert all((folder / "__init__.py").is_file() for folder in folders)
    assert Path(PACKAGE / "py.typed").is_file()

"""Writes zoo/catalogue.json, from which `zoo list --long` prints without importing
torch.

python docs/catalogue.py          writes it
python docs/catalogue.py --check  says whether it is stale (exit 1)
"""

import json
import sys

import zoo
from zoo import registry
from zoo.api.catalogue import FILE, summarise


def content() -> str:
    """A line per network of this package."""
    own = [name for name in zoo.list_models() if registry.entry(name).own]
    lines = [f'"{name}": {json.dumps(summarise(name))}' for name in own]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main(arguments: list[str]) -> int:
    new = content()
    if "--check" in arguments:
        stale = not FILE.is_file() or FILE.read_text(encoding="utf-8") != new
        print(f"stale: zoo/{FILE.name}" if stale else f"zoo/{FILE.name} is up to date")
        return int(stale)
    FILE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Writes zoo/catalogue.json, from which `zoo list --long` and `zoo info` print without
importing torch.

python docs/catalogue.py          writes it
python docs/catalogue.py --check  says whether it is stale (exit 1)
"""

import json
import sys

from zoo.api.catalogue import FILE, written


def content() -> str:
    """A line per network and model file, so that changes are easy to see."""
    parts = []
    for part, entries in written().items():
        lines = ",\n".join(f'"{name}": {json.dumps(each)}' for name, each in entries.items())
        parts.append(f'"{part}": {{\n{lines}\n}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


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

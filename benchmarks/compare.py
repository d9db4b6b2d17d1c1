"""The whole catalogue in one table: from the claims, as a process against `import
torch`; and built and counted again.
"""

import statistics
import sys
from pathlib import Path

from pairs import process, python, seconds

zoo = str(Path(sys.executable).with_name("zoo"))
table, torch = process(zoo, "compare", "*", "--csv"), python("import torch")
table(), torch()
pairs = [(seconds(table), seconds(torch)) for _ in range(9)]
more = sorted(ours - theirs for ours, theirs in pairs)
print(
    f"zoo compare '*': {statistics.median(ours for ours, _ in pairs):.2f} s, "
    f"import torch {statistics.median(theirs for _, theirs in pairs):.2f} s; "
    f"{statistics.median(more):.2f} s more ({more[0]:.2f} to {more[-1]:.2f}); goal <= 2",
    flush=True,
)
recount = statistics.median(
    seconds(process(zoo, "compare", "*", "--recount", "--csv")) for _ in range(3)
)
print(f"zoo compare '*' --recount: {recount:.1f} s; goal <= 60", flush=True)

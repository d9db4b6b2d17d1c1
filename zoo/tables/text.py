"""How figures, tables and papers are written as text."""

from __future__ import annotations

from zoo.count.text import figure as figure
from zoo.count.text import markdown as markdown
from zoo.count.text import mib as mib
from zoo.count.text import plain as plain
from zoo.count.text import separated as separated
from zoo.spec import Paper


def reference(paper: Paper) -> str:
    """A paper as one cites it, in Markdown, with a link for its DOI and one for its
    arXiv identifier.
    """
    links = [f"[doi:{paper.doi}](https://doi.org/{paper.doi})"] * bool(paper.doi)
    links += [f"[arXiv:{paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"] * bool(paper.arxiv)
    return f"{paper.authors}. *{paper.title}*. {', '.join([paper.venue, str(paper.year), *links])}."

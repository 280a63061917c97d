"""Every page in docs: its programs run, its code is in the usual form, its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.docs.guide import DOCS, Block, Guide, anchors

GUIDES = [Guide(path.name) for path in sorted(DOCS.glob("*.md"))]
PYTHON = [
    pytest.param(block, id=f"{guide.path.name}:{block.line}")
    for guide in GUIDES
    for block in guide.blocks
    if block.language == "python"
]

_LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.path.name)
def test_every_python_block_runs(guide: Guide):
    """The blocks of a page are one program, from the first to the last."""
    guide.run()


@pytest.mark.parametrize("block", PYTHON)
def test_python_is_in_the_usual_form(block: Block):
    """Each block is formatted as our own code is."""
    ruff = [sys.executable, "-m", "ruff", "format", "--diff", "--line-length", "100", "-"]
    done = subprocess.run(ruff, input=block.code, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.path.name)
def test_links_lead_somewhere(guide: Guide):
    """Each file, and each heading in it, that a page links to is there."""
    for link in _LINK.findall(guide.text):
        if link.startswith("http"):
            continue
        name, _, anchor = link.partition("#")
        target = guide.path.parent / name if name else guide.path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link

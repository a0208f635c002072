"""Every `python` and `console` block of the docs runs, as a newcomer would run them: from the top of the page."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pictures import write_pictures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KNOWN = {"python", "console", "text"}


def blocks(page):
    text = page.read_text()
    return [(found[1], found[2], text.count("\n", 0, found.start()) + 2) for found in BLOCK.finditer(text)]


def runs(page):
    return any(kind in {"python", "console"} for kind, _, _ in blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_says_what_it_is(page):
    assert {kind for kind, _, _ in blocks(page)} <= KNOWN
    assert page.read_text().count("\n```") % 2 == 0


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.name)
def test_the_blocks_run(page, tmp_path, monkeypatch, request):
    write_pictures(tmp_path / "photos", 60, size=32)
    if "s3://shardkit" in page.read_text():
        options = request.getfixturevalue("seaweedfs").storage_options
        monkeypatch.setenv("AWS_ENDPOINT_URL", options["endpoint"])
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION", "ALLOW_HTTP"):
            monkeypatch.setenv(f"AWS_{name}", options[name.lower()])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    namespace = {"__name__": "__main__"}
    for kind, text, line in blocks(page):
        if kind == "python":
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), namespace)
        elif kind == "console":
            commands = [part[2:] for part in text.splitlines() if part.startswith("$ ")]
            assert commands
            for command in commands:
                subprocess.run(["bash", "-euc", command], check=True, timeout=120)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target

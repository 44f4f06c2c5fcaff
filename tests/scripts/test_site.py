"""The site in one build: every page is there, every relative link leads somewhere, nothing asks another host."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from conftest import SCRIPTS
from test_docs import ROOT, Requests

PAGES = ["explore-mobilenet-mini", "explore-resnet-mini", "leaderboard", "report-mobilenet-mini", "report-resnet-mini"]
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]


class Links(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.targets += [values[key] for key in ("href", "src") if values.get(key)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("mkdocs", "mkdocstrings", "matplotlib", "plotly"):
        pytest.importorskip(module, reason="the site needs pip install 'channel-bench[train,report,docs]'")
    folder = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, SCRIPTS / "site.py", "--out", folder, "--replicates", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return folder


def test_the_pages_stand_beside_the_documentation_and_are_linked(site):
    home = (site / "index.html").read_text()
    for name in PAGES:
        assert (site / f"{name}.html").stat().st_size > 10_000 and f'href="{name}.html"' in home
    page = (site / "leaderboard.html").read_text()
    assert "resnet-mini: recomputed from scores" in page and '<th scope="col">rank</th>' in page
    assert (site / "explanation" / "leaderboard" / "index.html").exists()


def test_every_relative_link_leads_somewhere(site):
    dead, followed = [], 0
    for page in site.rglob("*.html"):
        links = Links()
        links.feed(page.read_text())
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or not parts.path:
                continue
            # 404.html is shown at any address, so its links begin at the root.
            there = site / parts.path.lstrip("/") if target.startswith("/") else page.parent / unquote(parts.path)
            followed += 1
            there = there / "index.html" if there.is_dir() else there
            if not there.exists():
                dead.append((str(page.relative_to(site)), target))
    assert dead == [] and followed > 500


def test_nothing_asks_another_host(site):
    for page in site.rglob("*.html"):
        requests = Requests()
        text = page.read_text()
        requests.feed(text)
        assert requests.hosts == [], page
        if page.stem in PAGES:  # which have scripts of their own: the browser itself forbids them to ask anybody
            assert re.search(r'Content-Security-Policy" content="default-src \'none\'', text), page

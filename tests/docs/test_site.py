"""The site is built without a warning, and its pages hang together."""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from environment import ROOT

import qwex_jupyter
from qwex_jupyter import errors

pytestmark = [pytest.mark.once, pytest.mark.tier("all")]

INDEX = "docs/index"
# What a page gets by itself when it is shown, by tag and attribute.
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"), ("source", "src")}


class Reader(HTMLParser):
    """The ids of a page, and what it leads to.

    Attributes:
        ids: What a link can name behind its `#`.
        links: Where its `a` lead.
        loads: What it loads.
        pictures: The classes of those it shows, by the name of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.pictures: dict[str, str] = {}
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Takes what it has."""
        values = {name: value or "" for name, value in attrs}
        self.ids.update(values[name] for name in ("id", "name") if name in values)
        self.loads += [values[name] for of, name in LOADED if of == tag and name in values]
        if tag == "img":
            self.pictures[values["src"].rpartition("/")[2]] = values.get("class", "")
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``python3 docs`` builds it."""
    pytest.importorskip("sphinx", reason="no sphinx: pip install -e '.[docs]'")
    spec = importlib.util.spec_from_file_location("building", ROOT / "docs" / "__main__.py")
    assert spec is not None and spec.loader is not None
    building = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(building)
    folder = tmp_path_factory.mktemp("site") / "pages"
    assert building.build(sys.executable, folder) == 0, "a warning is a failure; see above"
    assert list(folder.parent.iterdir()) == [folder], "nothing is left beside it"
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Reader]:
    """The pages of the site."""
    return {path: Reader(path) for path in sorted(site.rglob("*.html"))}


def named() -> Iterator[str]:
    """The documents of this repository that are pages, by their names in the site."""
    for pattern in ("*.md", "docs/**/*.md", "notebooks/*.ipynb", "skills/**/*.md"):
        for path in ROOT.glob(pattern):
            if path.name != "README.md":
                yield path.relative_to(ROOT).with_suffix("").as_posix()


def test_every_document_is_a_page(site: Path) -> None:
    """Pages, notebooks and what lies beside the README are in the site, and nothing else is."""
    made = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    assert made - {"index", "genindex", "py-modindex", "search"} == set(named())
    assert len(made) > 20


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Reader]) -> None:
    """Files and anchors that a page links to are in the site; other sites are asked by https."""
    wrong = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if parts.scheme not in ("https", "mailto") or (not parts.path and not parts.netloc):
                    wrong.append(f"{path.name}: {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            known = pages[target].ids if target in pages else set()
            inside = target.is_relative_to(site.resolve()) and target.is_file()
            if not inside or (anchor and anchor not in known):
                wrong.append(f"{path.name}: {link}")
    assert not wrong


def test_a_page_loads_nothing_from_elsewhere(site: Path, pages: dict[Path, Reader]) -> None:
    """Pictures, scripts and styles come with the site: it can be read without a network."""
    for path, page in pages.items():
        for address in page.loads:
            parts = urlsplit(address)
            assert not parts.scheme or parts.scheme == "data", f"{path.name}: {address}"
            assert not parts.netloc, f"{path.name}: {address}"
            if parts.path and not parts.scheme:
                target = (path.parent / unquote(parts.path)).resolve()
                assert target.is_file(), f"{path.name}: {address}"
                assert target.is_relative_to(site.resolve()), f"{path.name}: {address}"


def test_every_page_is_in_the_navigation(site: Path, pages: dict[Path, Reader]) -> None:
    """From the first page each other one can be reached by the links beside the text."""
    index = site / f"{INDEX}.html"
    assert f'url={INDEX}.html"' in (site / "index.html").read_text()
    text = index.read_text()
    tree = text[text.index('class="sidebar-tree"') : text.index("</aside>")]
    for name in named():
        if name != INDEX:
            assert f'href="{_from_index(name)}"' in tree, name


def _from_index(name: str) -> str:
    folder, _, rest = name.partition("/")
    return f"{rest}.html" if folder == "docs" else f"../{name}.html"


def test_the_search_knows_every_page(site: Path) -> None:
    """The index of the search has each page under its title."""
    text = (site / "searchindex.js").read_text()
    found = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert set(found["docnames"]) == set(named())
    assert all(found["titles"])
    assert (site / "search.html").is_file()


def test_every_picture_has_its_dark_variant(site: Path, pages: dict[Path, Reader]) -> None:
    """Each picture of the repository that a page shows is there twice; the theme shows one."""
    ours = {path.name for path in (ROOT / "docs" / "images").glob("*.png")}
    shown = set()
    for path, page in pages.items():
        for name, look in page.pictures.items():
            if name in ours:
                dark = name.endswith("-dark.png")
                assert ("only-dark" if dark else "only-light") in look, f"{path.name}: {name}"
                if not dark:
                    assert f"{Path(name).stem}-dark.png" in page.pictures, f"{path.name}: {name}"
                shown.add(name)
    assert len(shown) > 12


def test_what_can_be_imported_is_documented(site: Path, pages: dict[Path, Reader]) -> None:
    """Each public name, each error, and each verb of a runner has its place in the reference."""
    wanted = {f"qwex_jupyter.{name}" for name in qwex_jupyter.__all__}
    assert wanted <= pages[site / "docs/api/python.html"].ids
    tree = {
        f"{errors.__name__}.{name}"
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, BaseException)
    }
    assert len(tree) > 10
    assert tree <= pages[site / "docs/api/errors.html"].ids
    from qwex_jupyter.runners.base import Runner

    verbs = {f"{Runner.__module__}.Runner.{name}" for name in vars(Runner) if name[0] != "_"}
    verbs -= {f"{Runner.__module__}.Runner.polled_every"}
    assert verbs <= pages[site / "docs/api/runners.html"].ids

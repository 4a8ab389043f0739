"""The documentation as a site: its reference is what the program says, and no link is dead."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.conftest import ROOT

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(((?!https?:|mailto:)[^)\s]+)\)")


@pytest.fixture(scope="module")
def site() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_of_docs", ROOT / "docs" / "build_site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(site: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    site.PAGES = folder
    site.gather()
    return folder


def test_the_reference_is_what_the_program_says(site: ModuleType) -> None:
    """If it isn't: `python docs/build_site.py --reference`."""
    for name, text in site.reference().items():
        assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == text


def test_the_reference_has_every_command_and_section(site: ModuleType) -> None:
    from gptft.cli.app import COMMANDS
    from gptft.config.sections import Config

    options, settings = (site.reference()[name] for name in ("options.md", "settings.md"))
    named = {title.split()[0] for title in re.findall(r"^## gptft (.+)$", options, re.M)}
    assert named == {*COMMANDS}
    sections = {*re.findall(r"^## (\w+)$", settings, re.M)}
    assert sections >= {"model", "tokenizer", "data", "training", "samples"}
    assert sections <= {*Config.model_fields}


def slugs(text: str) -> set[str]:
    """The anchors that headings of a page get."""
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M):
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", title)
        slug = re.sub(r"[^\w\s-]", "", plain.lower()).strip()
        found.add(re.sub(r"[-\s]+", "-", slug))
    return found


def test_no_link_of_a_page_is_dead(pages: Path) -> None:
    checked = 0
    for page in pages.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.S)):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.is_file(), f"{page.relative_to(pages)}: {link}"
            assert target.is_relative_to(pages.resolve())
            if anchor and target.suffix == ".md":
                assert anchor in slugs(target.read_text(encoding="utf-8")), f"{page.name}: {link}"
            checked += 1
    assert checked > 100


def test_every_page_of_docs_is_in_the_navigation() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    named = {page for entry in config["nav"] for page in entry.values()}
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT).as_posix() in named
    assert config["theme"]["font"] is False  # fonts would come from a foreign host


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zensical") is None, reason="zensical isn't installed")
def test_it_builds_strictly_and_asks_for_nothing() -> None:
    done = subprocess.run(
        ["python", "docs/build_site.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    html = ROOT / "build" / "site" / "html"
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"https?://", text), page

"""What every page must be, and how tests read one."""

import base64
import hashlib
import re
from html import unescape

from tests.report.test_html import Walker


def check_page(page: str, *, lang: str = "en") -> Walker:
    """A page that is balanced, asks for nothing, and runs no script but the one it allows."""
    walker = Walker(page)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert page.count("<script") == len(scripts) <= 1
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = "".join(f"; script-src 'sha256-{digest}'" for digest in digests)
    assert f"content=\"default-src 'none'; style-src 'unsafe-inline'{allowed}\"" in page
    assert not re.search(r"(src|href)=[\"'](?!#)|url\(|https?://|@import|<link|<img", page)
    assert not any(name.startswith("on") for name, _ in walker.attributes)
    ids = [value for name, value in walker.attributes if name == "id"]
    assert len(ids) == len({*ids})
    targets = {(value or "")[1:] for name, value in walker.attributes if name == "href"}
    assert targets <= {*ids}
    assert {value for name, value in walker.attributes if name == "data-table"} <= {*ids}
    assert f'<html lang="{lang}">' in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", page)
    return walker


def rows_of(page: str, table: str) -> list[list[str]]:
    """The cells of a table by its id, without its head."""
    found = re.search(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', page, re.S)
    assert found is not None
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", found[1], re.S)
    cells = (re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.S) for row in rows)
    return [[unescape(re.sub("<[^>]+>", "", cell)) for cell in row] for row in cells]


def heads_of(page: str, table: str) -> list[str]:
    found = re.search(rf'<table id="{table}".*?</thead>', page, re.S)
    assert found is not None
    return [unescape(one) for one in re.findall(r"<th [^>]*>(.*?)</th>", found[0])]


def texts_of(page: str) -> list[list[tuple[str, str]]]:
    """The coloured texts: of each, its pieces with their classes."""
    found = re.findall(r'<div class="scored".*?>(.*?)</div>', page, re.S)
    spans = (re.findall(r"<span([^>]*)>(.*?)</span>", text, re.S) for text in found)
    return [
        [(re.sub(r'.*class="([^"]*)".*|.*', r"\1", given), unescape(t)) for given, t in text]
        for text in spans
    ]

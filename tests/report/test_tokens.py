"""The page of pieces: whole, self-contained, and true to the pieces."""

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

from gptft.inspection.cost import MeasuredText, measure_text
from gptft.report.tokens import tokens_html
from gptft.tokenization.framing import Framing
from gptft.tokenization.tokenizer import load_tokenizer
from gptft.tokenization.trainers import train_bpe
from tests.conftest import SENTENCES

PICO = load_tokenizer("pico")
TEXT = 'Мороз и 😀 中文 <script>alert("&amp;")</script>\n\té\u0301\x1b[31m'


class Reader(HTMLParser):
    """Collects titles, text by tag, and tags that never close."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.titles: list[str] = []
        self.open: list[str] = []
        self.labels: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        found = dict(attrs)
        if title := found.get("title"):
            self.titles.append(title)
        if tag not in ("meta", "br"):
            self.open.append(tag if found.get("class") != "whole" else "whole")

    def handle_endtag(self, tag: str) -> None:
        last = self.open.pop()
        assert last == tag or (last, tag) == ("whole", "bdi")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "bdi":
            self.labels.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def measured(text: str = TEXT) -> MeasuredText:
    return measure_text(PICO, text)


def test_each_piece_says_its_id_bytes_and_place() -> None:
    one = measured()
    reader = read(tokens_html([one]))
    assert len(reader.titles) == len(one.tokens)
    raws = [re.search(r"bytes ([0-9a-f ]+);", title) for title in reader.titles]
    assert bytes.fromhex("".join(raw[1] for raw in raws if raw)).decode() == TEXT
    for title, piece in zip(reader.titles, one.tokens, strict=True):
        assert title == (
            f"id {piece.id}; bytes {piece.bytes.hex(' ')}; at bytes {piece.start}–{piece.end}, "
            f"characters {piece.start_character}–{piece.end_character}"
        )


def test_text_is_shown_and_never_obeyed() -> None:
    page = tokens_html([measured()])
    labels = "".join(read(page).labels)
    assert "<script" not in page
    assert "\x1b" not in page
    assert '·<script>alert("&amp;")</script>↵→' in labels
    assert "⟨f0⟩⟨9f⟩⟨98⟩⟨80⟩" in labels
    assert '<bdi class="whole">😀</bdi>' in page
    assert '<bdi class="whole">中</bdi>' in page


def test_nothing_is_asked_of_the_network() -> None:
    page = tokens_html([measured()])
    assert not re.search(r"https?:|url\(|@import|<link|<img|<iframe|src=", page)
    assert "default-src 'none'" in page
    assert not any(name.startswith("on") for name, _ in read(page).attributes)
    assert "prefers-color-scheme: dark" in page


def test_the_numbers_stand_beside_the_pieces() -> None:
    page = unescape(tokens_html([measured("Мороз и солнце")]))
    cost = measured("Мороз и солнце").cost
    assert f'<td class="number">{cost.num_tokens}</td>' in page
    assert f'<td class="number">{26 / 3:.2f}</td>' in page
    assert "14 characters (" in page
    assert "1,024 (its own)" in page


def test_several_tokenizers_on_one_page() -> None:
    small = train_bpe(iter(SENTENCES * 4), vocab_size=280, min_frequency=2)
    found = [measured("Мороз"), measure_text(small, "Мороз")]
    page = tokens_html(found)
    assert len(read(page).titles) == sum(len(one.tokens) for one in found)
    assert page.count("<h2>") == 2
    assert "<h2>pico</h2>" in page
    assert "<h2>tokenizer.train</h2>" in page


def test_a_text_that_is_not_kept_and_no_text() -> None:
    changed = MeasuredText("x<y>", measured("Да").tokens, measured("Да").cost, False, None)
    page = tokens_html([changed])
    assert "keep this text byte for byte" in unescape(page)
    assert "x&lt;y&gt;" in page
    assert read(tokens_html([measured("")])).titles == []


def test_what_stands_around_the_text_is_named():
    tokenizer = replace(PICO, framing=Framing((0,), (1,)))
    entries = [PICO.backend.id_to_token(i) for i in (0, 1)]
    page = tokens_html([measure_text(tokenizer, "Да")])
    said = f"A model also sees {entries[0]} (id 0) before it, {entries[1]} (id 1) after it"
    assert said in unescape(page)
    assert "also sees" not in tokens_html([measure_text(PICO, "Да")])

"""Pages of HTML: what a reader sees is the document, whatever the tags are worth."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptft.documents.corpus import find_corpus
from gptft.errors import DataError
from tests.documents.books import documents, left_out, page, write_epub, write_fb2

_WORDS = st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1),
                  min_size=1)  # fmt: skip


_TAGS = ["<p>", "</p>", "<table>", "<tr>", "<td>", "</td>", "</table>", "<li>", "a", " ", "<main>",
         "</main>", "<nav>", "<pre>", "</pre>", "<h1>", "<footer>", "<svg>"]  # fmt: skip


def written(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("<h1>Имя</h1><p>Раз,\n  <b>два</b>,<i> три</i><p>три", "Имя\n\nРаз, два, три\n\nтри"),
        ("<p>a<br>b<br/>c</p>", "a\nb\nc"),
        ("<div>a<div>b</div>c</div>", "a\n\nb\n\nc"),
        ("<ul><li>a<li>b<ul><li>c</ul></ul>d", "a\nb\n\nc\n\nd"),
        ("<pre>  a\n    b  c\n</pre>", "  a\n    b  c"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a\tb\n1\t2"),
        ("<table><tr><td><p>a</p><p>b</p><td>c</table>", "a\n\nb\n\nc"),
        ("<table><tr><td><table><tr><td>a<td>b</table></table>", "a\tb"),
        ("&lt;p&gt; &amp;nbsp; &mdash; &#1046; &nope; a&nbsp;b", "<p> &nbsp; — Ж &nope; a\u00a0b"),
        ("<p>сло&shy;во", "слово"),
        ("<p>a</p></div></b></p></table>b<nope>c</nope>", "a\n\nbc"),
        ("<p>a<!-- b --><?php c ?>d", "ad"),
        ("<p>x</p></body></html><p>и после</p>", "x\n\nи после"),
        ("<header><h1>Имя</h1></header><article>a<footer>их</footer></article>", "Имя\n\na\n\nих"),
        ("просто текст", "просто текст"),
        ("<p>a<p hidden>b<p style='display: none'>c", "a"),
        ("<div role=banner>x</div><p role=note>a</p><div role=navigation>y</div>", "a"),
        ("<ruby>漢<rt>kan</rt></ruby>", "漢"),
        ("<textarea><p>in</textarea><select><option>x</select><button>y</button>a", "a"),
        ("<scr<script>ipt>alert(1)</script>a", "ipt>alert(1)a"),
        ("<math><mi>x</mi></math><svg><text>s</text></svg>a", "a"),
    ],
)  # fmt: skip
def test_what_a_reader_sees(tmp_path: Path, body: str, expected: str):
    assert documents(written(tmp_path / "a.html", body)) == [expected]


def test_what_is_left_out_is_counted(tmp_path: Path):
    text = (
        "<html><head><title>T</title><style>p{}</style><script>head()</script></head><body>"
        "<nav>меню</nav><aside>реклама</aside><p>Текст<img src=a><script>a<b</script></p>"
        "<script>b('</p>')</script><footer>©</footer></body></html>"
    )
    path = written(tmp_path / "a.html", text)
    assert documents(path) == ["Текст"]
    assert left_out(path) == {
        "asides": 1, "footers": 1, "images": 1, "navigation": 1, "scripts": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "expected", "outside"),
    [
        ("<p>шапка</p><main><p>a</p><p>b</p></main><p>низ</p>", "a\n\nb", 2),
        ("<p>a</p><main></main>", "a", 0),
        ("<main>a</main>x<main>b</main>", "a\n\nb", 1),
    ],
)
def test_of_a_page_with_a_main_part_that_is_taken(
    tmp_path: Path, body: str, expected: str, outside: int
):
    path = written(tmp_path / "a.html", body)
    assert documents(path) == [expected]
    assert left_out(path).get("paragraphs outside <main>", 0) == outside


@pytest.mark.parametrize(
    ("declaration", "encoding"),
    [
        ("<meta charset=windows-1251>", "windows-1251"),
        ('<META http-equiv="Content-Type" content="text/html; charset=KOI8-R">', "koi8-r"),
        ('<?xml version="1.0" encoding="windows-1251"?>', "windows-1251"),
        ("<meta charset='utf-8'>", "windows-1251"),  # it lies
        ("<meta charset='windows-1251'>", "utf-8"),  # it lies
        ("<meta charset='no-such'>", "windows-1251"),
        ("", "utf-16"),
        ("", "utf-8-sig"),
        ("", "windows-1251"),
    ],
)
def test_encodings(tmp_path: Path, declaration: str, encoding: str):
    poem = "Мороз и солнце; день чудесный! Ещё ты дремлешь, друг прелестный"
    text = f"{declaration}<html><p>{poem}</p>"
    assert documents(written(tmp_path / "a.html", text, encoding=encoding)) == [poem]


def test_latin_1_is_what_browsers_take_it_for(tmp_path: Path):
    path = tmp_path / "a.html"
    path.write_bytes(b"<meta charset=iso-8859-1><p>\x93caf\xe9\x94 \x96 na\xefve</p>")
    assert documents(path) == ["“café” – naïve"]


def test_bytes_that_the_declared_encoding_hasnt_are_an_error(tmp_path: Path):
    (tmp_path / "a.html").write_bytes(b"<meta charset=windows-1251><p>\xc6\x98\xe6</p>")
    with pytest.raises(DataError, match=r"a\.html is not cp1251 to its end: byte 0x98 at offset"):
        documents(tmp_path / "a.html")


@given(st.lists(_WORDS.map(" ".join), min_size=1, max_size=4))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_escaped_text_comes_back(tmp_path: Path, paragraphs: list[str]):
    text = "".join(f"<p>{html.escape(paragraph)}</p>\n" for paragraph in paragraphs)
    expected = [re.sub(r"[ \t\n\r\f]+", " ", paragraph) for paragraph in paragraphs]
    path = written(tmp_path / "any.html", f"<!DOCTYPE html><meta charset=utf-8>{text}")
    assert documents(path) == ["\n\n".join(expected)]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)
       | st.lists(st.sampled_from(_TAGS)).map("".join))  # fmt: skip
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_page_is_malformed(tmp_path: Path, text: str):
    assert len(documents(written(tmp_path / "any.html", text))) <= 1


@pytest.mark.parametrize("depth", [300, 20_000])
@pytest.mark.parametrize("tag", ["div", "b", "ul", "table><tr><td"])
def test_depth_loses_nothing(tmp_path: Path, depth: int, tag: str):
    depth = min(depth, 2000) if "table" in tag else depth
    path = written(tmp_path / "a.html", f"<{tag}>" * depth + "глубоко")
    assert documents(path) == ["глубоко"]


def test_a_long_stretch_of_text_is_read_whole(tmp_path: Path):
    text = "слово " * 2_000_000
    assert documents(written(tmp_path / "a.html", f"<p>{text}</p><p>конец")) == [
        f"{text.strip()}\n\nконец"
    ]


def test_without_lxml_the_way_out_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.html", "b.htm", "c.txt"):
        written(tmp_path / name, "<p>a")
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(DataError) as caught:
        find_corpus([str(tmp_path)])
    assert re.fullmatch(
        r".*a\.html, .*b\.htm: read with lxml, which isn't installed\. Install it, pip install "
        r'"gptft\[documents\]", or leave what takes it out with data\.exclude\.',
        str(caught.value),
    )


def test_books_take_no_package(tmp_path: Path):
    write_fb2(tmp_path / "a.fb2", "<section><p>a</p></section>")
    write_epub(tmp_path / "b.epub", {"a.xhtml": "<p>a</p>"})
    script = (
        "import sys\nsys.modules['lxml'] = None\nfrom tests.documents.books import documents\n"
        "from pathlib import Path\nprint(documents(Path(sys.argv[1])))\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["['a', 'a']", "False"]


def test_xhtml_is_read_as_xml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "lxml", None)
    path = written(tmp_path / "a.xhtml", page("<script src='a'/><p>a&nbsp;b</p><p><b/>c</p>"))
    assert documents(path) == ["a\u00a0b\n\nc"]
    assert left_out(path) == {"scripts": 1}
    with pytest.raises(DataError, match=r"a\.xhtml:1: not well-formed XML"):
        documents(written(path, "<p>a<b></p>"))

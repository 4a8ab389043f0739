import gzip
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gptft.errors import DataError
from gptft.text import encoding as module
from gptft.text.encoding import FileFacts, examine_binary, examine_text, read_chunks
from gptft.text.not_text import Flaw
from gptft.text.streams import ByteSource, content_suffix, open_bytes
from tests.conftest import SHARED_CORPUS

POEM = (
    "Я помню чудное мгновенье:\nПередо мной явилась ты,\n"
    "Как мимолетное виденье,\nКак гений чистой красоты.\n"
)
FRENCH = (
    "À peine les ont-ils déposés sur les planches,\n"
    "Que ces rois de l'azur, maladroits et honteux,\n"
    "Laissent piteusement leurs grandes ailes blanches\nComme des avirons traîner à côté d'eux.\n"
)
GERMAN = (
    "Wer reitet so spät durch Nacht und Wind?\nEs ist der Vater mit seinem Kind;\n"
    "Er hat den Knaben wohl in dem Arm,\nEr faßt ihn sicher, er hält ihn warm.\n"
)
SPANISH = "El año pasado, la niña y el señor. ¿Quién lo sabrá? Rocín flaco y galgo corredor.\n"
POLISH = (
    "Litwo! Ojczyzno moja! ty jesteś jak zdrowie;\nIle cię trzeba cenić, ten tylko się dowie,\n"
    "Kto cię stracił. Dziś piękność twą w całej ozdobie\nWidzę i opisuję, bo tęsknię po tobie.\n"
)
GREEK = (
    "Σε γνωρίζω από την κόψη\nτου σπαθιού την τρομερή,\n"
    "σε γνωρίζω από την όψη\nπου με βία μετράει τη γη.\n"
)
UKRAINIAN = "Як умру, то поховайте\nМене на могилі,\nСеред степу широкого,\nНа Вкраїні милій,\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。\n"
KOREAN = "모든 국민은 법 앞에 평등하다. 누구든지 성별 종교 또는 사회적 신분에 의하여\n"
CHINESE = "床前明月光，疑是地上霜。举头望明月，低头思故乡。\n"


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_file(raw: bytes, name: str = "a.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(raw)
        return path

    return write_file


def refusal(path: Path, encoding: str = "utf-8") -> str:
    with pytest.raises(DataError) as caught:
        examine_text(path, encoding=encoding)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def text_of(path: Path, facts: FileFacts, **options) -> str:
    return "".join(read_chunks(path, facts, **{"line_ends": "keep", **options}))


def zstd(raw: bytes) -> bytes:
    import pyarrow as pa

    return pa.compress(raw, codec="zstd", asbytes=True)


@pytest.mark.parametrize("setting", ["utf-8", "UTF8", "auto"])
@pytest.mark.parametrize("repeat", [1, 3000])  # the second is beyond the small files' way
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_facts_of_utf8(write, setting, repeat, bom):
    raw = bom + "Мороз\r\nи солнце\n\r день\r\n".encode() * repeat
    facts = examine_text(write(raw), encoding=setting)
    expected = "utf-8-sig" if bom else "utf-8"
    assert facts == FileFacts(hashlib.sha256(raw).hexdigest(), len(raw), expected, 2 * repeat)


def test_an_empty_file_is_utf8(write):
    path = write(b"")
    facts = examine_text(path, encoding="auto")
    assert facts == FileFacts(hashlib.sha256(b"").hexdigest(), 0, "utf-8", 0)
    assert list(read_chunks(path, facts, line_ends="lf")) == []


UNICODE = st.text(
    st.sampled_from("aя\r\n—€\u0800\u0fff\ud7ff\ue000\ufeff𐍈😀\U0010ffff"), min_size=0, max_size=60
)
BYTES = st.lists(
    st.sampled_from([b"a", "я".encode(), "—".encode(), b"\xff", b"\x80", b"\xe2\x80", b"\xe0\x80"])
    | st.binary(min_size=1, max_size=3),
    max_size=20,
).map(b"".join)


def expected_flaw(raw: bytes) -> int | None:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


@pytest.mark.parametrize("read", [4, 5, 7, 64])
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=BYTES.filter(lambda raw: b"\0" not in raw) | UNICODE.map(str.encode))
def test_the_scan_by_chunks_agrees_with_the_decoder(tmp_path, monkeypatch, read, raw):
    monkeypatch.setattr(module, "READ_BYTES", read)
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    scanned = module.scan_utf8(ByteSource.of_file(path), advance=int)
    if (offset := expected_flaw(raw)) is not None:
        flaw, marked = scanned
        assert flaw == Flaw(offset, raw[offset])
        assert marked == ("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else None)
    else:
        name = "utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8"
        crlf = raw.count(b"\r\n")
        assert scanned == FileFacts(hashlib.sha256(raw).hexdigest(), len(raw), name, crlf)


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 7, 4_000_000])
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=UNICODE)
def test_chunks_join_to_the_text(tmp_path, chunk_bytes, codec, text):
    path = tmp_path / "a.txt"
    text = text.lstrip("\ufeff")
    path.write_bytes(text.encode(codec))
    facts = FileFacts("", 0, codec, 0)
    assert text_of(path, facts, chunk_bytes=chunk_bytes) == text
    lf = text.replace("\r\n", "\n").replace("\r", "\n")
    assert text_of(path, facts, chunk_bytes=chunk_bytes, line_ends="lf") == lf


def test_a_small_file_is_one_chunk_and_a_large_one_several(write):
    path = write("я".encode() * 10)
    facts = examine_text(path, encoding="utf-8")
    assert list(read_chunks(path, facts, line_ends="keep")) == ["я" * 10]
    chunks = list(read_chunks(path, facts, line_ends="keep", chunk_bytes=5))
    assert chunks == ["яя", "яяя", "яя", "яяя"]


def test_a_file_that_changed_meanwhile_is_refused(write):
    path = write(b"abc")
    facts = examine_text(path, encoding="utf-8")
    path.write_bytes(b"ab\xffd")
    with pytest.raises(DataError, match=r"is not utf-8 to its end: byte 0xff at offset 2"):
        text_of(path, facts, chunk_bytes=1)


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        (POEM, "cp1251"),
        (POEM, "koi8_r"),
        (POEM, "cp866"),
        (POEM, "iso8859_5"),
        (POEM, "mac_cyrillic"),
        ("Мороз и солнце; день чудесный!\n", "cp1251"),
        ("— Что вы, «граф»?\n— Ничего… Ступай, Ёлкин, в №5.\n", "cp1251"),
        ("ЕВГЕНИЙ ОНЕГИН\nРОМАН В СТИХАХ\nГЛАВА ПЕРВАЯ\n", "cp1251"),
        ("ЕВГЕНИЙ ОНЕГИН\nРОМАН В СТИХАХ\nГЛАВА ПЕРВАЯ\n", "koi8_r"),
        ("A long English preface, line by line.\n" * 500 + POEM, "cp1251"),
        (UKRAINIAN, "cp1251"),
        (UKRAINIAN, "koi8_u"),
        (FRENCH, "cp1252"),
        (FRENCH, "latin_1"),
        (GERMAN, "cp1252"),
        (GERMAN, "latin_1"),
        (SPANISH, "cp1252"),
        ("“It’s a café,” he said — naïve, as ever.\n", "cp1252"),
        (POLISH, "cp1250"),
        (POLISH, "iso8859_2"),
        (GREEK, "cp1253"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (KOREAN, "euc_kr"),
        (CHINESE, "gb18030"),
    ],
)
def test_auto_reads_text_as_it_was_written(write, text, codec):
    raw = text.encode(codec)
    path = write(raw)
    facts = examine_text(path, encoding="auto")
    assert text_of(path, facts) == text
    assert (facts.digest, facts.num_bytes) == (hashlib.sha256(raw).hexdigest(), len(raw))
    assert facts.crlf == 0


def test_auto_names_the_codec_and_finds_it_beyond_the_head_of_a_large_file(write):
    raw = b"The quick brown fox.\n" * 200_000 + POEM.encode("cp1251") + b"The end.\n" * 10_000
    assert examine_text(write(raw), encoding="auto").encoding == "cp1251"


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="the shared corpus isn't here")
def test_a_real_poem_in_cp1251():
    path = SHARED_CORPUS / "poems" / "Pushkin" / "Руслан и Людмила.txt"
    facts = examine_text(path, encoding="auto")
    assert facts.encoding == "cp1251"
    assert "У лукоморья дуб зеленый" in text_of(path, facts).replace("ё", "е")


@pytest.mark.parametrize("codec", ["utf-16", "utf-32"])
def test_auto_knows_a_byte_order_mark(write, codec):
    little = POEM.encode(codec)
    mark = {"utf-16": b"\xfe\xff", "utf-32": b"\0\0\xfe\xff"}[codec]
    for raw in (little, mark + POEM.encode(f"{codec}-be")):
        path = write(raw)
        facts = examine_text(path, encoding="auto")
        assert facts == FileFacts(hashlib.sha256(raw).hexdigest(), len(raw), codec, 0)
        assert text_of(path, facts) == POEM
        assert f"it reads as {codec}" in refusal(path)


def test_utf16_with_a_mark_has_to_decode(write):
    odd = write("да".encode("utf-16") + b"\x20")
    assert " is not utf-16 to its end: byte 0x20 at offset 6 (truncated data)" in refusal(
        odd, "auto"
    )
    lone = write(b"\xff\xfe" + b"a\0" + b"\x00\xd8" + b"b\0")
    assert "byte 0x00 at offset 4 (illegal UTF-16 surrogate)" in refusal(lone, "auto")


def test_utf8_refuses_cp1251_and_names_the_ways_out(write):
    assert refusal(write(b"abc\n" + POEM.encode("cp1251"))) == (
        " is not a text file in UTF-8: byte 0xdf at offset 4; it reads as cp1251. Use "
        "data.encoding: auto, or data.encoding: cp1251, or convert it (iconv -f CP1251 -t UTF-8), "
        "or leave it out with data.exclude."
    )


def test_the_offset_of_a_bad_byte_in_a_large_file(write):
    raw = b"abc\n" * 100_001 + POEM.encode("cp1251")
    assert "byte 0xdf at offset 400,004; it reads as cp1251" in refusal(write(raw))


@pytest.mark.parametrize("setting", ["utf-8", "auto"])
def test_damaged_utf8_is_never_read_as_something_else(write, setting):
    raw = POEM.encode()
    cut = raw.rstrip()[:-2]  # "ы." and half of it is left
    assert refusal(write(cut), setting) == (
        f" is UTF-8 but for 1 byte, the first 0xd1 at offset {len(cut) - 1:,}. Repair it "
        "(iconv -c -f UTF-8 -t UTF-8 drops them), or leave it out with data.exclude."
    )
    spoilt = raw[:20] + b"\xff\xfe" + raw[20:] + b"\xe9" + b" etc.\n"
    assert " is UTF-8 but for 3 bytes, the first 0xff at offset 20." in refusal(
        write(spoilt), setting
    )


def test_a_file_half_utf8_is_refused(write):
    path = write(POEM.encode() * 3 + POEM.encode("cp1251"))
    assert " is UTF-8 but for " in refusal(path, "auto")


@pytest.mark.parametrize("setting", ["utf-8", "auto"])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["Hi!\n", POEM, POEM * 300])
def test_utf16_without_a_mark_is_named(write, setting, codec, text):
    raw = text.encode(codec)
    path = write(raw)
    message = refusal(path, setting)
    assert f"NUL byte at offset {raw.find(0):,}; it looks like UTF-" in message
    assert f"Use data.encoding: {codec}, or convert it" in message
    assert text_of(path, examine_text(path, encoding=codec)) == text


@pytest.mark.parametrize("setting", ["utf-8", "auto"])
@pytest.mark.parametrize("lines", [1, 5000])
def test_a_nul_is_no_text(write, setting, lines):
    raw = "строка\n".encode() * lines + b"ab\0c"
    expected = f" is not a text file in UTF-8: NUL byte at offset {13 * lines + 2:,}. Leave it out"
    assert refusal(write(raw), setting).startswith(expected)


@pytest.mark.parametrize("setting", ["utf-8", "auto"])
@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not text but a PNG image"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "not text but a PDF"),
        (b"PK\x03\x04\x14\0\0\0", "not text but a zip archive"),
        (gzip.compress(b"abc", mtime=0), "not text but gzip data; name it .gz"),
        (bytes(range(1, 256)) * 3, "not text: 72 of 765 bytes are control characters"),
    ],
)
def test_binary_files_are_called_so(write, setting, raw, kind):
    message = refusal(write(raw), setting)
    assert kind in message
    assert "data.exclude" in message


@pytest.mark.parametrize("setting", ["utf-8", "auto"])
def test_what_reads_as_nothing_is_refused(write, setting):
    raw = b"\xff\xfd\xfc\x81\x8d\x8f\x90\x9d" * 30
    message = refusal(write(raw), setting)
    assert message == (
        " is not a text file in UTF-8: byte 0xff at offset 0, and it reads as text in no known "
        "encoding. Name its encoding in data.encoding, or leave it out with data.exclude."
    )


def test_a_named_codec_has_to_decode_all_of_the_file(write):
    path = write(POEM.encode("cp1251"))
    facts = examine_text(path, encoding="windows-1251")
    assert facts.encoding == "windows-1251"
    assert text_of(path, facts, chunk_bytes=7) == POEM
    bad = write("да".encode("cp1251") * 200_000 + b"\x98")
    assert " is not cp1251 to its end: byte 0x98 at offset 400,000" in refusal(bad, "cp1251")
    nul = write(b"ab\0c")
    assert " is not text in cp1251: NUL at character 2." in refusal(nul, "cp1251")


def test_a_named_codec_loses_its_mark(write):
    path = write("\ufeffда".encode("utf-16-le"))
    facts = examine_text(path, encoding="utf-16-le")
    assert facts.encoding == "utf-16-le"
    assert text_of(path, facts, chunk_bytes=1) == "да"


@pytest.mark.parametrize("name", ["cp12510", "hex", "rot13", "a\0b"])
def test_no_such_codec(write, name):
    with pytest.raises(DataError, match="is not a text encoding Python knows"):
        examine_text(write(b"abc"), encoding=name)


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
class TestCompressed:
    @pytest.mark.parametrize("setting", ["utf-8", "auto", "cp1251"])
    @pytest.mark.parametrize("repeat", [1, 4000])
    def test_is_read_through(self, write, suffix, pack, setting, repeat):
        codec = "utf-8" if setting == "utf-8" else "cp1251"
        raw = POEM.encode(codec) * repeat
        path = write(pack(raw), f"a.txt{suffix}")
        facts = examine_text(path, encoding=setting)
        assert facts == FileFacts(hashlib.sha256(raw).hexdigest(), len(raw), codec, 0)
        assert text_of(path, facts) == POEM * repeat

    def test_two_frames_are_one_text(self, write, suffix, pack):
        path = write(pack(b"one\n") + pack(b"two\n"), f"a{suffix}")
        with open_bytes(path) as stream:
            assert list(stream) == [b"one\n", b"two\n"]

    @pytest.mark.parametrize("damage", [lambda raw: raw[:-6], lambda raw: b"plain text", ""])
    def test_is_not_intact(self, write, suffix, pack, damage):
        raw = pack(POEM.encode() * 50)
        broken = damage(raw) if damage else raw + b"garbage"
        path = write(broken, f"a{suffix}")
        assert f" is not an intact {suffix} file: " in refusal(path)

    def test_bad_byte_is_counted_in_the_text(self, write, suffix, pack):
        path = write(pack(b"abc\n" * 50_000 + POEM.encode("cp1251")), f"a{suffix}")
        assert "byte 0xdf at offset 200,000; it reads as cp1251" in refusal(path)


def test_corrupt_deflate_data_is_explained(write):
    raw = bytearray(gzip.compress(bytes(range(32, 127)) * 500))
    raw[40:60] = b"\xff" * 20
    assert " is not an intact .gz file: " in refusal(write(bytes(raw), "a.gz"))


@pytest.mark.parametrize("name", ["none.txt", "none.txt.gz", "none.zst"])
def test_a_missing_file(tmp_path, name):
    path = tmp_path / name
    for examine in (lambda: examine_text(path, encoding="auto"), lambda: examine_binary(path)):
        with pytest.raises(DataError, match=r"can't be read: No such file or directory\.$"):
            examine()


def test_a_folder_is_no_file(tmp_path):
    assert refusal(tmp_path) == " can't be read: Is a directory."


def test_binary_facts_are_of_the_file_as_it_lies(write):
    raw = gzip.compress(b"abc")
    facts = examine_binary(write(raw, "a.gz"))
    assert facts == FileFacts(hashlib.sha256(raw).hexdigest(), len(raw), "binary", 0)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.jsonl.gz", ".jsonl"), ("A.TXT.ZST", ".txt"), ("a.gz", ""), ("b/a.txt", ".txt"), ("a", "")],
)
def test_content_suffix(name, suffix):
    assert content_suffix(Path(name)) == suffix


def test_small_utf8_files_import_nothing_heavy(write):
    path = write(POEM.encode())
    code = (
        "import sys; from pathlib import Path; from gptft.text.encoding import examine_text; "
        f"examine_text(Path({str(path)!r}), encoding='auto'); "
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow', 'charset_normalizer'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("num_bytes", [1, 5, 16_383, 16_384, 16_385, 40_000])
@pytest.mark.parametrize("length", [0, 1, 16_383, 16_384, 16_385, 32_768, 50_000])
def test_chunks_are_full_but_the_last(length: int, num_bytes: int, tmp_path: Path) -> None:
    if length // num_bytes > 20_000:
        pytest.skip("the same as a shorter one")
    raw = bytes(number % 251 for number in range(length))
    (tmp_path / "a").write_bytes(raw)
    chunks = [*ByteSource.of_file(tmp_path / "a").chunks(num_bytes)]
    assert b"".join(chunks) == raw
    assert {len(chunk) for chunk in chunks[:-1]} <= {num_bytes}
    assert len(chunks[-1]) < num_bytes


@pytest.mark.parametrize("before", [module.READ_BYTES - 1, module.READ_BYTES])
@pytest.mark.parametrize(
    ("cut", "after", "flaw"),
    [
        (b"\xd0", b"\xb4 abc", None),
        (b"\xd0", b"abc", 0xD0),  # all ASCII, and yet it ends no character
        (b"\xd0", b"", 0xD0),
        (b"a", b"\r\nabc\r\n", None),
        (b"\r", b"\nabc", None),
    ],
)
def test_ascii_behind_half_a_character_is_no_utf8(
    before: int, cut: bytes, after: bytes, flaw: int | None, tmp_path: Path
) -> None:
    raw = b"a" * before + cut + after
    (tmp_path / "a").write_bytes(raw)
    found = module.scan_utf8(ByteSource.of_file(tmp_path / "a"), advance=int)
    if flaw is None:
        assert isinstance(found, FileFacts)
        assert found.crlf == raw.count(b"\r\n")
    else:
        assert found == (module.Flaw(before, flaw), None)

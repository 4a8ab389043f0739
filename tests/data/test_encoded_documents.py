from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from gptft.config.data import DataConfig
from gptft.data import encoded_documents as module
from gptft.data.encoded_documents import EncodedDocuments, with_eos
from gptft.documents.formats.plain_text import Chunk
from gptft.errors import DataError, ModelError
from gptft.tokenization import batches, encoder
from gptft.tokenization.encoder import Engine, FastokensEngine, TokenizersEngine, find_cut
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from tests.conftest import SENTENCES, SHARED_CORPUS
from tests.documents.reference import (
    EOS,
    PICO,
    POEMS,
    altered,
    encoded,
    encoded_ids,
    ids_by_tokenizers,
    joined,
    numbers,
    prepending,
    scan,
    text_tokenizer,
    tiny,
    unigram,
    write_files,
)
from tests.tokenization.test_encoder import russian

KINDS: dict[str, Callable[[], Tokenizer]] = {
    "pico": lambda: Tokenizer.from_file(str(PICO / "tokenizer.json")),
    "unigram": unigram,
    "prepending": prepending,
}


@pytest.fixture
def counting(tmp_path: Path) -> tuple[DataConfig, TextTokenizer]:
    """Three files of numbers, each its own id, and the tokenizer that makes them so."""
    write_files(tmp_path / "in", {"a.txt": "1 2%3%%4 5 6", "b.txt": " \n", "c.txt": "7"})
    data = DataConfig(train=[str(tmp_path / "in")], document_separator="%")
    return data, text_tokenizer(numbers())


def test_documents_stand_in_order_each_ended_by_eos(
    counting: tuple[DataConfig, TextTokenizer], tmp_path: Path
):
    made, stats = encoded(*counting, tmp_path / "out")
    assert encoded_ids(made) == [1, 2, EOS, 3, EOS, 4, 5, 6, EOS, 7, EOS]
    assert stats == made.stats
    assert (stats.documents, stats.empty) == ((3, 0, 1), (1, 1, 0))
    assert (stats.dtype, stats.engine) == ("uint16", TokenizersEngine(counting[1]).name)
    assert made.rows["tokens"].tolist() == [2, 1, 3, 1]
    assert made.rows["bytes"].tolist() == [3, 1, 5, 1]
    assert made.rows["digest"].tolist() == [
        xxhash.xxh3_64(np.array(ids, dtype="<u2").tobytes()).intdigest()
        for ids in ([1, 2], [3], [4, 5, 6], [7])
    ]


def test_ids_that_were_cut_short_are_an_error_and_no_endless_loop(
    counting: tuple[DataConfig, TextTokenizer], tmp_path: Path
):
    made, _ = encoded(*counting, tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("tokens.bin")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(DataError, match="ends before its last document"):
        list(made.token_ids(0, 11, at_once=4))


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_any_stretch_can_be_read_a_little_at_a_time(
    counting: tuple[DataConfig, TextTokenizer], tmp_path: Path, at_once: int
):
    made, _ = encoded(*counting, tmp_path / "out")
    stretches = [ids.tolist() for ids in made.token_ids(3, 9, at_once=at_once)]
    assert [i for stretch in stretches for i in stretch] == [3, EOS, 4, 5, 6, EOS]
    assert max(map(len, stretches)) <= at_once
    assert list(made.token_ids(4, 4, at_once=at_once)) == []


def test_characters_and_bytes_are_those_of_the_documents(tmp_path: Path):
    texts = dict(zip("abc", ["ёж", "😀 a", POEMS], strict=True))
    write_files(tmp_path / "in", {f"{name}.txt": text for name, text in texts.items()})
    data = DataConfig(train=[str(tmp_path / "in")])
    made, _ = encoded(data, load_tokenizer("pico"), tmp_path / "out")
    assert made.rows["characters"].tolist() == [2, 3, len(POEMS)]
    assert made.rows["bytes"].tolist() == [4, 6, len(POEMS.encode())]


def test_ids_beyond_16_bits_are_stored_whole(tmp_path: Path):
    vocab = {"</s>": EOS, "7": 7, "семь": 66_999}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    write_files(tmp_path / "in", {"a.txt": "семь 7 семь"})
    data = DataConfig(train=[str(tmp_path / "in")])
    made, stats = encoded(data, text_tokenizer(backend), tmp_path / "out")
    assert stats.dtype == "uint32"
    assert encoded_ids(made) == [66_999, 7, 66_999, EOS]


def test_no_documents_at_all_can_be_opened(tmp_path: Path):
    module.encode_documents(
        [],
        DataConfig(train=["a"]),
        tokenizer := text_tokenizer(numbers()),
        tmp_path,
        engine=TokenizersEngine(tokenizer),
        notify=print,
    )
    assert (len(EncodedDocuments(tmp_path).rows), encoded_ids(EncodedDocuments(tmp_path))) == (
        0,
        [],
    )


def test_a_tokenizer_without_eos_cannot_end_documents(
    counting: tuple[DataConfig, TextTokenizer], tmp_path: Path
):
    tokenizer = TextTokenizer(counting[1].backend, {}, None, "mute")
    with pytest.raises(ModelError, match=r"mute has no EOS token.*Set eos_token"):
        encoded(counting[0], tokenizer, tmp_path / "out")


def test_documents_are_read_a_bounded_number_of_batches_ahead(
    counting: tuple[DataConfig, TextTokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Memory stays flat: of one worker's batches one is encoded and two wait, at most."""
    num_read, ahead = 0, []

    def documents(*_: object) -> Iterator[Chunk]:
        nonlocal num_read
        for number in range(100):
            num_read += 1
            yield Chunk(str(number + 1), True)

    class Slow(TokenizersEngine):
        batch_characters = 10**9

        def encode(self, texts):
            ids, lengths = super().encode(texts)
            ahead.append(num_read - int(ids.max()))
            return ids, lengths

    monkeypatch.setattr(batches, "read_documents", documents)
    monkeypatch.setattr(batches, "_BATCH_DOCUMENTS", 5)
    write_files(tmp_path / "one", {"a.txt": "x"})
    data = DataConfig(train=[str(tmp_path / "one")])
    made, _ = encoded(data, counting[1], tmp_path / "out", engine=Slow(counting[1]))
    assert encoded_ids(made) == [i for n in range(1, 101) for i in (n, EOS)]
    assert len(ahead) == 20
    assert max(ahead) <= 2 * 5


def test_progress_never_goes_back_and_ends_at_the_whole(
    counting: tuple[DataConfig, TextTokenizer], tmp_path: Path
):
    (tmp_path / "out").mkdir()
    data, tokenizer = counting
    told: list[tuple[str, int, int]] = []
    module.encode_documents(
        scan(data, cache_dir=tmp_path),
        data,
        tokenizer,
        tmp_path / "out",
        engine=TokenizersEngine(tokenizer),
        progress=lambda *now: told.append(now),
        notify=print,
    )
    done = [now[1] for now in told]
    assert {(what, total) for what, _, total in told} == {("tokenizing", 12 + 2 + 1)}
    assert done == sorted(done)
    assert done[-1] <= 15


class TestLongDocuments:
    """A document encoded in chunks has the ids of the whole."""

    @pytest.fixture(autouse=True)
    def _short_chunks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in (TokenizersEngine, FastokensEngine):
            monkeypatch.setattr(kind, "cut_characters", 40)
            monkeypatch.setattr(kind, "batch_characters", 100)
        monkeypatch.setattr(encoder, "_CUT_CANDIDATES", 4)

    @pytest.fixture
    def cuts(self, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
        made: list[int | None] = []

        def noted(*args: object, **kwargs: object) -> int | None:
            made.append(find_cut(*args, **kwargs))
            return made[-1]

        monkeypatch.setattr(encoder, "find_cut", noted)
        return made

    @pytest.mark.parametrize(
        ("kind", "engine", "is_cut"),
        [
            ("pico", TokenizersEngine, True),
            ("pico", FastokensEngine, True),
            ("unigram", TokenizersEngine, True),
            ("prepending", TokenizersEngine, False),
            ("prepending", FastokensEngine, False),
        ],
    )
    def test_in_russian(
        self, kind: str, engine: type[Engine], is_cut: bool, cuts: list[int | None], tmp_path: Path
    ):
        backend = KINDS[kind]()
        tokenizer, ids = text_tokenizer(backend), ids_by_tokenizers(backend)
        texts = [POEMS, "кратко", POEMS[999::-1], " \n" * 100 + POEMS[:500] + " " * 300 + "\n\n."]
        write_files(tmp_path / "in", {f"{n}.txt": text for n, text in enumerate(texts)})
        data = DataConfig(train=[str(tmp_path / "in")])
        made, _ = encoded(data, tokenizer, tmp_path / "out", engine=engine(tokenizer))
        assert encoded_ids(made) == joined(texts, ids)
        assert made.rows["tokens"].tolist() == [len(ids(text)) for text in texts]
        assert made.rows["bytes"].tolist() == [len(text.encode()) for text in texts]
        assert made.rows["characters"].tolist() == [len(text) for text in texts]
        places = [place for place in cuts if place is not None]
        assert len(places) > 100 if is_cut else not places
        assert cuts

    @pytest.mark.parametrize(
        "text", ["ы" * 1500, "床前明月光" * 300, "ab\n" * 500, "\n" * 999 + "."]
    )
    def test_without_spaces(self, text: str, tmp_path: Path):
        tokenizer = load_tokenizer("pico")
        write_files(tmp_path / "in", {"a.txt": text, "b.txt": "конец"})
        data = DataConfig(train=[str(tmp_path / "in")])
        made, _ = encoded(data, tokenizer, tmp_path / "out")
        assert encoded_ids(made) == joined([text, "конец"], ids_by_tokenizers(PICO))

    @settings(max_examples=10, deadline=None)
    @given(
        words=st.lists(
            st.sampled_from(["Я", " помню", " чудное", "\n", "  ", " 123", "\t", "ё", ".", " —"]),
            min_size=100,
            max_size=300,
        )
    )
    def test_however_words_and_spaces_fall(
        self, tmp_path_factory: pytest.TempPathFactory, words: list[str]
    ):
        folder = tmp_path_factory.mktemp("any")
        text = "Т" + "".join(words)
        write_files(folder / "in", {"a.txt": text})
        data = DataConfig(train=[str(folder / "in")])
        made, _ = encoded(data, load_tokenizer("pico"), folder / "out")
        assert encoded_ids(made) == joined([text], ids_by_tokenizers(PICO))

    def test_beyond_a_stretch_without_spaces_it_is_cut_again(
        self, cuts: list[int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """As pictures written out in letters are in some texts."""
        monkeypatch.setattr(encoder, "_CUT_WINDOW", 300)
        monkeypatch.setattr(encoder, "_LONGEST_UNCUT", 800)
        tokenizer = tiny()
        text = "ы" * 400 + POEMS
        write_files(tmp_path / "in", {"a.txt": text})
        data = DataConfig(train=[str(tmp_path / "in")])
        made, _ = encoded(data, tokenizer, tmp_path / "out")
        assert encoded_ids(made) == joined([text], ids_by_tokenizers(tokenizer.backend))
        assert sum(place is not None for place in cuts) > 20

    def test_beyond_what_can_be_encoded_whole_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(encoder, "_LONGEST_UNCUT", 1000)
        write_files(tmp_path / "in", {"dna.txt": "ы" * 1041})
        data = DataConfig(train=[str(tmp_path / "in")])
        with pytest.raises(DataError, match=r"dna\.txt: 1,0\d\d characters without a place to cut"):
            encoded(data, load_tokenizer("pico"), tmp_path / "out")


class TestDisagreement:
    """Where the fast engine errs, all is done again, and right."""

    @pytest.mark.parametrize("after", [0, 1, 9, 20])
    def test_is_said_and_mended(self, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        tokenizer = tiny()
        engine = FastokensEngine(tokenizer)
        monkeypatch.setattr(FastokensEngine, "batch_characters", 100)
        monkeypatch.setattr(FastokensEngine, "_encode", altered(after=after))
        monkeypatch.setattr(encoder, "_SAMPLE_EVERY", 100)
        texts = [*SENTENCES, POEMS, *SENTENCES] * 5
        write_files(tmp_path / "in", {f"{n:02}.txt": text for n, text in enumerate(texts)})
        data = DataConfig(train=[str(tmp_path / "in")])
        said: list[str] = []
        made, stats = encoded(data, tokenizer, tmp_path / "out", engine=engine, notify=said.append)
        assert encoded_ids(made) == joined(texts, ids_by_tokenizers(tokenizer.backend))
        assert len(made.rows) == 45
        assert stats.engine.startswith("tokenizers ")
        (sentence,) = said
        assert sentence.startswith("fastokens isn't used: its ids differ from those of tokenizers")

    def test_while_a_place_to_cut_is_looked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        tokenizer = tiny()
        engine = FastokensEngine(tokenizer)
        monkeypatch.setattr(FastokensEngine, "cut_characters", 40)
        monkeypatch.setattr(FastokensEngine, "_encode", altered(after=0))
        write_files(tmp_path / "in", {"a.txt": POEMS})
        data = DataConfig(train=[str(tmp_path / "in")])
        said: list[str] = []
        made, _ = encoded(data, tokenizer, tmp_path / "out", engine=engine, notify=said.append)
        assert encoded_ids(made) == joined([POEMS], ids_by_tokenizers(tokenizer.backend))
        assert len(said) == 1


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="needs the corpus ru-classics")
@pytest.mark.parametrize("kind", [FastokensEngine, TokenizersEngine])
def test_every_id_of_58_mb_of_russian(kind: type[Engine], tmp_path: Path):
    tokenizer, ids = load_tokenizer("pico"), ids_by_tokenizers(PICO)
    data = DataConfig(train=[str(SHARED_CORPUS)])
    made, stats = encoded(data, tokenizer, tmp_path / "out", engine=kind(tokenizer))
    paths = sorted(SHARED_CORPUS.rglob("*.txt"))
    assert stats.documents == (1,) * len(paths)
    assert stats.engine.startswith(kind.__name__.removesuffix("Engine").lower())
    start = 0
    for path, num_tokens in zip(paths, made.rows["tokens"].tolist(), strict=True):
        stop = start + num_tokens + 1
        (found,) = made.token_ids(start, stop, at_once=stop - start)
        assert found.tolist() == [*ids(russian(path)), EOS], path
        start = stop


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("unfinished", [False, True])
def test_an_eos_stands_after_each_document_of_a_batch(seed: int, unfinished: bool):
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 4, size=random.integers(0, 9))
    ids = random.integers(0, 60_000, size=int(lengths.sum()) + 3 * unfinished).astype(np.uint16)
    stops = np.cumsum(lengths).astype(np.int64)
    found = with_eos(ids, stops, eos=7, dtype=np.uint16)
    assert found.dtype == np.uint16
    assert found.tolist() == np.insert(ids, stops, 7).tolist()

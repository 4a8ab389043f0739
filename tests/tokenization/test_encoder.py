import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gptft.errors import DataError
from gptft.tokenization import encoder
from gptft.tokenization.encoder import (
    Engine,
    EngineDisagreesError,
    FastokensEngine,
    TokenizersEngine,
    choose_engine,
    find_cut,
)
from gptft.tokenization.tokenizer import TextTokenizer, load_tokenizer
from tests.conftest import SENTENCES, SHARED_CORPUS
from tests.documents.reference import (
    PICO,
    POEMS,
    SPECIAL,
    TEXTS,
    Ids,
    altered,
    ids_by_tokenizers,
    numbers,
    prepending,
    text_tokenizer,
    tiny,
    unigram,
)


@pytest.fixture(scope="module", params=["tiny", "pico"])
def model_dir(request: pytest.FixtureRequest, tiny_model_dir: Path) -> Path:
    return tiny_model_dir if request.param == "tiny" else PICO


@pytest.fixture(scope="module", params=[FastokensEngine, TokenizersEngine])
def engine(request: pytest.FixtureRequest, model_dir: Path) -> Engine:
    made: Engine = request.param(load_tokenizer(str(model_dir)))
    return made


@pytest.fixture(scope="module")
def ids(model_dir: Path) -> Ids:
    return ids_by_tokenizers(model_dir)


def encoded(engine: Engine, texts: Sequence[str]) -> list[list[int]]:
    flat, lengths = engine.encode(texts)
    assert lengths.sum() == len(flat)
    return [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]


class TestIds:
    """Both engines give the ids of the tokenizers library."""

    @settings(max_examples=60, deadline=None)
    @given(texts=st.lists(TEXTS, min_size=1, max_size=5))
    def test_of_any_text(self, engine: Engine, ids: Ids, texts: list[str]):
        assert encoded(engine, texts) == [ids(text) for text in texts]

    def test_of_special_tokens_written_in_the_text(self, engine: Engine, ids: Ids):
        texts = [*SPECIAL, "".join(SPECIAL), *(f"до{s}после {s} {s}\n" for s in SPECIAL)]
        assert encoded(engine, texts) == [ids(text) for text in texts]
        assert 0 not in engine.encode(["до<|endoftext|>после"])[0]

    def test_of_a_thousand_texts_at_once_some_empty(self, engine: Engine, ids: Ids):
        texts = [SENTENCES[n % 4][: n % 40] for n in range(1000)]
        assert encoded(engine, texts) == [ids(text) for text in texts]
        assert engine.encode([""])[1].tolist() == [0]

    def test_are_as_small_as_the_vocabulary_allows(self, engine: Engine):
        assert engine.encode(["a"])[0].dtype == np.uint16


@pytest.mark.skipif(not SHARED_CORPUS.is_dir(), reason="needs the corpus ru-classics")
def test_the_beginnings_of_293_russian_books():
    paths = sorted(SHARED_CORPUS.rglob("*.txt"))
    texts = [russian(path)[:2000] for path in paths]
    assert len(texts) == 293
    ids, engine = ids_by_tokenizers(PICO), FastokensEngine(load_tokenizer("pico"))
    assert encoded(engine, texts) == [ids(text) for text in texts]


def russian(path: Path) -> str:
    """The text of a file in UTF-8, or in windows-1251, as one of them is."""
    raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1251")


def chosen(tokenizer: TextTokenizer) -> tuple[Engine, str | None]:
    """The engine that is chosen, and why it isn't the fast one."""
    said: list[str] = []
    return choose_engine(tokenizer, said.append), "".join(said) or None


class TestChoice:
    """The fast engine is used where it is there and agrees, and else it is said why not."""

    def test_the_fast_one_where_it_can_be_had(self):
        engine, why_slow = chosen(tiny())
        assert (type(engine), why_slow) == (FastokensEngine, None)
        assert engine.name.startswith("fastokens ")

    def test_tokenizers_where_fastokens_is_missing(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "fastokens", None)
        engine, why_slow = chosen(tiny())
        assert type(engine) is TokenizersEngine
        assert engine.name.startswith("tokenizers ")
        assert why_slow is not None
        assert "fastokens package isn't installed" in why_slow
        assert "pip install fastokens" in why_slow

    @pytest.mark.parametrize("kind", [numbers, unigram])
    def test_tokenizers_where_fastokens_cannot_open_it(self, kind: Callable[[], Tokenizer]):
        backend = kind()
        engine, why_slow = chosen(text_tokenizer(backend))
        assert type(engine) is TokenizersEngine
        assert why_slow is not None
        assert "it can't open this tokenizer" in why_slow
        assert "the ids are right" in why_slow
        assert encoded(engine, [POEMS]) == [ids_by_tokenizers(backend)(POEMS)]

    def test_tokenizers_where_the_first_texts_disagree(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(FastokensEngine, "_encode", altered(after=0))
        engine, why_slow = chosen(tiny())
        assert type(engine) is TokenizersEngine
        assert why_slow is not None
        assert "its ids differ from those of tokenizers" in why_slow

    def test_a_later_disagreement_is_found_in_samples(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(encoder, "_SAMPLE_EVERY", 100)
        engine = FastokensEngine(tiny())
        for _ in range(3):
            engine.encode([POEMS])
        monkeypatch.setattr(FastokensEngine, "_encode", altered(after=0))
        with pytest.raises(EngineDisagreesError, match="its ids differ"):
            engine.encode([POEMS])

    def test_a_failure_of_the_fast_one_is_a_disagreement(self, monkeypatch: pytest.MonkeyPatch):
        class Fails:
            def encode_batch_flat(self, *_: object) -> None:
                raise RuntimeError("backtrack limit")

        engine = FastokensEngine(tiny())
        monkeypatch.setattr(engine, "_fast", Fails())
        with pytest.raises(EngineDisagreesError, match="it failed: backtrack limit"):
            engine.encode(["a"])


class TestSamples:
    """What both engines encode, to see whether they agree."""

    @pytest.fixture(autouse=True)
    def _numbers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(encoder, "_SAMPLE_CHARACTERS", 1000)
        monkeypatch.setattr(encoder, "_SAMPLE_EVERY", 500_000)
        monkeypatch.setattr(encoder, "_FIRST_SAMPLES", 32)

    def samples(self, *batches: Sequence[str]) -> list[list[str]]:
        engine = FastokensEngine(tiny())
        return [engine._samples(batch) for batch in batches]

    def test_are_32_of_the_first_batch_and_then_one_in_half_a_million_characters(self):
        text = "".join(chr(0x4E00 + n % 20_000 + n // 20_000) for n in range(200_000))
        first, second, third, fourth = self.samples([text], [text], [text], [text])
        assert len(first) == 32
        assert (len(second), len(third), len(fourth)) == (0, 1, 0)
        assert all(len(sample) == 1000 and sample in text for sample in first)

    def test_take_short_texts_whole_from_the_first_to_the_last(self):
        texts = [f"{n:04}" for n in range(64)]
        (first,) = self.samples(texts)
        assert first == texts[::2]

    def test_pass_over_nothing_where_all_is_shorter_than_they(self):
        (first,) = self.samples(["один", "", "два", ""])
        assert [text for text in first if text] == ["один", "два"]


class TestCut:
    """A long document is cut where its parts encode to the ids of the whole."""

    @pytest.mark.parametrize("before", [40, 300, 1000, 20_000])
    @pytest.mark.parametrize("kind", ["pico", "unigram"])
    def test_the_parts_give_the_ids_of_the_whole(self, kind: str, before: int):
        tokenizer = load_tokenizer("pico") if kind == "pico" else text_tokenizer(unigram())
        ids, engine = ids_by_tokenizers(tokenizer.backend), TokenizersEngine(tokenizer)
        place = find_cut(POEMS, before=before, engine=engine, name="a")
        assert place is not None
        assert 0 < place < min(before, len(POEMS))
        assert POEMS[place] in " \n"
        assert not POEMS[place - 1].isspace()
        assert ids(POEMS[:place]) + ids(POEMS[place:]) == ids(POEMS)

    def test_a_space_put_before_every_text_forbids_all_cuts(self):
        tokenizer = text_tokenizer(prepending())
        ids = ids_by_tokenizers(tokenizer.backend)
        assert ids("жизнь тебя") != ids("жизнь") + ids(" тебя")  # why there is none
        assert find_cut(POEMS, before=500, engine=TokenizersEngine(tokenizer), name="a") is None

    @pytest.mark.parametrize("text", ["ы" * 3000, " " * 3000, "короткий текст " * 10])
    def test_no_place(self, text: str):
        engine = TokenizersEngine(load_tokenizer("pico"))
        assert find_cut(text, before=1000, engine=engine, name="a") is None

    def test_too_long_a_text_without_a_place(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(encoder, "_LONGEST_UNCUT", 2999)
        engine = TokenizersEngine(load_tokenizer("pico"))
        with pytest.raises(DataError) as caught:
            find_cut("ы" * 3000, before=1000, engine=engine, name="dna.txt")
        assert str(caught.value).startswith("dna.txt: 3,000 characters without a place to cut")
        assert "data.document_separator" in str(caught.value)
        assert find_cut("ы" * 2999, before=1000, engine=engine, name="dna.txt") is None

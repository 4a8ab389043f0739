import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from gptft.analysis import ngram_search
from gptft.analysis.memorization import TextMemorization, measure_memorization
from gptft.analysis.ngram_search import SIZES, Copied, find_copies
from gptft.analysis.span_places import Place
from gptft.analysis.training_text import EncodedText, TrainingText, WrittenText
from gptft.config.sections import Config
from gptft.data.pack import Prepared
from gptft.data.plan import plan_packing
from gptft.data.prepare import prepare_blocks
from gptft.data.store import BlockStore
from gptft.errors import RunError
from gptft.files import as_json
from tests.framed import LLAMA, OPT, write_tokenizer

EOS = 0
WORDS = tuple(
    [
        "буря",
        "мглою",
        "небо",
        "кроет",
        "вихри",
        "снежные",
        "крутя",
        "зверь",
        "завоет",
        "заплачет",
        "дитя",
        "кружка",
    ]
)


def search(stream: Sequence[int], *sequences: Sequence[int], at_once: int = 1000) -> list[Copied]:
    ids = np.array(stream, dtype=np.uint16)
    return find_copies(
        sequences,
        read=lambda start, length: ids[start : start + length],
        num_tokens=len(ids),
        eos_token_id=EOS,
        at_once=at_once,
    )


def spans_of(ids: Sequence[int], length: int) -> list[tuple[int, ...]]:
    """Every span of a length, None where it holds EOS, by the definition."""
    spans = [tuple(ids[start : start + length]) for start in range(len(ids) - length + 1)]
    return [span if EOS not in span else () for span in spans]


def by_definition(stream: Sequence[int], ids: Sequence[int]) -> Copied:
    """Compare every span with every span."""
    found, ngrams = {}, {}
    for n in SIZES:
        ours, theirs = [span for span in spans_of(ids, n) if span], set(spans_of(stream, n))
        ngrams[n], found[n] = len(ours), sum(span in theirs for span in ours)
    theirs = {*spans_of(stream, 4)}
    at = {start for start, span in enumerate(spans_of(ids, 4)) if span and span in theirs}
    covered = [any(place - n in at for n in range(4)) for place in range(len(ids))]
    edges = [n for n, pair in enumerate(pairwise([False, *covered, False])) if pair[0] != pair[1]]
    stretches = tuple(zip(edges[::2], edges[1::2], strict=True))
    for length in range(len(ids), 0, -1):
        theirs_in_order = spans_of(stream, length)
        for start, span in enumerate(spans_of(ids, length)):
            if span and span in theirs_in_order:
                place, count = theirs_in_order.index(span), theirs_in_order.count(span)
                return Copied(length, start, span, place, count, found, ngrams, stretches)
    return Copied(0, 0, (), None, 0, found, ngrams)


class TestSearch:
    @pytest.mark.parametrize("seed", range(60))
    def test_is_exact_whatever_the_chunks(self, seed: int):
        draw = np.random.default_rng(seed)
        vocab = int(draw.integers(2, 6))
        stream = draw.integers(0, vocab, size=int(draw.integers(1, 120))).tolist()
        sequences = [
            draw.integers(0, vocab + 1, size=int(draw.integers(0, 40))).tolist() for _ in range(4)
        ]
        start = int(draw.integers(0, len(stream)))
        sequences.append([vocab + 3, *stream[start : start + 30], 9])
        expected = [by_definition(stream, ids) for ids in sequences]
        for at_once in (1, 3, 8, 17, 1000):
            assert search(stream, *sequences, at_once=at_once) == expected

    @pytest.mark.parametrize("seed", range(10))
    def test_equal_hashes_are_not_taken_for_equal_ngrams(
        self, seed: int, monkeypatch: pytest.MonkeyPatch
    ):
        collide = lambda keys: np.zeros(len(keys), dtype=np.uint64)  # noqa: E731
        monkeypatch.setattr(ngram_search, "_slots_of", collide)
        draw = np.random.default_rng(seed)
        stream = draw.integers(0, 30, size=300).tolist()
        ids = [*draw.integers(1, 30, size=40).tolist(), *stream[100:120]]
        assert search(stream, ids, at_once=50) == [by_definition(stream, ids)]

    def test_shares_by_hand(self):
        stream = [1, 2, 3, 4, 5, 6, 7, 8, 9, EOS, 1, 2, 3, 4, EOS]
        # 4-grams: 1234 and 2345 and 3456 stand there, 4 5 6 99 and the three after it don't.
        [copied] = search(stream, [1, 2, 3, 4, 5, 6, 99, 1, 2, 3])
        assert copied.ngrams == {4: 7, 8: 3, 16: 0}
        assert copied.found == {4: 3, 8: 0, 16: 0}
        assert copied.shares == {4: 3 / 7, 8: 0.0, 16: None}
        assert (copied.longest, copied.longest_ids) == (6, (1, 2, 3, 4, 5, 6))
        assert (copied.start, copied.place_in_stream, copied.num_places) == (0, 0, 1)
        [copied] = search(stream, [1, 2, 3, 4])
        assert (copied.shares[4], copied.place_in_stream, copied.num_places) == (1.0, 0, 2)

    def test_nothing_runs_over_the_end_of_a_document(self):
        stream = [1, 2, 3, EOS, 4, 5, 6, EOS]
        for ids in ([1, 2, 3, 4, 5, 6], [1, 2, 3, EOS, 4, 5, 6]):
            [copied] = search(stream, ids)
            assert (copied.longest, copied.place_in_stream, copied.found[4]) == (3, 0, 0)

    def test_of_several_longest_spans_the_first_in_the_text_counts(self):
        [copied] = search([7, 8, 9, EOS, 1, 2, 3, EOS, 7, 8, 9], [1, 2, 3, 5, 7, 8, 9])
        assert (copied.longest_ids, copied.place_in_stream, copied.num_places) == ((1, 2, 3), 4, 1)

    def test_no_texts_no_stream_and_unknown_ids(self):
        assert search([1, 2, 3]) == []
        empty = Copied(0, 0, (), None, 0, dict.fromkeys(SIZES, 0), dict.fromkeys(SIZES, 0))
        assert search([1, 2, 3], []) == [empty]
        assert search([], []) == [empty]
        assert search([], [1])[0].longest == 0
        assert search([65_535, 2], [70_000, 3, -1])[0].longest == 0
        assert search([1, 65_535, 2], [65_535, 2])[0].longest_ids == (65_535, 2)

    def test_more_texts_than_one_pass_takes(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(ngram_search, "_SEQUENCES", 2)
        texts = [[1, 2], [2, 3], [3, 1], [9], [3, EOS]]
        assert [copied.longest_ids for copied in search([1, 2, 3, EOS], *texts)] == [
            (1, 2),
            (2, 3),
            (3,),
            (),
            (3,),
        ]

    def test_ids_of_four_bytes(self):
        ids = np.array([151_000, 5, 151_001, EOS], dtype=np.uint32)
        [copied] = find_copies(
            [[5, 151_001, 5]],
            read=lambda start, length: ids[start : start + length],
            num_tokens=4,
            eos_token_id=EOS,
        )
        assert (copied.longest_ids, copied.place_in_stream) == ((5, 151_001), 1)

    def test_the_stream_is_read_in_bounded_pieces_each_place_once_but_for_the_overlap(self):
        stream = np.arange(1, 10_001, dtype=np.uint16)
        asked = []

        def read(start: int, length: int) -> np.ndarray:
            asked.append((start, length))
            return stream[start : start + length]

        texts = [list(range(995, 1015)), list(range(9_990, 10_001))]
        copies = find_copies(texts, read=read, num_tokens=10_000, eos_token_id=EOS, at_once=1000)
        assert [copied.longest for copied in copies] == [20, 11]
        assert [copied.place_in_stream for copied in copies] == [994, 9989]
        assert asked == [(k * 1000, min(1019, 10_000 - k * 1000)) for k in range(10)]


class MadeRun:
    """A run folder as `gptft train` leaves it, weights aside, and the texts it was trained on."""

    def __init__(self, folder: Path, model_dir: Path) -> None:
        self.texts, self.run_dir, self._model_dir = folder / "texts", folder / "run", model_dir
        self.texts.mkdir()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.texts / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def make(self, samples: Sequence[dict[str, Any]] = (), **data: Any) -> Path:
        values = {"train": [str(self.texts)], "block_size": 16, **data}
        config = Config.model_validate({"model": {"name": str(self._model_dir)}, "data": values})
        self.prepared: Prepared = prepare_blocks(plan_packing(config))
        (self.run_dir / "model").mkdir(parents=True)
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
            shutil.copy(self._model_dir / name, self.run_dir / "model" / name)
        facts = {
            "state": "done",
            "config": config.resolved(),
            "data": {"store": self.prepared.path.name, "ledger": as_json(self.prepared.ledger)},
        }
        (self.run_dir / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in samples)
        (self.run_dir / "samples.jsonl").write_text(lines, encoding="utf-8")
        return self.run_dir

    def measure(self, continuation: str, prompt: str = "") -> TextMemorization:
        [text] = measure_memorization(self.run_dir, [WrittenText(prompt, continuation)]).texts
        return text


@pytest.fixture
def made(tmp_path: Path, tiny_model_dir: Path) -> MadeRun:
    return MadeRun(tmp_path, tiny_model_dir)


def verse(seed: int, num_lines: int, *, words: Sequence[str] = WORDS) -> str:
    draw = np.random.default_rng(seed)
    return "".join(" ".join(draw.choice(words, size=5).tolist()) + "\n" for _ in range(num_lines))


PLANTED = "Выпьем с горя; где же кружка? 42 раза"


def test_what_is_copied_is_told_by_its_characters(made: MadeRun):
    made.write("a.txt", verse(1, 9) + PLANTED + "\n")
    made.make()
    text = made.measure(f"Ёж 😀 {PLANTED}; ёж", prompt="Да,")
    whole = text.text.prompt + text.text.continuation
    found = as_json(text)
    start = found["longest"]["start_character"]
    assert whole[start:].startswith(text.quote)
    assert PLANTED[1:] in text.quote
    [stretch] = found["copied"]
    assert whole[stretch["start_character"] : stretch["end_character"]] == text.quote
    assert stretch["num_tokens"] == found["longest"]["num_tokens"]
    nothing = as_json(made.measure(""))
    assert (nothing["copied"], nothing["longest"]["start_character"]) == ([], None)


def test_a_character_that_a_stretch_cuts_is_left_out():
    data = "aж😀b".encode()  # 1 + 2 + 4 + 1 bytes
    spans = tuple((n, n + 1) for n in range(len(data)))
    encoded = EncodedText(data, tuple(range(len(data))), spans)
    for start in range(len(data)):
        for end in range(start + 1, len(data) + 1):
            ((first, last),) = encoded.characters([(start, end)])
            assert "aж😀b"[first:last] == data[start:end].decode(errors="ignore")


def test_no_n_gram_runs_over_bos_and_none_holds_it():
    stream = np.array([1, 5, 6, 7, 2, 1, 5, 6, 8, 2], dtype=np.uint16)
    (copied,) = find_copies(
        [[1, 5, 6, 7, 2, 1, 5, 6, 8]],
        read=lambda start, length: stream[start : start + length],
        num_tokens=len(stream), eos_token_id=2, bos_token_ids=[1],
    )  # fmt: skip
    assert (copied.longest_ids, copied.place_in_stream) == ((5, 6, 7), 1)
    assert copied.ngrams[4] == 0


class TestPlaces:
    def test_a_planted_span_is_found_at_its_file_and_line(self, made: MadeRun):
        made.write("a.txt", verse(1, 30))
        made.write("b.txt", verse(2, 12) + PLANTED + "\n" + verse(3, 30))
        made.make()
        found = made.measure(f"qqq{PLANTED}\nzzz")
        assert PLANTED in found.quote
        assert found.quote.strip("\n") == PLANTED
        assert found.place is not None
        assert str(found.place) == f"{made.texts / 'b.txt'}:13"
        assert found.copied.num_places == 1
        # With the line's end before it, the line is still that of the words.
        longer = made.measure(f"\n{PLANTED}")
        assert longer.quote == f"\n{PLANTED}"
        assert longer.place is not None
        assert longer.place.line == 13
        # The block is the one of which --preview shows the span's first token.
        store = BlockStore(made.prepared.path)
        block_size = len(store[0])
        place = found.copied.place_in_stream
        assert place is not None
        assert found.place.block == place // block_size + 1
        assert found.copied.longest > block_size  # so it lies over a border
        flat = [i for block in map(store.__getitem__, range(len(store))) for i in block.tolist()]
        assert tuple(flat[place : place + found.copied.longest]) == found.copied.longest_ids

    def test_in_the_tail_and_up_to_a_documents_end_but_not_beyond(self, made: MadeRun):
        made.write("a.txt", verse(1, 9) + PLANTED)
        made.write("b.txt", "The quick brown fox jumps")
        made.make()
        last = BlockStore(made.prepared.path)[-1]
        assert 1 < len(last) < 16
        found = made.measure("quick brown fox jumps")
        assert found.quote == "quick brown fox jumps"
        assert str(found.place) == f"{made.texts / 'b.txt'}:1"
        # Without EOS between them the two documents would make this one span.
        found = made.measure(f"{PLANTED}The quick brown fox jumps")
        assert found.quote == PLANTED
        assert str(found.place) == f"{made.texts / 'a.txt'}:10"

    def test_several_places(self, made: MadeRun):
        made.write("a.txt", f"{verse(1, 4)}{PLANTED}\n{verse(5, 4)}")
        made.write("b.txt", f"{verse(2, 7)}{PLANTED}\n{verse(4, 3)}{PLANTED}")
        made.make()
        found = made.measure(PLANTED)
        assert (found.copied.num_places, found.place) == (
            3,
            Place(found.place.block if found.place else 0, str(made.texts / "a.txt"), line=5),
        )

    def test_lines_are_the_files_own_behind_separators_and_blank_documents(self, made: MadeRun):
        parts = [verse(1, 3), "  \n\n", verse(2, 4), verse(3, 2) + PLANTED + "\n"]
        text = "***\n".join(parts)
        made.write("a.txt", text)
        made.make(document_separator="***\n")
        line = next(n for n, row in enumerate(text.split("\n"), 1) if PLANTED in row)
        assert str(made.measure(PLANTED).place) == f"{made.texts / 'a.txt'}:{line}"

    def test_lines_are_the_files_own_in_chapters(self, made: MadeRun):
        chapters = [verse(1, 3), verse(2, 4), verse(3, 2) + PLANTED + "\n"]
        text = "".join(f"\nГлава {n}\n\n{chapter}" for n, chapter in enumerate(chapters, 1))
        made.write("a.txt", text)
        made.make(document_heading="Глава [0-9]+")
        line = next(n for n, row in enumerate(text.split("\n"), 1) if PLANTED in row)
        assert str(made.measure(PLANTED).place) == f"{made.texts / 'a.txt'}:{line}"

    @pytest.mark.parametrize(
        ("codec", "newline", "line_ends"),
        [
            ("cp1251", "\n", "keep"),
            ("utf-8-sig", "\r\n", "keep"),
            ("utf-8", "\r\n", "lf"),
            ("utf-16", "\n", "keep"),
        ],
    )
    def test_in_any_encoding(self, made: MadeRun, codec: str, newline: str, line_ends: str):
        text = (verse(1, 20) + PLANTED + "\n" + verse(2, 5)).replace("\n", newline)
        made.write("a.txt", text.encode(codec))
        made.make(line_ends=line_ends)
        assert str(made.measure(PLANTED).place) == f"{made.texts / 'a.txt'}:21"

    def test_of_records_the_document_is_named(self, made: MadeRun):
        rows = [verse(1, 2), "", verse(2, 2), f"{verse(3, 1)}{PLANTED}"]
        lines = "".join(json.dumps({"text": row}) + "\n" for row in rows)
        made.write("a.jsonl", lines)
        made.make()
        place = made.measure(PLANTED).place
        assert place is not None
        # Empty records are left out, as everywhere.
        assert str(place) == f"{made.texts / 'a.jsonl'}, document 3"
        assert place.line is None

    def test_a_long_document_is_searched_over_its_pieces(self, made: MadeRun):
        head = verse(1, 20_000)
        cut = head.encode()[:1_000_000].decode(errors="ignore").count("\n")
        assert 0 < cut < 19_000
        lines = head.splitlines(keepends=True)
        lines[cut] = f"{lines[cut][:-1]} {PLANTED} {'x' * 40}\n"
        made.write("a.txt", "".join(lines))
        made.make(block_size=64)
        assert str(made.measure(PLANTED).place) == f"{made.texts / 'a.txt'}:{cut + 1}"

    def test_the_same_words_elsewhere_are_not_taken_for_the_place(self, made: MadeRun):
        """The first place of a whole document is named, not its equal that was held out."""
        poem = f"{verse(7, 2)}{PLANTED}"
        for number in range(8):
            made.write(f"{number}.txt", poem)
        draws = {seed: np.random.default_rng(seed).permutation(8)[:4].tolist() for seed in range(9)}
        seed = next(seed for seed, draw in draws.items() if 0 in draw)
        made.make(validation=0.5, seed=seed)
        kept = min({*range(8)}.difference(draws[seed]))
        assert kept > 0
        found = made.measure(PLANTED)
        assert str(found.place) == f"{made.texts / f'{kept}.txt'}:3"
        assert found.copied.num_places == 4

    def test_weights_repeat_places_in_the_stream(self, made: MadeRun):
        made.write("a.txt", verse(1, 5))
        poem = made.write("b.txt", verse(2, 5) + PLANTED)
        made.make(train=[str(made.texts / "a.txt"), {"path": str(poem), "weight": 3}])
        found = made.measure(PLANTED)
        assert (found.copied.num_places, str(found.place)) == (3, f"{poem}:6")

    def test_with_weights_and_a_drawn_validation_part(self, made: MadeRun):
        (made.texts / "more").mkdir()
        names = [f"{number}.txt" for number in range(5)] + [f"more/{n}.txt" for n in range(5)]
        for number, name in enumerate(names):
            made.write(name, f"{verse(number, 6)}{PLANTED} {number}\n")
        sources = [
            {"path": f"{made.texts}/*.txt", "weight": 2.5},
            {"path": f"{made.texts}/more", "weight": 0.5},
        ]
        run_dir = made.make(train=sources, validation=0.3)
        texts = [WrittenText("", (made.texts / name).read_text("utf-8")) for name in names]
        measured = measure_memorization(run_dir, texts)
        assert measured.why_no_files is None
        whole = [text for text in measured.texts if text.copied.longest == text.num_tokens]
        assert 5 <= len(whole) < 10
        for name, text in zip(names, measured.texts, strict=True):
            if text in whole:
                assert str(text.place) == f"{made.texts / name}:1"

    def test_with_a_tokenizer_that_puts_a_space_in_front(self, tmp_path: Path):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        backend.decoder = decoders.Metaspace(prepend_scheme="always")
        poem = verse(1, 3) + PLANTED
        trainer = trainers.BpeTrainer(
            vocab_size=90, special_tokens=["</s>"], show_progress=False, initial_alphabet=list("q")
        )
        backend.train_from_iterator([poem] * 3, trainer)
        model_dir = tmp_path / "model"
        model_dir.mkdir()
        backend.save(str(model_dir / "tokenizer.json"))
        (model_dir / "tokenizer_config.json").write_text('{"eos_token": "</s>"}', encoding="utf-8")
        (model_dir / "config.json").write_text("{}", encoding="utf-8")
        made = MadeRun(tmp_path, model_dir)
        made.write("a.txt", "qqq")
        made.write("b.txt", poem)
        made.make()
        whole, end = made.measure(poem), made.measure(PLANTED)
        assert (whole.quote, str(whole.place)) == (poem, f"{made.texts / 'b.txt'}:1")
        # Its first token has a space in front here, and none after a line's end.
        assert end.quote == PLANTED.removeprefix("Вы")
        assert str(end.place) == f"{made.texts / 'b.txt'}:4"

    @pytest.mark.parametrize("template", [LLAMA, OPT, "<s> <unk> $A"])
    def test_bos_is_no_part_of_a_span(self, tmp_path: Path, template: str):
        made = MadeRun(tmp_path, write_tokenizer(tmp_path / "base", template))
        made.write("a.txt", "qqq")
        path = made.write("b.txt", f"{PLANTED}\n{verse(1, 5)}")
        made.make(block_size=8)
        found = made.measure(PLANTED)  # which begins a document, right behind BOS
        assert (found.quote, str(found.place)) == (PLANTED, f"{path}:1")
        assert found.copied.longest == found.num_tokens
        inner = made.measure(f"zz{PLANTED[5:]}")
        assert str(inner.place) == f"{path}:1"

    def test_a_run_older_than_bos_finds_its_places(self, tmp_path: Path):
        made = MadeRun(tmp_path, write_tokenizer(tmp_path / "base", LLAMA))
        path = made.write("b.txt", f"{verse(1, 5)}{PLANTED}")
        made.make(add_bos=False)
        facts = json.loads((made.run_dir / "run.json").read_text(encoding="utf-8"))
        del facts["config"]["data"]["add_bos"]
        (made.run_dir / "run.json").write_text(json.dumps(facts), encoding="utf-8")
        assert str(made.measure(PLANTED).place) == f"{path}:6"
        shutil.rmtree(made.prepared.path)
        assert str(made.measure(PLANTED).place) == f"{path}:6"

    def test_changed_or_missing_texts_give_the_block_and_say_why(self, made: MadeRun):
        path = made.write("a.txt", verse(1, 5) + PLANTED)
        run_dir = made.make()
        texts = [WrittenText("", PLANTED)]
        with path.open("a", encoding="utf-8") as file:
            file.write("!")
        changed = measure_memorization(run_dir, texts)
        assert "have changed since the run" in str(changed.why_no_files)
        [text] = changed.texts
        assert text.quote == PLANTED
        assert text.place is not None
        assert str(text.place) == f"block {text.place.block} of the training part"
        assert as_json(text)["longest"]["file"] is None
        path.unlink()
        gone = measure_memorization(run_dir, texts)
        assert "can't be read again" in str(gone.why_no_files)
        assert "a.txt" in str(gone.why_no_files) or str(made.texts) in str(gone.why_no_files)
        assert gone.texts[0].place == text.place


class TestOpenRun:
    def test_a_folder_that_is_no_run(self, tmp_path: Path):
        with pytest.raises(RunError, match=r"is not a run of gptft: there is no run\.json in it"):
            TrainingText.open_run(tmp_path)

    @pytest.mark.parametrize("content", ["{}", '{"config": {}, "data": {"store": "../../x"}}'])
    def test_facts_without_a_store(self, tmp_path: Path, content: str):
        (tmp_path / "run.json").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match="doesn't say what the run was trained on"):
            TrainingText.open_run(tmp_path)

    @pytest.mark.parametrize("damage", ["gone", "damaged"])
    def test_blocks_are_made_again(self, made: MadeRun, damage: str):
        made.write("a.txt", verse(1, 20) + PLANTED)
        run_dir = made.make()
        if damage == "gone":
            shutil.rmtree(made.prepared.path)
        else:
            file = made.prepared.path / "train.arrow"
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        said: list[str] = []
        training = TrainingText.open_run(run_dir, notify=said.append)
        assert "made again" in said[0]
        [copied] = training.copies([training.encode(WrittenText("", PLANTED)).ids])
        assert copied.longest == len(training.encode(WrittenText("", PLANTED)).ids)
        said.clear()
        TrainingText.open_run(run_dir, notify=said.append)
        assert said == []

    def test_blocks_gone_and_texts_changed_or_gone(self, made: MadeRun):
        path = made.write("a.txt", verse(1, 20))
        run_dir = made.make()
        shutil.rmtree(made.prepared.path)
        blocks = made.prepared.path.parent
        path.write_text("another text", encoding="utf-8")
        with pytest.raises(RunError, match="have changed since the run"):
            TrainingText.open_run(run_dir)
        assert list(blocks.iterdir()) == []  # nothing was made of the changed text
        shutil.rmtree(made.texts)
        with pytest.raises(RunError, match=r"can't be read again\. .*no such file or folder"):
            TrainingText.open_run(run_dir)

    def test_an_unfinished_run_has_its_bases_tokenizer(self, made: MadeRun):
        made.write("a.txt", PLANTED)
        run_dir = made.make()
        shutil.rmtree(run_dir / "model")
        assert made.measure(PLANTED).quote == PLANTED


class TestEncoding:
    @pytest.fixture
    def training(self, made: MadeRun) -> TrainingText:
        made.write("a.txt", verse(1, 20) + PLANTED)
        return TrainingText.open_run(made.make())

    def test_a_token_over_the_prompts_border_is_not_counted(self, training: TrainingText):
        # The last tokens of this are " кру", "тя" and ";".
        whole = tuple(training.tokenizer.backend.encode("снежные крутя;").ids)
        assert training.tokenizer.backend.decode(whole[-3:-2]) == " кру"
        assert training.encode(WrittenText("снежные кр", "утя;")).ids == whole[-2:]
        assert training.encode(WrittenText("снежные", " крутя;")).ids == whole[-3:]
        # Of the prompt the first token has nothing but its space.
        assert training.encode(WrittenText("снежные ", "крутя;")).ids == whole[-3:]
        assert training.encode(WrittenText("", "снежные крутя;")).ids == whole

    def test_special_tokens_in_a_text_are_text(self, training: TrainingText):
        assert (
            training.tokenizer.require_eos()
            not in training.encode(WrittenText("", "<|endoftext|>Буря")).ids
        )

    def test_a_quote_has_whole_characters(self, training: TrainingText):
        encoded = training.encode(WrittenText("", "щ€ж"))  # not merged: a token a byte
        assert len(encoded.ids) == len("щ€ж".encode())
        assert encoded.quote(1, 5) == "€"
        assert encoded.quote(0, 7) == "щ€ж"
        assert encoded.quote(0, 0) == ""

    def test_the_prompt_does_not_count(self, made: MadeRun):
        made.write("a.txt", verse(1, 20) + PLANTED)
        made.make()
        found = made.measure(" 42 раза", prompt="Выпьем с горя; где же кружка?")
        assert found.quote == " 42 раза"
        nothing = made.measure("", prompt=PLANTED)
        assert (nothing.num_tokens, nothing.copied.longest, nothing.place) == (0, 0, None)


class TestHeldOut:
    def test_is_measured_like_a_text(self, made: MadeRun):
        for number in range(10):
            made.write(f"{number}.txt", verse(number, 20))
        run_dir = made.make(validation=0.3)
        measured = measure_memorization(run_dir, [WrittenText("", verse(99, 4))])
        training = TrainingText.open_run(run_dir)
        num_tokens = measured.texts[0].num_tokens
        excerpts = training.held_out_excerpts(length=num_tokens)
        store = BlockStore(made.prepared.path, split="validation")
        stream = store.span(0, store.num_tokens).tolist()
        assert excerpts[0] == stream[:num_tokens]
        assert excerpts[-1] == stream[-num_tokens:]
        assert sum(map(len, excerpts)) <= 4096
        trained = BlockStore(made.prepared.path)
        flat = trained.span(0, trained.num_tokens).tolist()
        expected = [by_definition(flat, excerpt) for excerpt in excerpts[:2]]
        assert training.copies(excerpts[:2]) == expected
        assert measured.held_out is not None
        assert measured.held_out.num_texts == len(excerpts)
        copies = training.copies(excerpts)
        assert measured.held_out.shares[4] == pytest.approx(
            sum(copied.found[4] for copied in copies) / sum(copied.ngrams[4] for copied in copies)
        )

    def test_a_short_one_is_one_excerpt(self, made: MadeRun):
        made.write("a.txt", verse(1, 20))
        held_out = made.write("b.txt", "Буря мглою")
        training = TrainingText.open_run(made.make(validation=[str(held_out)]))
        [excerpt] = training.held_out_excerpts(length=500)
        assert excerpt[-1] == training.tokenizer.eos_token_id

    def test_without_a_validation_part_there_is_none(self, made: MadeRun):
        made.write("a.txt", verse(1, 20))
        run_dir = made.make()
        assert measure_memorization(run_dir, [WrittenText("", "x")]).held_out is None
        assert TrainingText.open_run(run_dir).held_out_excerpts(length=8) == []


def test_nothing_heavy_is_loaded(made: MadeRun):
    made.write("a.txt", verse(1, 20) + PLANTED)
    code = (
        "import sys; from pathlib import Path; from gptft.analysis.memorization import *\n"
        f"measure_memorization(Path({str(made.make())!r}), [WrittenText('', 'x')])\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"

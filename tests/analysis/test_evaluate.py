"""`gptft.evaluate` against loops of plain torch and formulas written out here."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import gptft
from gptft.analysis.evaluate import measure
from gptft.analysis.evaluate.bootstrap import bootstrap
from gptft.analysis.evaluate.corpus import Document
from gptft.analysis.evaluate.evaluate import _remarks
from gptft.analysis.evaluate.results import Evaluation
from gptft.errors import ConfigError, DataError, GptftError, ModelError
from gptft.files import as_json
from tests.conftest import SENTENCES
from tests.models.adapter_maker import make_base

LONG = "".join(SENTENCES) * 2  # several windows of 64 tokens
TEXTS = {"0.txt": SENTENCES[0], "1.txt": LONG, "2.txt": "x", "3.txt": f"\n\n{SENTENCES[2]}\n"}
CONTEXT = 64


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> dict[str, Path]:
    """One model folder a kind, all with one tokenizer and a context of 64."""
    folder = tmp_path_factory.mktemp("models")
    kinds = ("gpt2", "llama", "gpt_neox")
    return {kind: make_base(kind, folder / kind, tokenizer_of=tiny_model_dir) for kind in kinds}


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder


def evaluated(models: Sequence[Path], *data: Path | str, **given: Any) -> Evaluation:
    names = [str(model) for model in models]
    return gptft.evaluate(names, [str(one) for one in data], use_cpu=True, **given)


def plain(
    folder: Path, text: str, *, window: int, stride: int, eos: bool = False
) -> tuple[list[float], list[float], list[bool]]:
    """-ln p of each token by one forward pass a token; the best one's p; whether it was that one.

    A token at place t is predicted from all before it that its window holds.
    """
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    begin = tokenizer.bos_token_id or tokenizer.eos_token_id
    ids = [begin, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    ids += [tokenizer.eos_token_id] * eos
    nats, best, hits = [], [], []
    for t in range(1, len(ids)):
        begins = max(math.ceil((t - window) / stride), 0) * stride
        with torch.no_grad():
            logits = model(torch.tensor([ids[begins:t]])).logits[0, -1].double().numpy()
        logprobs = logits - np.logaddexp.reduce(logits)
        nats.append(-logprobs[ids[t]])
        best.append(float(np.exp(logprobs.max())))
        hits.append(bool(logprobs.argmax() == ids[t]))
    return nats, best, hits


@pytest.mark.parametrize("kind", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize(("window", "stride"), [(None, None), (32, None), (24, 7), (16, 16)])
def test_a_loop_of_plain_torch_finds_the_same(
    models: dict[str, Path], texts: Path, kind: str, window: int | None, stride: int | None
) -> None:
    found = evaluated([models[kind]], texts, window=window, stride=stride)
    size = window or CONTEXT
    loops = [
        plain(models[kind], text, window=size, stride=stride or size // 2)
        for text in TEXTS.values()
    ]
    (one,) = found.models
    assert max(map(len, (nats for nats, *_ in loops))) > 2 * CONTEXT
    for at, (nats, *_) in enumerate(loops):
        of_document = one.of_document(at)
        assert of_document.num_tokens == len(nats)
        assert of_document.loss == pytest.approx(np.mean(nats), abs=1e-6)
    every = np.concatenate([nats for nats, *_ in loops])
    num_bytes = sum(len(text.encode()) for text in TEXTS.values())
    figures = one.figures()
    assert figures.loss == pytest.approx(every.mean(), abs=1e-6)
    assert figures.perplexity == pytest.approx(math.exp(every.mean()), rel=1e-6)
    assert figures.bits_per_byte == pytest.approx(every.sum() / math.log(2) / num_bytes, abs=1e-6)
    num_characters = sum(map(len, TEXTS.values()))
    bits = every.sum() / math.log(2) / num_characters
    assert figures.bits_per_character == pytest.approx(bits, abs=1e-6)


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Path:
    """A model that is surer than it should be."""
    folder = tmp_path_factory.mktemp("sure") / "model"
    changed(models["llama"], folder, lambda model: model.lm_head.weight.mul_(20))
    return folder


def changed(source: Path, folder: Path, change: Callable[[Any], Any]) -> None:
    """Save a copy of a model whose weights are others."""
    shutil.copytree(source, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        change(model)
    model.save_pretrained(folder)


def test_calibration_by_its_formula(sure: Path, texts: Path) -> None:
    found = evaluated([sure], texts)
    loops = [plain(sure, text, window=CONTEXT, stride=CONTEXT // 2) for text in TEXTS.values()]
    best = np.concatenate([best for _, best, _ in loops])
    hits = np.concatenate([hits for *_, hits in loops])
    calibration, gaps = found.models[0].calibration, 0.0
    assert len({*np.floor(best * 10)}) > 2
    for it in calibration.bins:
        inside = (best >= it.low) & (best < it.high)
        assert it.num_tokens == inside.sum()
        if inside.any():
            assert it.confidence == pytest.approx(best[inside].mean(), abs=1e-6)
            assert it.accuracy == pytest.approx(hits[inside].mean())
            gaps += inside.sum() / len(best) * abs(hits[inside].mean() - best[inside].mean())
        else:
            assert (it.confidence, it.accuracy) == (None, None)
    assert calibration.expected_error == pytest.approx(gaps, abs=1e-6)
    assert calibration.accuracy == pytest.approx(hits.mean())


def test_a_token_that_is_certain_is_in_the_last_bin() -> None:
    counted = measure._Counted(0)
    counted.add_tokens(np.array([0.0, 0.1, 0.95, 1.0]), np.array([False, True, True, True]))
    assert counted.counts.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert counted.hits.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_goes_through_together_changes_nothing(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "lines.jsonl"
    texts = [sentence[: 3 + 2 * i] for i in range(12) for sentence in SENTENCES]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    found = []
    for rows, at_once in ((64, 2**18), (1, 2**18), (5, 30)):
        monkeypatch.setattr(measure, "_ROWS", rows)
        monkeypatch.setattr(measure, "_AT_ONCE", at_once)
        (one,) = evaluated([models[kind]], path).models
        found.append(one)
    for other in found[1:]:
        np.testing.assert_allclose(other.nats, found[0].nats, rtol=1e-5)
        assert other.num_tokens.tolist() == found[0].num_tokens.tolist()
        assert [text for _, text in other.hardest] == [text for _, text in found[0].hardest]
        assert other.calibration.counts.tolist() == found[0].calibration.counts.tolist()


def test_eos_is_predicted_where_it_is_asked_for(models: dict[str, Path], texts: Path) -> None:
    (plainly,) = evaluated([models["gpt2"]], texts).models
    (ended,) = evaluated([models["gpt2"]], texts, counts_eos=True).models
    nats, *_ = plain(models["gpt2"], TEXTS["0.txt"], window=64, stride=32, eos=True)
    assert ended.num_tokens.tolist() == [n + 1 for n in plainly.num_tokens.tolist()]
    assert ended.num_bytes.tolist() == plainly.num_bytes.tolist()
    assert ended.nats[0] == pytest.approx(sum(nats), rel=1e-6)
    assert plainly.nats[0] == pytest.approx(sum(nats[:-1]), rel=1e-6)


def uniform(folder: Path, tokenizer_of: Path) -> Path:
    """A model that finds all tokens equally likely."""
    base = make_base("gpt2", folder.with_name(f"{folder.name}-base"), tokenizer_of=tokenizer_of)
    changed(base, folder, lambda model: [weight.zero_() for weight in model.parameters()])
    return folder


def other_tokenizer(folder: Path) -> Path:
    """A folder with a tokenizer of bytes, and the ids that a config needs."""
    from gptft.tokenization.tokenizer import save_tokenizer
    from gptft.tokenization.trainers import train_bpe

    tokenizer = train_bpe(iter(SENTENCES), vocab_size=262, min_frequency=2)
    save_tokenizer(tokenizer, folder, model_max_length=64)
    eos = tokenizer.require_eos()
    ids = {"vocab_size": tokenizer.vocab_size, "eos_token_id": eos, "bos_token_id": eos}
    (folder / "config.json").write_text(json.dumps(ids), encoding="utf-8")
    return folder


def test_models_of_two_tokenizers_compare_by_the_byte(
    tmp_path: Path, tiny_model_dir: Path, texts: Path
) -> None:
    small = other_tokenizer(tmp_path / "bytes")
    folders = [
        uniform(tmp_path / "a", tiny_model_dir),
        uniform(tmp_path / "b", small),
    ]
    found = evaluated(folders, texts)
    num_bytes = sum(len(text.encode()) for text in TEXTS.values())
    expected = []
    for folder, one in zip(folders, found.models, strict=True):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        num_tokens = sum(
            len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in TEXTS.values()
        )
        expected.append(num_tokens * math.log2(len(tokenizer)) / num_bytes)
        figures = one.figures()
        assert figures.num_bytes == num_bytes
        assert figures.perplexity == pytest.approx(len(tokenizer), rel=1e-5)
        assert figures.bits_per_byte == pytest.approx(expected[-1], rel=1e-6)
    assert found.models[0].figures().num_tokens != found.models[1].figures().num_tokens
    assert found.difference(1) == pytest.approx(expected[1] - expected[0], rel=1e-5)
    fields = as_json(found)
    assert fields["models"][0]["difference_to_first"] is None
    assert fields["models"][1]["difference_to_first"]["bits_per_byte"] == found.difference(1)


class TestIntervals:
    def test_percentiles_of_draws_made_here(self) -> None:
        random = np.random.default_rng(5)
        bits, sizes = random.uniform(1, 9, (2, 30)), random.integers(1, 9, (2, 30))
        own, differences = bootstrap(bits, sizes, seed=7)
        drawn, again = [], np.random.default_rng(7)
        for _ in range(1000):
            at = again.integers(30, size=30)
            drawn.append([bits[m, at].sum() / sizes[m, at].sum() for m in (0, 1)])
        values = np.array(drawn)
        for m in (0, 1):
            assert own[m] == pytest.approx(np.percentile(values[:, m], [2.5, 97.5]))
        gap = values[:, 1] - values[:, 0]
        assert differences[0] is None
        assert differences[1] == pytest.approx(np.percentile(gap, [2.5, 97.5]))

    def test_the_mean_of_many_alike_has_the_interval_of_the_textbook(self) -> None:
        bits = np.random.default_rng(1).normal(10, 2, (1, 400))
        (interval,), _ = bootstrap(bits, np.ones((1, 400), np.int64), seed=0)
        assert interval is not None
        half = 1.96 * bits.std() / math.sqrt(400)
        assert interval.low == pytest.approx(bits.mean() - half, abs=0.03)
        assert interval.high == pytest.approx(bits.mean() + half, abs=0.03)

    def test_models_that_differ_alike_everywhere_have_a_narrow_difference(self) -> None:
        bits = np.random.default_rng(2).uniform(1, 20, (1, 50))
        own, (_, gap) = bootstrap(np.concatenate([bits, bits + 0.5]), np.full((2, 50), 10), seed=0)
        assert gap == pytest.approx((0.05, 0.05))
        assert own[0] is not None
        assert own[0].high - own[0].low > 0.2

    @pytest.mark.parametrize(
        ("bits", "sizes"),
        [([[3.0]], [[2]]), ([[math.inf, 1.0]], [[1, 1]]), ([[1.0, 2.0]], [[0, 0]])],
    )
    def test_there_is_none_of_one_document_or_of_no_number(
        self, bits: list[list[float]], sizes: list[list[int]]
    ) -> None:
        own, gaps = bootstrap(np.array(bits), np.array(sizes), seed=0)
        assert (own, gaps) == ([None], [None])

    def test_the_same_seed_gives_the_same(self, models: dict[str, Path], texts: Path) -> None:
        first, again, other = (evaluated([models["gpt2"]], texts, seed=s) for s in (3, 3, 4))
        assert first.intervals == again.intervals
        assert first.intervals != other.intervals


class TestPlaces:
    def found(self, models: dict[str, Path], *data: Path | str, **given: Any) -> list[Any]:
        fields = as_json(evaluated([models["gpt2"]], *data, **given))
        return [
            (Path(row["source"]).name, row["line"], row["number"])
            for row in fields["models"][0]["documents"]
        ]

    def test_lines_of_text_and_numbers_of_records(
        self, models: dict[str, Path], tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text(
            "один\n---\n\n\n---\n\nдва\nтри\n---\nчетыре", encoding="utf-8"
        )
        (tmp_path / "b.jsonl").write_text(
            '{"t": "раз"}\n{"t": " "}\n{"t": "два"}\n', encoding="utf-8"
        )
        sets = [r'data.document_separator="\n---\n"', "data.text_field=t"]
        found = self.found(models, tmp_path / "a.txt", tmp_path / "b.jsonl", overrides=sets)
        assert found == [
            ("a.txt", 1, 1), ("a.txt", 7, 2), ("a.txt", 10, 3),
            ("b.jsonl", None, 1), ("b.jsonl", None, 2),
        ]  # fmt: skip

    def test_lines_of_chapters(self, models: dict[str, Path], tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("I\n\nодин\n\nII\n\nдва\n", encoding="utf-8")
        found = self.found(models, tmp_path / "a.txt", overrides=["data.document_heading='[IV]+'"])
        assert found == [("a.txt", 1, 1), ("a.txt", 5, 2)]

    def test_the_hardest_come_first_with_their_text(
        self, models: dict[str, Path], texts: Path
    ) -> None:
        found = evaluated([models["llama"]], texts, num_hardest=2)
        (one,) = found.models
        by_bits = sorted(range(4), key=lambda at: -(one.of_document(at).bits_per_byte or 0))
        assert [at for at, _ in one.hardest] == by_bits[:2]
        read = [*TEXTS.values()]
        assert [text for _, text in one.hardest] == [read[at].strip()[:300] for at in by_bits[:2]]
        assert found.sources()[0][0].endswith([*TEXTS][by_bits[0]])
        assert not evaluated([models["llama"]], texts, num_hardest=0).models[0].hardest

    def test_a_source_is_the_sum_of_its_documents(
        self, models: dict[str, Path], tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text("|".join(SENTENCES), encoding="utf-8")
        (tmp_path / "b.txt").write_text(SENTENCES[1], encoding="utf-8")
        found = evaluated(
            [models["gpt2"]], tmp_path / "*.txt", overrides=["data.document_separator='|'"]
        )
        (one,) = found.models
        by_name = {Path(name).name: (n, figures) for name, n, (figures,) in found.sources()}
        assert by_name["a.txt"][0] == 4
        assert by_name["a.txt"][1].nats == pytest.approx(sum(one.nats[:4]))
        assert by_name["a.txt"][1].num_bytes == len("".join(SENTENCES).encode())
        assert by_name["b.txt"][1].nats == pytest.approx(one.nats[4])


class TestWithoutBosAndEos:
    @pytest.fixture
    def bare(self, models: dict[str, Path]) -> tuple[Any, Any]:
        model = AutoModelForCausalLM.from_pretrained(models["gpt2"])
        tokenizer = AutoTokenizer.from_pretrained(models["gpt2"])
        tokenizer.bos_token = tokenizer.eos_token = None
        model.generation_config.bos_token_id = model.generation_config.eos_token_id = None
        return model, tokenizer

    def measured(self, bare: tuple[Any, Any], *texts: str, **given: Any) -> Any:
        documents = [Document(text, 0, 1, 1) for text in texts]
        asked = measure.Asked(**given)
        return measure.measure_documents(
            "bare", *bare, documents, asked=asked, advance=lambda num_bytes: None
        )

    @pytest.mark.parametrize("text", [SENTENCES[0], SENTENCES[2], "😀😀 "])
    def test_the_first_token_is_no_part_of_it(self, bare: tuple[Any, Any], text: str) -> None:
        one = self.measured(bare, text, "x")
        _, tokenizer = bare
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        rest = b"".join(
            bytes(byte_of(sign) for sign in tokenizer.convert_ids_to_tokens(i)) for i in ids[1:]
        )
        assert one.begins_after is None
        assert one.num_tokens.tolist() == [len(ids) - 1, 0]
        assert one.num_bytes.tolist() == [len(rest), 0]
        assert one.num_characters.tolist() == [sum(byte & 0xC0 != 0x80 for byte in rest), 0]
        assert [at for at, _ in one.hardest] == [0]
        assert one.of_document(1).loss is one.of_document(1).bits_per_byte is None
        [remark] = _remarks(one, 2)
        assert "nothing of 1 document of one token" in remark

    def test_there_is_no_eos_to_predict(self, bare: tuple[Any, Any]) -> None:
        with pytest.raises(ConfigError, match="has no EOS"):
            self.measured(bare, "x", counts_eos=True)


def byte_of(sign: str) -> int:
    """The byte that GPT-2's alphabet writes so."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    code = ord(sign)
    return code if code in printable else others[code - 256]


MISTAKES: dict[str, tuple[dict[str, Any], type[GptftError], str]] = {
    "window": ({"window": 65}, ConfigError, "--window 65 is more than the context of"),
    "stride": ({"window": 8, "stride": 9}, ConfigError, "--stride 9 is more than the window"),
    "setting": ({"overrides": ["data.seed=1"]}, ConfigError, "data.seed says nothing of how"),
    "section": ({"overrides": ["training.seed=1"]}, ConfigError, "training.seed says nothing"),
    "value": ({"overrides": ["data.line_ends=cr"]}, ConfigError, "data.line_ends"),
    "field": ({"data": "a.jsonl"}, DataError, "text"),
    "absent": ({"data": "nothing.txt"}, DataError, "nothing.txt"),
    "blank": ({"data": "blank.txt"}, DataError, "There is no text in"),
    "bytes": ({"data": "bytes.txt"}, DataError, "bytes.txt"),
    "run": ({"data": "model"}, DataError, "is a model, not texts"),
    "model": ({"models": ["nowhere/at/all"]}, ModelError, "nowhere/at/all"),
    "page": ({"html": Path("a.txt")}, ConfigError, "a.txt isn't overwritten"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(models: dict[str, Path], in_tmp: Path, name: str) -> None:
    Path("a.txt").write_text(SENTENCES[0], encoding="utf-8")
    Path("a.jsonl").write_text('{"body": "x"}', encoding="utf-8")
    Path("blank.txt").write_text(" \n\n", encoding="utf-8")
    Path("bytes.txt").write_bytes(bytes(range(256)) * 4)
    shutil.copytree(models["gpt2"], "model")
    given, kind, message = MISTAKES[name]
    given = {"models": ["model"], "data": "a.txt", **given}
    with pytest.raises(kind) as told:
        gptft.evaluate(given.pop("models"), [given.pop("data")], use_cpu=True, **given)
    assert message in str(told.value)
    assert told.value.exit_code == 2


def test_logits_that_are_no_numbers_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "vast"  # each weight is a number, and sums of them aren't
    changed(models["gpt2"], folder, lambda model: model.transformer.ln_f.weight.fill_(3e38))
    (tmp_path / "a.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ModelError, match="are not numbers"):
        evaluated([folder], tmp_path / "a.txt")


def test_texts_that_change_between_two_models_are_refused(
    models: dict[str, Path], texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptft.analysis.evaluate import evaluate as evaluating

    opened: Callable[..., Any] = evaluating.open_model

    def open_later(name: str, **given: Any) -> Any:
        if name == str(models["llama"]):
            (texts / "0.txt").write_text("другое", encoding="utf-8")
        return opened(name, **given)

    monkeypatch.setattr(evaluating, "open_model", open_later)
    with pytest.raises(DataError, match="changed while it was being read"):
        evaluated([models["gpt2"], models["llama"]], texts)


def test_progress_goes_to_the_end_for_each_model(models: dict[str, Path], texts: Path) -> None:
    told: list[tuple[str, int, int]] = []
    chosen = [models["gpt2"], models["llama"]]
    evaluated(chosen, texts, bar=lambda: nullcontext(lambda *step: told.append(step)))
    size = sum(len(text.encode()) for text in TEXTS.values())
    for model in chosen:
        steps = [step for step in told if step[0] == f"Evaluating {model}"]
        assert steps[-1][1:] == (size, size)
        assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)

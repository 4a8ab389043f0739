"""What is said of a model's parts, beside stock transformers, NumPy and formulas by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from gptft.analysis.explain.attribution import direction_of, split_layer
from gptft.analysis.explain.capture import forward_pass
from gptft.analysis.explain.explain import explain
from gptft.analysis.explain.explanation import Explanation, Lens, LensCell
from gptft.analysis.explain.heads import head_scores
from gptft.analysis.explain.training_match import match_training_text
from gptft.analysis.explain.values import NamedToken
from gptft.analysis.explain.vectors import shuffled_texts
from gptft.analysis.training_text import TrainingText
from gptft.errors import ConfigError
from tests.analysis.test_memorization import PLANTED, MadeRun, made, verse
from tests.architectures.models import save_tiny_model

__all__ = ["made"]

PROMPT = "Мороз и солнце; день"
KINDS = (
    "gpt2", "llama", "qwen3", "gpt_neox", "gptj", "opt", "bloom", "gemma2", "phi", "cohere",
    "mixtral", "olmo2", "openai-gpt", "mamba", "gpt_oss", "minicpm3",
)  # fmt: skip
# Whose attention goes through the library's table, and so gives queries and keys.
OPENED = {
    "gpt2", "llama", "qwen3", "gpt_neox", "opt", "gemma2", "phi", "cohere", "mixtral", "olmo2",
    "gpt_oss", "minicpm3",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("kinds")

    def folder(kind: str) -> Path:
        if not (base / kind).exists():
            (base / kind).mkdir()
            torch.manual_seed(5)
            save_tiny_model(kind, base / kind)
        return base / kind

    return folder


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def explained(kind: str, folders: Callable[[str], Path]) -> Explanation:
    return explain(str(folders(kind)), PROMPT, use_cpu=True)


@pytest.fixture(scope="module")
def stock(kind: str, folders: Callable[[str], Path], explained: Explanation) -> object:
    """What stock transformers gives for the same ids, its attention computed eagerly."""
    model = AutoModelForCausalLM.from_pretrained(
        folders(kind), dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = torch.tensor([[one.token.id for one in explained.tokens]])
    with torch.no_grad():
        given = model(ids, output_attentions=True, output_hidden_states=True, use_cache=False)
    given["num_parameters"] = sum(one.numel() for one in {*model.parameters()})
    return given


def test_the_logits_are_the_models(explained: Explanation, stock) -> None:
    logits = stock.logits[0, -1].sort(descending=True).values.numpy()
    np.testing.assert_allclose(explained.distribution.logits, logits, atol=1e-5)
    bits = -sum(p * math.log2(p) for p in torch.softmax(stock.logits[0, -1], -1).tolist())
    assert explained.distribution.entropy_bits == pytest.approx(bits, abs=1e-4)


def test_the_parts_sum_to_the_logit(kind: str, explained: Explanation, stock) -> None:
    found = explained.attribution
    assert found is not None
    total = math.fsum(part.value for part in found.parts)
    scale = max(abs(part.value) for part in found.parts)
    assert total == pytest.approx(found.logit, abs=1e-5 * scale)
    if found.note is None:
        assert found.logit == pytest.approx(float(stock.logits[0, -1].max()), abs=1e-5)
    else:
        assert kind in ("gemma2", "cohere", "minicpm3")
    layers = [part.layer for part in found.parts if part.layer is not None]
    assert {*layers} == {*range(explained.num_layers)}


def test_the_heads_of_a_layer_sum_to_its_attention(kind: str, explained: Explanation) -> None:
    found = explained.attribution
    assert found is not None
    if kind not in ("llama", "qwen3", "mixtral", "cohere", "minicpm3"):  # no bias is added there
        return
    assert found.heads is not None
    by_layer = [part.value for part in found.parts if part.kind == "attention"]
    np.testing.assert_allclose(found.heads.sum(-1), by_layer, atol=1e-5)


def test_attention_is_the_stock_models(kind: str, explained: Explanation, stock) -> None:
    if kind == "mamba":
        assert explained.attentions is None
        assert any("no attention" in sentence for sentence in explained.missing)
        return
    assert explained.attentions is not None
    for ours, theirs in zip(explained.attentions, stock.attentions, strict=True):
        np.testing.assert_allclose(ours, theirs[0].numpy(), atol=1e-5)
    if kind != "gpt_oss":  # whose sinks take a share of their own
        np.testing.assert_allclose(explained.attentions.sum(-1), 1.0, atol=1e-5)


def test_the_last_layer_of_the_lens_is_the_output(explained: Explanation, stock) -> None:
    assert explained.lens is not None
    best = stock.logits[0].softmax(-1).max(-1)
    last = explained.lens.cells[-1]
    assert [cell.token.id for cell in last] == best.indices.tolist()
    np.testing.assert_allclose([cell.probability for cell in last], best.values, atol=1e-5)
    for at, row in enumerate(explained.lens.decided):
        final = last[at].token.id
        assert all(cells[at].token.id == final for cells in explained.lens.cells[row:])
        assert row == 0 or explained.lens.cells[row - 1][at].token.id != final


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_a_layer_of_the_lens_is_its_norm_and_head(
    name: str, folders: Callable[[str], Path]
) -> None:
    found = explain(str(folders(name)), PROMPT, use_cpu=True)
    model = AutoModelForCausalLM.from_pretrained(folders(name), dtype=torch.float32).eval()
    ids = torch.tensor([[one.token.id for one in found.tokens]])
    norm = {"gpt2": "ln_f", "llama": "norm", "gpt_neox": "final_layer_norm"}[name]
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
        logits = model.get_output_embeddings()(getattr(model.base_model, norm)(states[1]))
    best = logits[0].softmax(-1).max(-1)
    assert found.lens is not None
    assert [cell.token.id for cell in found.lens.cells[1]] == best.indices.tolist()
    np.testing.assert_allclose(
        [cell.probability for cell in found.lens.cells[1]], best.values, atol=1e-5
    )


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ((0.0, 0.1, 0.39, 0.4, 0.8), 3),
        ((0.0, 0.5, 0.1, 0.6, 0.8), 3),  # half of it was there before, and was lost again
        ((0.9, 0.8, 0.7), 0),
        ((0.1, 0.2, 0.6), 2),
        ((0.3,), 0),
    ],
)
def test_where_half_of_the_probability_is_reached(column: tuple[float, ...], row: int) -> None:
    token = NamedToken(1, "а", "а".encode())
    other = LensCell(token, 0.9, 0.9)
    lens = Lens(tuple((other, LensCell(token, 0.9, value)) for value in column), (0, 0))
    assert lens.half_from(1) == row
    assert lens.half_from(0) == 0


def test_the_size_is_the_stock_models(kind: str, explained: Explanation, stock) -> None:
    assert explained.num_parameters == stock.num_parameters
    layers = [one[0].shape[0] for one in stock.get("attentions") or ()]
    assert explained.heads_by_layer == tuple(layers or [0] * explained.num_layers)


def test_queries_and_keys_give_the_shares(kind: str, explained: Explanation) -> None:
    opened = explained.opened
    assert (opened is not None) == (kind in OPENED)
    if opened is None:
        assert any("no block can be opened" in s or "no attention" in s for s in explained.missing)
        return
    if kind in ("gpt_oss", "mixtral"):
        return  # a sink; a window: said by has_other_terms where it has an effect
    scores = np.einsum("htd,hsd->hts", opened.query, opened.key) * opened.scaling
    if kind == "gemma2":
        scores = 50.0 * np.tanh(scores / 50.0)  # its attn_logit_softcapping
    scores[:, ~np.tri(scores.shape[-1], dtype=bool)] = -np.inf
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(opened.weights, shares, atol=1e-5)
    np.testing.assert_allclose(opened.weights, explained.attentions[opened.layer], atol=1e-6)


def test_queries_of_gpt2_are_those_of_its_projection(folders: Callable[[str], Path]) -> None:
    found = explain(str(folders("gpt2")), PROMPT, use_cpu=True)
    assert found.opened is not None
    model = AutoModelForCausalLM.from_pretrained(folders("gpt2"), dtype=torch.float32).eval()
    ids = torch.tensor([[one.token.id for one in found.tokens]])
    block = model.transformer.h[found.opened.layer]
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states[found.opened.layer]
        query, key, _ = block.attn.c_attn(block.ln_1(states))[0].chunk(3, dim=-1)
    for ours, theirs in ((found.opened.query, query), (found.opened.key, key)):
        heads = theirs.view(len(theirs), ours.shape[0], -1).transpose(0, 1).numpy()
        np.testing.assert_allclose(ours, heads, atol=1e-5)
    assert found.opened.scaling == pytest.approx(ours.shape[-1] ** -0.5)


def test_what_a_head_fetches_is_what_the_logits_lose_without_it(
    folders: Callable[[str], Path],
) -> None:
    """The last layer of a Llama without a feed-forward: the head's part alone moves the logits."""
    found = explain(str(folders("llama")), PROMPT, use_cpu=True)
    model = AutoModelForCausalLM.from_pretrained(folders("llama"), dtype=torch.float32).eval()
    passed = forward_pass(model, [one.token.id for one in found.tokens])
    direction = direction_of(passed, int(passed.logits[-1].argmax()))
    assert direction is not None
    stream = passed.layers[-1].after[-1]
    with torch.no_grad():
        one = direction.of(stream * 0.25) + direction.of(stream * 0.75)
    assert one == pytest.approx(float(passed.logits[-1].max()), abs=1e-5)


def test_a_layer_whose_norm_follows_the_sum_isnt_split(folders: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders("openai-gpt")).eval()
    passed = forward_pass(model, [5, 6, 7, 8])
    assert [split_layer(layer) for layer in passed.layers] == [None] * len(passed.layers)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gptj", "opt", "bloom", "gemma2", "phi"])
def test_attention_and_feed_forward_are_told_apart(
    name: str, folders: Callable[[str], Path]
) -> None:
    """With attention's own projection set to zero, attention adds nothing."""
    model = AutoModelForCausalLM.from_pretrained(folders(name), dtype=torch.float32).eval()
    before = forward_pass(model, [5, 6, 7, 8])
    layer = before.layers[0]
    split = split_layer(layer)
    assert split is not None
    np.testing.assert_allclose(sum(split), layer.after - layer.before, atol=1e-4)
    assert float(split[0].abs().max()) > 1e-4
    names = ("c_proj", "o_proj", "out_proj", "dense")
    assert layer.attention is not None
    for path, part in layer.attention.module.named_modules():
        if path.rpartition(".")[2] in names:
            for weight in part.parameters():
                torch.nn.init.zeros_(weight)
    after = split_layer(forward_pass(model, [5, 6, 7, 8]).layers[0])
    if after is not None:  # zero is proved by nothing where a norm follows it
        assert float(after[0].abs().max()) < 1e-5


def test_nothing_is_left_behind_in_the_model(folders: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(folders("llama")).eval()
    before = model.config._attn_implementation
    forward_pass(model, [5, 6, 7])
    assert model.config._attn_implementation == before
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())


class TestHeadNames:
    def weights(self, place: Callable[[int], int], *, length: int = 6) -> np.ndarray:
        total = 2 * length
        found = np.zeros((1, 1, total, total))
        for asking in range(total):
            found[0, 0, asking, max(place(asking), 0)] = 1.0
        return found

    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("previous token", lambda i: i - 1),
            ("first token", lambda i: 0),
            ("itself", lambda i: i),
            ("induction", lambda i: i - 5),
            ("same token", lambda i: i - 6),
        ],
    )
    def test_of_made_patterns(self, name: str, place: Callable[[int], int]) -> None:
        scores = head_scores(self.weights(place), length=6, start=0)
        assert max(scores, key=lambda one: scores[one][0, 0]) == name
        assert scores[name][0, 0] == 1.0

    def test_a_copying_model_has_an_induction_head(self) -> None:
        """Two layers made by hand: the first looks back by one, the second for a match."""
        weights = self.weights(lambda i: i - 5 if i >= 6 else 0)
        assert head_scores(weights, length=6, start=0)["induction"][0, 0] == 1.0


def test_neighbours_are_those_of_numpy(folders: Callable[[str], Path]) -> None:
    found = explain(str(folders("gpt2")), PROMPT, use_cpu=True)
    model = AutoModelForCausalLM.from_pretrained(folders("gpt2"), dtype=torch.float32)
    table = model.get_input_embeddings().weight.detach().numpy().astype(np.float64)
    for one in found.tokens:
        own = table[one.token.id]
        cosines = table @ own / np.linalg.norm(table, axis=1) / np.linalg.norm(own)
        cosines[one.token.id] = -2
        best = np.sort(cosines)[::-1][:5]
        np.testing.assert_allclose([near.likeness for near in one.neighbours], best, atol=1e-5)
        assert one.length == pytest.approx(np.linalg.norm(own), abs=1e-5)


def test_learned_positions_are_compared(folders: Callable[[str], Path]) -> None:
    for name, offset in (("gpt2", 0), ("opt", 2)):  # OPT's rows begin with two of no use
        found = explain(str(folders(name)), PROMPT, use_cpu=True).positions
        model = AutoModelForCausalLM.from_pretrained(folders(name), dtype=torch.float32)
        tables = [
            module.weight.detach().numpy()
            for path, module in model.named_modules()
            if path.endswith(("wpe", "embed_positions"))
        ]
        rows = tables[0][offset:][list(found.places)]
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        assert found.kind == "learned"
        np.testing.assert_allclose(found.likeness, rows @ rows.T, atol=1e-5)


def test_rotary_angles_follow_the_formula(folders: Callable[[str], Path]) -> None:
    found = explain(str(folders("llama")), PROMPT, use_cpu=True).positions
    assert found.kind == "rotary"
    assert found.turns is not None
    pairs = len(found.turns)
    expected = 10000.0 ** (-np.arange(pairs) / pairs)  # Su et al. 2021, (15)
    np.testing.assert_allclose(found.turns, expected, rtol=1e-5)


def test_shuffled_texts_have_the_same_words_in_another_order() -> None:
    text = "  Мороз и\nсолнце;  день "
    found = shuffled_texts(text)
    assert len(found) == 8
    for one in found:
        assert sorted(one.split()) == sorted(text.split())
        assert one.split() != text.split()
        assert len(one) == len(text)
    assert shuffled_texts("да да да")[0] == "да да да"


def test_a_base_is_compared(folders: Callable[[str], Path], tmp_path: Path) -> None:
    tuned = tmp_path / "tuned"
    base = folders("gpt2")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.transformer.h[1].parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(tuned)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tuned / name).write_bytes((base / name).read_bytes())
    found = explain(str(tuned), PROMPT, base_name=str(base), use_cpu=True).base
    assert found is not None
    ids = torch.tensor([[t.token.id for t in explain(str(base), PROMPT, use_cpu=True).tokens]])
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)(ids).logits[0]
        ours = model(ids).logits[0]
    one, other = ours.double().log_softmax(-1), theirs.double().log_softmax(-1)
    apart = (one.exp() * (one - other)).sum(-1) / math.log(2)
    assert found.lens_bits is not None
    np.testing.assert_allclose(found.lens_bits[-1], apart, atol=1e-5)
    np.testing.assert_allclose(found.lens_bits[:2], 0.0, atol=1e-6)  # before the changed layer
    assert found.weights[0] == 0.0
    assert found.weights[1] > 0.1
    change = one[-1].exp() - other[-1].exp()
    best = found.gained[0]
    assert best.token.id == int(change.argmax())
    assert best.after - best.before == pytest.approx(float(change.max()), abs=1e-6)
    assert [t.after < t.before for t in found.lost] == [True] * len(found.lost)
    cost = torch.nn.functional.cross_entropy(ours[:-1], ids[0, 1:]) / math.log(2)
    assert found.tuned_bits == pytest.approx(float(cost), abs=1e-5)


@pytest.mark.parametrize(
    ("prompt", "base", "said"),
    [
        ("", None, "empty"),
        ("слово " * 80, None, "at most 64"),
        ("\ud800", None, "surrogate"),
        (PROMPT, "pico", "other tokens under the same ids"),
    ],
)
def test_what_cant_be_explained_is_one_line(
    folders: Callable[[str], Path], prompt: str, base: str | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        explain(str(folders("gpt2")), prompt, base_name=base, use_cpu=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "line", "document"),
    [
        ("a.txt", verse(1, 9) + PLANTED + "\n" + verse(2, 3), 10, None),
        ("a.txt", PLANTED, 1, None),
        ("b.jsonl", f'{{"text": "Ёж"}}\n{{"text": "Да, {PLANTED}"}}\n', None, 2),
    ],
)
def test_a_passage_names_its_file_and_line(
    made: MadeRun,
    name: str,
    content: str,
    line: int | None,
    document: int | None,
) -> None:
    made.write("0.txt", verse(3, 4))
    made.write(name, content)
    found = match_training_text(TrainingText.open_run(made.make()), PLANTED, "")
    first = found.passages[0]
    assert PLANTED[1:] in first.shared
    assert first.place.file is not None
    assert Path(first.place.file).name == name
    assert (first.place.line, first.place.document) == (line, document)
    assert found.why_no_files is None
    assert all(one.place.file is not None for one in found.passages)


def test_a_passage_of_changed_files_names_its_block(made: MadeRun) -> None:
    path = made.write("a.txt", verse(1, 9) + PLANTED + "\n")
    run = made.make()
    path.write_text("Совсем другое", encoding="utf-8")
    found = match_training_text(TrainingText.open_run(run), PLANTED, "")
    assert found.passages[0].place.file is None
    assert found.passages[0].place.block > 1
    assert found.why_no_files is not None
    assert "have changed since the run" in found.why_no_files

"""The page of an explanation: whole, asking for nothing, its numbers those it was given."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from gptft import api
from gptft.analysis.explain.explain import explain
from gptft.analysis.explain.explanation import (
    Distribution,
    Explanation,
    Passage,
    TrainingMatch,
)
from gptft.analysis.explain.values import Candidate, NamedToken, RandomLikeness
from gptft.analysis.span_places import Place
from gptft.report.explain import explain_html
from gptft.runs.titles import ModelTitle
from gptft.text.scripts import PageLanguage

PROMPT = 'Мороз <b>и</b> "солнце"'
DIALS = ("temperature", "top-k", "top-p", "min-p")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


@pytest.fixture(scope="module")
def found(tiny_model_dir: Path) -> Explanation:
    return explain(str(tiny_model_dir), PROMPT, base_name=str(tiny_model_dir), use_cpu=True)


@pytest.fixture(scope="module")
def page(found: Explanation) -> str:
    return explain_html(found, "ru")


def embedded(page: str) -> dict[str, object]:
    content = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert content is not None
    return json.loads(content[1])


def test_it_runs_its_own_script_and_asks_for_nothing(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert policy in page
    assert not re.search(r"(src|href)=[\"'](?!#)|url\(|https?://|@import", page)
    assert not re.search(r"<[^>]+ on\w+=", page)  # no handler in an attribute, which is refused
    assert '<html lang="ru">' in page
    assert "<b>" not in page.replace("<bdi", "")
    assert len(page.encode()) < 5_000_000


def test_ids_are_there_once_and_all_that_the_script_asks_for(page: str) -> None:
    body = page[: page.index("<script>")]
    ids = re.findall(r' id="([^"]+)"', body)
    assert len(ids) == len({*ids})
    script = page[page.index("<script>") :]
    asked = {*re.findall(r'byId\("([^"]+)"\)', script)}
    asked |= {
        "opened-head",
        "opened-asks",
        "opened-looks",
        *DIALS,
    }
    asked |= {f"{dial}-{part}" for dial in DIALS for part in ("value", "told")}
    asked |= {"large-rows", "large-columns"}
    optional = {"opened-fetched"}
    assert asked - optional - {*ids} == set()


def test_what_the_script_draws_are_the_numbers(page: str, found: Explanation) -> None:
    data = embedded(page)
    logits = np.frombuffer(base64.b64decode(data["logits"]), "<f4")
    np.testing.assert_array_equal(logits, found.distribution.logits)
    assert found.opened is not None
    assert found.attentions is not None
    query = np.frombuffer(base64.b64decode(data["opened"]["query"]), "<f4")
    np.testing.assert_array_equal(query.reshape(found.opened.query.shape), found.opened.query)
    layers, heads, length = data["attentions"]["shape"]
    packed = np.frombuffer(base64.b64decode(data["attentions"]["bytes"]), np.uint8)
    packed = packed.reshape(layers, heads, -1) / 255
    row, column = 3, 1
    np.testing.assert_allclose(
        packed[:, :, row * (row + 1) // 2 + column], found.attentions[:, :, row, column],
        atol=0.5 / 255 + 1e-6,
    )  # fmt: skip
    assert [one[:2] for one in data["tokens"]] == [
        [one.token.text, one.token.id] for one in found.tokens
    ]
    assert length == len(found.tokens)


def test_each_step_is_there_and_what_is_missing_is_said(found: Explanation, page: str) -> None:
    titles = re.findall(r"<h2>(\d+)\. ", page)
    assert titles == ["1", "2", "3", "4", "5", "6", "7", "8", "9"]  # no run: no training text
    bare = Explanation(
        **{
            **vars(found),
            "attentions": None, "opened": None, "heads": (), "lens": None, "attribution": None,
            "base": None, "missing": ("X gives no attention weights.",),
        }
    )  # fmt: skip
    short = explain_html(bare, "en")
    assert re.findall(r"<h2>(\d+)\. ", short) == ["1", "2", "3", "8"]
    assert "4 views, from the text" in short
    assert "9 взглядов: от текста" in page
    assert "Not shown: X gives no attention weights." in short


@pytest.mark.parametrize(
    ("title", "prompt", "english", "russian"),
    [
        (
            ModelTitle("openai-community/gpt2"), "The cat",
            "How openai-community/gpt2 picks the token after «The cat»",
            "Как openai-community/gpt2 выбирает токен после «The cat»",
        ),
        (
            ModelTitle("pushkin", "pico"), "Мороз\nи солнце",
            "How the run pushkin, tuned from pico, picks the token after «Мороз и солнце»",
            "Как модель pushkin, дообученная из pico, выбирает токен после «Мороз и солнце»",
        ),
        (
            ModelTitle("<b>"), "x" * 61,
            f"How <b> picks the token after «{'x' * 59}…»",
            f"Как <b> выбирает токен после «{'x' * 59}…»",
        ),
    ],
)  # fmt: skip
def test_its_title_is_the_model_s_own_name_and_the_prompt(
    found: Explanation, title: ModelTitle, prompt: str, english: str, russian: str
) -> None:
    for lang, expected in (("en", english), ("ru", russian)):
        page = explain_html(replace(found, title=title, prompt=prompt), lang)
        (head,) = re.findall(r"<title>(.*?)</title>", page)
        (seen,) = re.findall(r"<h1>(.*?)</h1>", page)
        assert unescape(head) == unescape(seen) == expected
        # What the title cuts stands whole below it.
        (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page)
        assert (prompt in unescape(lead)) == (len(prompt) > 60)


def test_layers_are_read_downward_everywhere(found: Explanation, page: str) -> None:
    assert found.base is not None
    layers = [f"слой {n}" for n in range(1, found.num_layers + 1)]
    rows = []
    for section in ("lens", "parts", "base"):
        part = page[page.index(f'<section id="{section}"') :]
        part = part[: part.index("\n</section>\n<section id") if section != "base" else None]
        for table in re.findall(r"<table.*?</table>", part, re.S):
            named = re.findall(r"<tbody>.*?</tbody>", table, re.S)[0]
            names = [unescape(one) for one in re.findall(r'<th scope="row">(.*?)</th>', named)]
            if layers[0] in names or any(name.startswith("внимание") for name in names):
                rows.append((section, names, table))
    assert [section for section, *_ in rows].count("base") >= 2
    assert {section for section, *_ in rows} == {"lens", "parts", "base"}
    for _, names, table in rows:
        numbers = [int(name.split()[-1]) for name in names if name[-1].isdigit()]
        assert numbers == sorted(numbers)
        assert not any(name.startswith("эмбеддинги") for name in names[1:])  # it is on top
        assert "↓" in table.split("<tbody>")[0]  # and the axis says so


def words_of(page: str, section: str) -> str:
    """What a person reads of a step, or of the head of the page."""
    start = page.index(f'<section id="{section}"' if section != "header" else "<header>")
    end = page.find("<h2>", page.index("</h2>", start) if section != "header" else start)
    text = re.sub("<[^>]+>", "", page[start : end if end > 0 else page.index("<script>")])
    return " ".join(unescape(text).split())


Said = dict[PageLanguage, str]


def check_said(found: Explanation, section: str, said: Said) -> None:
    for lang, sentence in said.items():
        assert " ".join(sentence.split()) in words_of(explain_html(found, lang), section)


@pytest.mark.parametrize(
    ("parameters", "heads", "said"),
    [
        (4_439_040, (2, 2), {
            "ru": "Модель: 4,4 млн параметров, 2 слоя по 2 головы; в словаре 320 токенов.",
            "en": "The model: 4.4 million parameters, 2 layers of 2 heads; a vocabulary of "
            "320 tokens.",
        }),
        (1_100_000_000, (1, 1, 1, 1, 1), {
            "ru": "Модель: 1,1 млрд параметров, 2 слоя по 1 голове; в",
            "en": "The model: 1.1 billion parameters, 2 layers of 1 head; a",
        }),
        (38_721, (4, 0), {
            "ru": "Модель: 38\u202f721 параметр, 2 слоя, 4 головы; в",
            "en": "The model: 38,721 parameters, 2 layers, 4 heads; a",
        }),
        (1, (0, 0), {"ru": "1 параметр, 2 слоя; в", "en": "1 parameter, 2 layers; a"}),
    ],
)  # fmt: skip
def test_the_size_of_the_model_stands_at_the_top(
    found: Explanation, parameters: int, heads: tuple[int, ...], said: Said
) -> None:
    made = replace(found, num_parameters=parameters, heads_by_layer=heads)
    check_said(made, "header", said)


@pytest.mark.parametrize(
    ("scaling", "said"),
    [
        (0.25, {"ru": "умноженные на 0,25 (единица, делённая на корень из 16), они",
                "en": "multiplied by 0.25 (1 divided by the root of 16), they"}),
        (1.0, {"ru": "умноженные на 1, они", "en": "multiplied by 1, they"}),
        (0.08838834764, {"ru": "умноженные на 0,0884, они", "en": "multiplied by 0.0884, they"}),
    ],
)  # fmt: skip
def test_step_4_says_what_products_are_multiplied_by(
    found: Explanation, scaling: float, said: Said
) -> None:
    assert found.opened is not None
    assert found.opened.query.shape[-1] == 16
    check_said(replace(found, opened=replace(found.opened, scaling=scaling)), "opened", said)
    check_said(found, "opened", {"ru": "значения токенов (V)", "en": "values (V)"})


LOOKS: Said = {"ru": "Сначала показан последний токен", "en": "Shown first are the last token"}


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ([[0.1, 0.2], [0.3, 1.25]], {
            "ru": "Открыт слой 2, потому что в нём голова 2: из всех голов она больше всех "
            "прибавляет к логиту {token} (+1,25, шаг 7).",
            "en": "Layer 2 is opened because of its head 2: of all heads it adds most to the "
            "logit of {token} (+1.25, step 7).",
        }),
        ([[0.1, 2.0], [0.3, -0.5]], {
            "ru": "из тех, чьи числа можно увидеть, она больше всех прибавляет к логиту {token} "
            "(−0,50,",
            "en": "of those whose numbers can be had it adds most to the logit of {token} (−0.50,",
        }),
        ([[0.1, 2.0], [np.nan, np.nan]], {
            "ru": "открыт слой из середины, 2, и его", "en": "a layer in the middle, 2, is opened",
        }),
        (None, {"ru": "у этой модели узнать нельзя", "en": "can't be told of this model"}),
    ],
)  # fmt: skip
def test_step_4_says_why_this_layer_and_this_head(
    found: Explanation, heads: list[list[float]] | None, said: Said
) -> None:
    assert found.opened is not None
    assert found.attribution is not None
    values = None if heads is None else np.array(heads)
    made = replace(
        found, opened=replace(found.opened, layer=1, head=1),
        attribution=replace(found.attribution, heads=values),
    )  # fmt: skip
    token = found.next_tokens[0].token.text
    check_said(made, "opened", {lang: one.format(token=token) for lang, one in said.items()})
    check_said(made, "opened", LOOKS)
    short = replace(made, opened=replace(made.opened, at=1))  # where the first one isn't left aside
    assert LOOKS["en"] not in words_of(explain_html(short, "en"), "opened")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ((0.0, 0.3, 0.4), {"ru": "набирает после слоя 1 (там у него 30,0%)",
                           "en": "half of that probability after layer 1 (with 30.0% there)"}),
        ((0.3, 0.1, 0.4), {"ru": "набирает после слоя 2 (там у него 40,0%)",
                           "en": "half of that probability after layer 2 (with 40.0% there)"}),
        ((0.9, 0.8, 0.4), {"ru": "имеет уже до слоёв (90,0%)",
                           "en": "half of that probability even before the layers (90.0%)"}),
    ],
)  # fmt: skip
def test_step_6_says_where_half_of_the_probability_is_reached(
    found: Explanation, column: tuple[float, ...], said: Said
) -> None:
    assert found.lens is not None
    cells = tuple(
        (*row[:-1], replace(row[-1], final_probability=value))
        for row, value in zip(found.lens.cells, column, strict=True)
    )
    check_said(replace(found, lens=replace(found.lens, cells=cells)), "lens", said)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ((True, True), {"ru": "он был впереди до слоёв, после слоя 1 и снова",
                        "en": "it was ahead before the layers, after layer 1, and"}),
        ((True, False), {"ru": "он был впереди до слоёв и снова",
                         "en": "it was ahead before the layers, and"}),
        ((False, True), {"ru": "он был впереди после слоя 1 и снова",
                         "en": "it was ahead after layer 1, and"}),
    ],
)  # fmt: skip
def test_step_6_says_where_the_token_was_ahead_before(
    found: Explanation, before: tuple[bool, ...], said: Said
) -> None:
    assert found.lens is not None
    best = found.next_tokens[0].token
    other = NamedToken(best.id + 1, "иное", "иное".encode())
    column = [best if ahead else other for ahead in (*before, True)]
    cells = tuple(
        (*row[:-1], replace(row[-1], token=token))
        for row, token in zip(found.lens.cells, column, strict=True)
    )
    lens = replace(found.lens, cells=cells, decided=(*found.lens.decided[:-1], 2))
    check_said(replace(found, lens=lens), "lens", said)


def test_step_5_says_from_which_share_a_head_has_a_name(found: Explanation) -> None:
    said: Said = {"ru": "не меньше 0,35 её внимания", "en": "at least 0.35 of its attention"}
    check_said(found, "heads", said)
    check_said(found, "heads", {"ru": "увеличена голова из шага 4.", "en": "The head of step 4"})
    assert "The head of step 4" not in explain_html(replace(found, opened=None), "en")


@pytest.mark.parametrize(("mean", "is_said"), [(-1.0, False), (0.99, True)])
def test_step_2_says_why_tokens_at_random_are_more_alike(
    found: Explanation, mean: float, *, is_said: bool
) -> None:
    made = replace(found, random_likeness=RandomLikeness(mean, 1.0))
    said: Said = {"ru": "Большинство токенов редкие", "en": "Most tokens are rare"}
    for lang, sentence in said.items():
        assert (sentence in words_of(explain_html(made, lang), "vectors")) == is_said


@pytest.mark.parametrize(
    ("place", "why", "said"),
    [
        (Place(3, "/home/somebody/texts/стихи <1>.txt", 12), None,
         {"ru": "стихи <1>.txt, строка 12; общих токенов: 4",
          "en": "стихи <1>.txt, line 12; tokens shared: 4"}),
        (Place(3, "rows.jsonl", None, 1_234), None,
         {"ru": "rows.jsonl, документ 1\u202f234; общих",
          "en": "rows.jsonl, document 1,234; tokens"}),
        (Place(3), "The training files have changed since the run.",
         {"ru": "блок 3 обучающего текста; общих", "en": "block 3 of the training text; tokens"}),
    ],
)  # fmt: skip
def test_step_10_says_where_a_passage_stands(
    found: Explanation, place: Place, why: str | None, said: Said
) -> None:
    match = TrainingMatch((Passage("а", "б", "в", 4, place),), "г", (), 0, 9, why)
    made = replace(found, training=match)
    check_said(made, "training", said)
    for lang, sentence in (("ru", "назван блок"), ("en", "a block is named")):
        page = explain_html(made, lang)
        assert (sentence in page) == (why is not None)
        assert "somebody" not in page


SIGNS: dict[str, tuple[NamedToken, Said]] = {
    "bytes": (NamedToken(1, "⟨84⟩", b"\x84"),
              {"ru": "⟨84⟩ — часть символа", "en": "⟨84⟩ is a part of a character"}),
    "several bytes": (NamedToken(1, "а⟨e2 80⟩", b"\xd0\xb0\xe2\x80"),
                      {"ru": "⟨e2 80⟩ — часть символа", "en": "⟨e2 80⟩ is a part of a character"}),
    "control character": (NamedToken(1, "⟨U+000C⟩", b"\x0c"),
                          {"ru": "⟨U+000C⟩ — символ, у которого нет своего вида",
                           "en": "⟨U+000C⟩ is a character without a shape of its own"}),
    "no token": (NamedToken(9, "⟨id 9⟩", b""), {"ru": "⟨id 9⟩ — номер", "en": "⟨id 9⟩ is an id"}),
    "tab": (NamedToken(1, "→", b"\t"), {"ru": "→ — табуляция", "en": "→ is a tab"}),
}  # fmt: skip


@pytest.mark.parametrize("name", SIGNS)
@pytest.mark.parametrize("section", ["vectors", "positions", "opened", "lens", "distribution"])
def test_an_odd_sign_is_told_in_the_step_that_shows_it(
    quiet: Explanation, name: str, section: str
) -> None:
    token, said = SIGNS[name]
    made = with_token(quiet, section, token)
    check_said(made, section, said)
    for other in ("tokens", "parts", *({"vectors", "distribution"} - {section})):
        for lang, sentence in said.items():
            assert sentence not in words_of(explain_html(made, lang), other)


@pytest.fixture(scope="module")
def quiet(found: Explanation) -> Explanation:
    """The same, every token of it plain and like no other."""
    assert found.opened is not None
    assert found.lens is not None
    assert found.positions.shuffled is not None
    assert found.base is not None
    named = [NamedToken(n, f"w{n}", f"w{n}".encode()) for n in range(40)]
    near = replace(found.tokens[0].neighbours[0], token=named[39])
    tokens = tuple(
        replace(one, token=token, neighbours=(near,), character=None)
        for one, token in zip(found.tokens, named, strict=False)
    )
    shuffled = replace(found.positions.shuffled, next_tokens=(Candidate(named[1], 0.5),))
    fetched = tuple(replace(one, raises=((named[2], 0.5),)) for one in found.opened.fetched)
    cells = tuple(tuple(replace(one, token=named[3]) for one in row) for row in found.lens.cells)
    return replace(
        found, tokens=tokens, next_tokens=(Candidate(named[3], 0.5),),
        positions=replace(found.positions, shuffled=shuffled),
        opened=replace(found.opened, fetched=fetched), lens=replace(found.lens, cells=cells),
        distribution=Distribution(found.distribution.logits, tuple(named), 1.0),
        base=replace(found.base, gained=(), lost=()),
    )  # fmt: skip


def with_token(found: Explanation, section: str, token: NamedToken) -> Explanation:
    """An explanation whose steps show a token, in the place of another of one step."""
    match section:
        case "vectors":
            one = found.tokens[0]
            near = (replace(one.neighbours[0], token=token), *one.neighbours[1:])
            return replace(found, tokens=(replace(one, neighbours=near), *found.tokens[1:]))
        case "positions":
            assert found.positions.shuffled is not None
            shuffled = replace(found.positions.shuffled, next_tokens=(Candidate(token, 0.5),))
            return replace(found, positions=replace(found.positions, shuffled=shuffled))
        case "opened":
            assert found.opened is not None
            one = replace(found.opened.fetched[0], raises=((token, 0.5),))
            opened = replace(found.opened, fetched=(one, *found.opened.fetched[1:]))
            return replace(found, opened=opened)
        case "lens":
            assert found.lens is not None
            row, *rows = found.lens.cells
            cells = ((replace(row[0], token=token), *row[1:]), *rows)
            return replace(found, lens=replace(found.lens, cells=cells))
    given = found.distribution
    made = Distribution(given.logits, (*given.tokens[:5], token, *given.tokens[6:]), 1.0)
    return replace(found, distribution=made)


DOTS = NamedToken(1001, "...", b"...")
ELLIPSIS = NamedToken(1002, "…", "…".encode())


def test_tokens_of_a_step_that_look_alike_are_told_apart(quiet: Explanation) -> None:
    alone = with_token(with_token(quiet, "vectors", DOTS), "distribution", ELLIPSIS)
    page = explain_html(alone, "en")  # each in a step of its own
    assert "<sub>" not in page
    assert ["…", 1002, "", 1] in embedded(page)["next"]
    one, two, *rest = alone.tokens
    near = replace(two.neighbours[0], token=ELLIPSIS)
    page = explain_html(replace(alone, tokens=(one, replace(two, neighbours=(near,)), *rest)), "en")
    for box in (
        '<bdi class="piece boxed punct" title="id 1001: 3×U+002E">...<sub>3×U+002E</sub></bdi>',
        '<bdi class="piece boxed punct" title="id 1002: U+2026">…<sub>U+2026</sub></bdi>',
    ):
        assert box in page[page.index('id="vectors"') : page.index('id="positions"')]
        assert page.count(box) <= 2  # the first of them once more, to say what it is
    assert "look the same and have different characters" in words_of(page, "vectors")
    for section in ("tokens", "lens", "distribution"):
        assert "look the same" not in words_of(page, section)


def test_tokens_that_the_script_draws_are_told_apart_too(quiet: Explanation) -> None:
    assert quiet.opened is not None
    first = replace(quiet.tokens[0], token=DOTS)
    made = with_token(quiet, "distribution", ELLIPSIS)
    made = replace(made, tokens=(first, *quiet.tokens[1:]))
    made = with_token(made, "opened", ELLIPSIS)
    data = embedded(explain_html(made, "ru"))
    assert data["opened"]["tokens"][0] == ["...", 1001, "3×U+002E", 1]
    assert data["opened"]["fetched"][0] == [[["…", 1002, "U+2026", 1], 0.5]]
    assert data["tokens"][0] == ["...", 1001, "", 1]  # no other of step 5 looks like it
    given = made.distribution
    for tokens, code in (
        ((DOTS, *given.tokens), "U+2026"),
        # One below those that step 8 lists is none to be taken for another.
        ((*given.tokens[:20], DOTS), ""),
    ):
        page = explain_html(replace(made, distribution=replace(given, tokens=tokens)), "ru")
        assert ["…", 1002, code, 1] in embedded(page)["next"]


def test_a_token_in_a_sentence_stands_in_a_box(found: Explanation) -> None:
    comma = NamedToken(12, ",", b",")
    assert found.attribution is not None
    assert found.base is not None
    made = replace(
        found, next_tokens=(Candidate(comma, 0.5),),
        attribution=replace(found.attribution, token=comma),
    )  # fmt: skip
    box = '<bdi class="piece boxed punct" title="id 12">,</bdi>'
    for lang in ("ru", "en"):
        page = explain_html(made, lang)
        head, *sections = page[: page.index("<script")].split("<section id=")
        assert box in head
        told = {one.split('"')[1]: one.count(box) for one in sections}
        assert min(told[name] for name in ("opened", "lens", "base")) >= 1
        assert told["parts"] == 2
        assert "«,»" not in page


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 1.5, "top_k": 12},
        {"top_p": 0.6},
        {"min_p": 0.3, "temperature": 2.0},
        {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
    ],
)
def test_the_sliders_do_what_predict_does(
    tiny_model_dir: Path, page: str, tmp_path: Path, settings: dict[str, float]
) -> None:
    for name, value in settings.items():
        slider = f'id="{name.replace("_", "-")}"'
        page = re.sub(rf'({slider}[^>]*value=")[^"]*', rf"\g<1>{value}", page)
        page = re.sub(rf'({slider}[^>]*step=")[^"]*', r"\g<1>any", page)
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    words = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
             "--enable-logging=stderr", path.as_uri()]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr  # no error of the script, nothing refused
    drawn = [float(one) for one in re.findall(r'data-probability="([^"]+)"', done.stdout)]
    given = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, **settings}
    predicted = api.predict(
        str(tiny_model_dir), PROMPT, config=api.generation_config(None),
        given={**given, "seed": 1}, top=20, use_cpu=True,
    ).steps[0]  # fmt: skip
    expected = sorted((row.final_probability for row in predicted.rows), reverse=True)[:20]
    assert len(drawn) == 20
    np.testing.assert_allclose(drawn, expected, atol=1e-5)

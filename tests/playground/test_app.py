"""The page's server: its answers are those of the commands, and nobody else gets any."""

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from threading import Event

import pytest
import torch
from starlette.testclient import TestClient
from transformers import AutoModelForCausalLM

from gptft import api
from gptft.decoding.strategies import STRATEGIES
from gptft.errors import ConfigError, RunError
from gptft.models.source import resolve_model
from gptft.playground.app import create_app
from gptft.playground.engine import Engine, Stopped, _first_prompt
from gptft.playground.page import page_html
from gptft.playground.serve import listen
from gptft.report.language import page_words
from gptft.text.scripts import PageLanguage

PROMPT = "Мороз и солнце"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine("pico", base_name="pico", use_cpu=True)


@pytest.fixture
def client(engine: Engine) -> Iterator[TestClient]:
    with TestClient(create_app(engine, port=8000), base_url="http://127.0.0.1:8000") as client:
        yield client


def written(client: TestClient, **asked: object) -> list[dict]:
    answer = client.post("/write", json={"prompt": PROMPT, **asked})
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "greedy", "max_new_tokens": 12},
        {"strategy": "nucleus", "top_p": 0.8, "seed": 3, "max_new_tokens": 12},
        {"strategy": "beam", "num_beams": 3, "max_new_tokens": 6},
        {"strategy": "contrastive", "max_new_tokens": 6},
    ],
    ids=lambda settings: settings["strategy"],
)
def test_a_text_is_that_of_generate(client: TestClient, settings: dict[str, object]) -> None:
    lines = written(client, settings=settings)
    (text,) = api.generate("pico", [PROMPT], given=settings, use_cpu=True, extras=["why"]).texts
    done = lines[-1]["done"]
    assert done["continuation"] == text.continuation
    assert done["stopped"] == text.stopped
    streamed = [line["text"] for line in lines[:-1]]
    if settings["strategy"] == "beam":
        assert streamed == []
    else:
        assert "".join(streamed) == text.continuation
        assert len(streamed) > 1
    spelled = b"".join(bytes.fromhex(one["bytes"]) for one in done["tokens"])
    assert spelled.decode(errors="replace").startswith(text.continuation.rstrip("\ufffd"))


def test_tokens_have_the_models_own_probabilities(client: TestClient) -> None:
    done = written(client, settings={"strategy": "greedy", "max_new_tokens": 4})[-1]["done"]
    model = AutoModelForCausalLM.from_pretrained(resolve_model("pico"), dtype=torch.float32).eval()
    (text,) = api.generate(
        "pico", [PROMPT], given={"strategy": "greedy", "max_new_tokens": 4},
        use_cpu=True,
    ).texts  # fmt: skip
    ids = torch.tensor([[*text.prompt_ids, *text.new_ids]])
    with torch.no_grad():
        chances = model(ids).logits[0].softmax(-1)
    for at, token in enumerate(done["tokens"]):
        row = chances[len(text.prompt_ids) - 1 + at]
        assert token["probability"] == pytest.approx(float(row[text.new_ids[at]]), abs=1e-5)
        assert token["rank"] == 1
        others = row.sort(descending=True).values[1:9].tolist()
        shown = [other["probability"] for other in token["runners_up"]]
        assert shown == pytest.approx(others, abs=1e-5)


def test_a_runner_up_that_is_no_text_cant_be_gone_on_with(tiny_model_dir: Path) -> None:
    """The tiny model's tokens are mostly bytes of characters."""
    own = Engine(str(tiny_model_dir), use_cpu=True)
    settings = {"strategy": "temperature", "max_new_tokens": 40, "seed": 2}
    done = own.write(PROMPT, settings, tell=lambda text: None, gone=Event())
    others = [other for token in done["tokens"] for other in token["runners_up"]]
    texts = [other["text"] for other in others]
    assert None in texts
    assert any(texts)
    partial = [other["shown"] for other in others if other["text"] is None]
    assert all("⟨" in shown or shown == "<|endoftext|>" for shown in partial)


def test_the_next_token_is_that_of_predict(client: TestClient) -> None:
    settings = {"strategy": "nucleus", "top_p": 0.5, "seed": 1}
    answer = client.post("/next", json={"prompt": PROMPT, "settings": settings}).json()
    step = api.predict(
        "pico", PROMPT, config=api.generation_config(None), given=settings, top=20,
        other="pico", use_cpu=True,
    ).steps[0]  # fmt: skip
    assert [row["id"] for row in answer["rows"]] == [row.token_id for row in step.rows]
    assert [row["final_probability"] for row in answer["rows"]] == pytest.approx(
        [row.final_probability for row in step.rows]
    )


def test_the_base_writes_too(client: TestClient) -> None:
    settings = {"strategy": "greedy", "max_new_tokens": 5}
    own, base = (
        written(client, settings=settings, which=which)[-1]["done"] for which in ("model", "base")
    )
    assert own == base  # the same model here


def test_the_page_of_explain_is_served(client: TestClient) -> None:
    answer = client.get("/explain", params={"prompt": PROMPT, "lang": "ru"})
    assert answer.status_code == 200
    assert '<html lang="ru">' in answer.text
    assert "script-src 'sha256-" in answer.text
    answer = client.get("/explain", params={"prompt": ""})
    assert (answer.status_code, "empty" in answer.text) == (400, True)


def test_every_strategy_is_offered_with_its_settings(client: TestClient) -> None:
    about = client.get("/about").json()
    assert [row["name"] for row in about["strategies"]] == [*STRATEGIES]
    for row in about["strategies"]:
        names = [one["name"] for one in (*row["settings"], *row["others"])]
        assert {*names} == {*STRATEGIES[row["name"]].takes}
        assert len(names) == len({*names})
    assert about["base"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": PROMPT, "settings": {"strategy": "nuclear"}}, "nuclear"),
        ({"prompt": PROMPT, "settings": {"top_p": 2}}, "top_p"),
        ({"prompt": PROMPT, "settings": {"max_new_tokens": 10**6}}, "1,000"),
        ({"prompt": "слово " * 4000, "settings": {}}, "20,000"),
        ({"prompt": "слово " * 3000, "settings": {"max_new_tokens": 5}}, "context"),
        ({"prompt": "\ud800", "settings": {}}, "surrogate"),
        ({"prompt": PROMPT, "settings": {"strategy": "assisted"}}, "assistant_model"),
    ],
)
def test_what_cant_be_had_is_one_line(
    client: TestClient, asked: dict[str, object], said: str
) -> None:
    body = json.dumps(asked)
    for path in ("/write", "/next"):
        if path == "/next" and "max_new_tokens" in str(asked):
            continue
        answer = client.post(path, content=body, headers=JSON)
        problem = json.loads(answer.text.splitlines()[-1])["error"]
        assert said in problem
        assert "Traceback" not in problem


@pytest.mark.parametrize(
    "body", ["", "[]", "{", '{"prompt": 1, "settings": {}}', '{"prompt": "a"}', "[" * 10_000,
             '{"prompt": "a", "settings": {}, "which": "other"}'],
)  # fmt: skip
def test_what_is_no_request_is_refused(client: TestClient, body: str) -> None:
    answer = client.post("/write", content=body, headers=JSON)
    assert answer.status_code == 400
    assert "prompt and settings" in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1:9000"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8000"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Length": "2000000"},
    ],
)
def test_nobody_else_gets_an_answer(client: TestClient, headers: dict[str, str]) -> None:
    body = json.dumps({"prompt": PROMPT, "settings": {}})
    answer = client.post("/write", content=body, headers={**JSON, **headers})
    assert answer.status_code == 403
    assert "done" not in answer.text


def test_its_own_page_gets_one_by_either_name(client: TestClient) -> None:
    for host in ("127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    own = client.get("/about", headers={"Origin": "http://localhost:8000"})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


def test_every_answer_shuts_the_page_off(client: TestClient) -> None:
    for path in ("/", "/play.js", "/play.css", "/style.css", "/about", "/nothing"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self'; ")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
    page = client.get("/").text
    assert "http://" not in page
    assert "https://" not in page
    assert " style=" not in page
    assert "onclick" not in page


def test_writing_stops_when_nobody_waits(engine: Engine) -> None:
    gone, told = Event(), list[str]()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            gone.set()

    with pytest.raises(Stopped):
        engine.write(PROMPT, {"strategy": "greedy", "max_new_tokens": 60}, tell=tell, gone=gone)
    assert len(told) == 3
    settings = {"strategy": "greedy", "max_new_tokens": 2}
    assert engine.write(PROMPT, settings, tell=told.append, gone=Event())["continuation"]
    gone.set()
    with pytest.raises(Stopped):  # beams hand nothing over, and stop all the same
        engine.write(PROMPT, {"strategy": "beam"}, tell=told.append, gone=gone)


def test_one_thing_at_a_time(engine: Engine) -> None:
    results: list[str] = []
    settings = {"strategy": "nucleus", "seed": 5, "max_new_tokens": 20}

    def write() -> None:
        done = engine.write(PROMPT, settings, tell=lambda text: None, gone=Event())
        results.append(done["continuation"])

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*results}) == 1  # draws from one generator, in turn


def test_a_base_of_other_tokens_is_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(ConfigError, match="other tokens"):
        Engine(str(tiny_model_dir), base_name="pico", use_cpu=True)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(RunError, match=rf"Port {port} can't be used.*--port"):
            listen(port)
    with listen(0) as own:
        assert own.getsockname()[0] == "127.0.0.1"


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptft.api.playground.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r'pip install "gptft\[playground\]"'):
        api.play("pico")


def test_it_is_there_soon() -> None:
    """What the page takes besides the model: a second at most, torch loaded."""
    begun = time.perf_counter()
    engine = Engine("pico", use_cpu=True)
    loaded = time.perf_counter()
    create_app(engine, port=8000)
    engine.about()
    assert time.perf_counter() - loaded < 1.0
    assert loaded - begun < 10


@pytest.mark.parametrize(
    ("lang", "said"), [("ru", "Текст, который надо продолжить"), ("en", "Text to continue")]
)
def test_the_page_is_in_the_language_that_was_chosen(lang: PageLanguage, said: str) -> None:
    engine = Engine("pico", lang=lang, use_cpu=True)
    with TestClient(create_app(engine, port=8000), base_url="http://127.0.0.1:8000") as client:
        page = client.get("/").text
        assert f'<html lang="{lang}">' in page
        assert said in page
        assert "Мороз и солнце; день чудесный!</textarea>" in page  # whatever the words are
        about = client.get("/about").json()
        assert (about["lang"], about["words"]["text_to_continue"]) == (lang, said)


def test_every_word_that_the_script_asks_for_is_there() -> None:
    script = files("gptft.playground").joinpath("static/play.js").read_text("utf-8")
    asked = {*re.findall(r"about\.words\.(\w+)", script), *re.findall(r'say\("(\w+)"', script)}
    asked |= {f"stopped_{why}" for why in ("eos", "length", "stop_string")}
    used = asked | {*re.findall(r"\bt\.(\w+)", files("gptft.playground").joinpath(
        "static/index.html").read_text("utf-8"))}  # fmt: skip
    assert used == {*page_words("en", "play")}
    # No sentence is left in the script: what it says comes from the words.
    code = re.sub(r"//.*|`[^`]*`", "", script)
    sentences = [one for one in re.findall(r'"([^"\n]*)"', code) if re.search("[a-z] [a-z]", one)]
    allowed = {"use strict", "token ends-line", "whole number"}
    assert {*sentences} <= allowed


@pytest.mark.parametrize(
    ("facts", "prompt", "lang"),
    [
        ({"config": {"samples": {"prompts": ["Once <upon>", "Б"]}}}, "Once <upon>", "en"),
        ({"config": {"samples": {"prompts": ["Буря\nмглою"]}}}, "Буря\nмглою", "ru"),
        ({"config": {"samples": {"prompts": []}}}, "Мороз и солнце; день чудесный!", "ru"),
        ({"config": {"samples": {"prompts": [""]}}}, "Мороз и солнце; день чудесный!", "ru"),
        ({"config": None}, "Мороз и солнце; день чудесный!", "ru"),
    ],
)
def test_the_page_begins_with_a_prompt_of_the_run(
    tmp_path: Path, facts: dict[str, object], prompt: str, lang: str
) -> None:
    model = resolve_model("pico")
    assert model is not None
    shutil.copytree(model, tmp_path / "run" / "model")
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    engine = Engine(str(tmp_path / "run"), use_cpu=True)
    assert (engine.prompt, engine.words.lang) == (prompt, lang)
    page = page_html(engine.words, prompt=engine.prompt)
    assert f">\n{escape(prompt)}</textarea>" in page


def test_a_model_of_english_begins_with_english() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "gptft.playground.engine.encode_bare", lambda tokenizer, text: tokenizer(text)
        )
        assert _first_prompt("gpt2", str.encode).startswith("The frost")

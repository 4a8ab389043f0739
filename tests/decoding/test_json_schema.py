"""JSON of a schema, on random models with every kind of vocabulary; pydantic checks the results."""

import importlib.util
import json
from enum import StrEnum
from typing import Annotated, Literal

import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from gptft.decoding.engine import generate
from gptft.decoding.loaded_model import LoadedModel
from gptft.decoding.settings import resolve_settings
from gptft.decoding.special_tokens import SpecialTokens, special_tokens
from gptft.errors import ConfigError
from tests.decoding.test_constraints import sentencepiece_like

PROMPTS = ("a", "aa aa", "")


class Season(StrEnum):
    WINTER = "зима"
    SUMMER = "лето"


class Verse(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)

    season: Season
    cold: bool
    feet: Annotated[int, Field(ge=2, le=14)]
    words: Annotated[list[Annotated[str, Field(max_length=3)]], Field(min_length=1, max_length=2)]
    kind: Literal["iamb", 'a "quoted" one'] | None


def characters():
    """A tokenizer of a few characters and words, without bytes to fall back on."""
    single = "morozмороз" + "abcdefghijklmnpqstuvwxyz" + 'зималетоя{}[]":,\\ 0123456789-'
    texts = ["<unk>", "</s>", *dict.fromkeys(single), "true", '": ']
    backend = Tokenizer(models.WordLevel({t: i for i, t in enumerate(texts)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


@pytest.fixture(params=["byte-level", "sentencepiece", "characters"])
def loaded(request, tokenizer):
    kinds = {"sentencepiece": sentencepiece_like, "characters": characters}
    tokenizer = kinds[request.param]() if request.param in kinds else tokenizer
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 3, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=400, initializer_range=0.3,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    return LoadedModel(model, tokenizer, special_tokens(model, tokenizer))


def write(loaded, schema, *, prompts=PROMPTS, max_new_tokens=300, **given):
    settings = resolve_settings({
        "strategy": "json_schema", "json_schema": schema, "max_new_tokens": max_new_tokens,
        "seed": 1, **given,
    })  # fmt: skip
    return generate(loaded, list(prompts), settings=settings)


def refusal(loaded, schema, **given):
    with pytest.raises(ConfigError) as caught:
        write(loaded, schema, **given)
    (problem,) = caught.value.problems
    assert "\n" not in problem
    return problem


def test_text_fits_its_schema_and_ends_just_where_it_is_complete(loaded):
    drawn = {"do_sample": True, "temperature": 3.0, "num_return_sequences": 8}
    for given in ({}, drawn):
        texts = write(loaded, Verse.model_json_schema(), **given)
        assert len(texts) == len(PROMPTS) * given.get("num_return_sequences", 1)
        for text in texts:
            assert text.stopped == "eos"
            verse = Verse.model_validate_json(text.continuation)
            assert json.loads(text.continuation) == verse.model_dump(mode="json")
    assert len({text.continuation for text in texts}) > 6


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        ({"type": "boolean"}, lambda v: isinstance(v, bool)),
        ({"const": "мороз"}, lambda v: v == "мороз"),
        ({"type": "number", "minimum": 0, "maximum": 1}, lambda v: 0 <= v <= 1),
        ({"type": "string", "pattern": "^[a-c]{2,4}$"}, lambda v: set(v) <= {*"abc"}),
        (
            {"anyOf": [{"type": "null"}, {"type": "array", "items": {"enum": [1, 2]},
                                          "minItems": 2, "maxItems": 2}]},
            lambda v: v is None or (len(v) == 2 and {*v} <= {1, 2}),
        ),
        (
            {"$defs": {"leaf": {"enum": ["a", "b"]}}, "type": "object", "required": ["x", "y"],
             "properties": {"x": {"$ref": "#/$defs/leaf"}, "y": {"$ref": "#/$defs/leaf"}},
             "additionalProperties": False},
            lambda v: {*v} == {"x", "y"} and {*v.values()} <= {"a", "b"},
        ),
    ],
    ids=["boolean", "const", "number", "pattern", "anyOf", "ref"],
)  # fmt: skip
def test_every_seed_of_many_schemas(loaded, schema, fits):
    for seed in range(6):
        given = {"do_sample": True, "temperature": 2.0, "num_return_sequences": 3, "seed": seed}
        for text in write(loaded, schema, prompts=["a"], **given):
            assert text.stopped == "eos"
            assert fits(json.loads(text.continuation))


def test_it_is_given_as_a_mapping_as_text_or_as_a_file(loaded, tmp_path):
    schema = {"enum": ["left", "right"]}
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema), encoding="utf-8")
    texts = [write(loaded, s, prompts=["a"])[0] for s in (schema, json.dumps(schema), str(path))]
    assert len({text.continuation for text in texts}) == 1
    assert json.loads(texts[0].continuation) in ("left", "right")


def test_settings_that_forbid_its_end_do_not_break_it(loaded):
    (text,) = write(loaded, {"enum": [1, 2]}, prompts=["a"], min_new_tokens=9)
    assert text.continuation in ("1", "2")


def test_text_that_is_cut_off_is_a_beginning_of_it(loaded):
    (text,) = write(loaded, {"const": "aaaaaaaaaaaaaaaaaaaa"}, prompts=["a"], max_new_tokens=5)
    assert text.stopped == "length"
    assert '"aaaaaaaaaaaaaaaaaaaa"'.startswith(text.continuation)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "minimum": 5, "maximum": 3}, "no text can fit it: Unsatisfiable"),
        ({"enum": []}, "no text can fit it: Unsatisfiable schema"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
        ({"type": "verse"}, "no text can fit it: Invalid type: verse"),
        ({"not": {"type": "string"}}, 'no text can fit it: Unimplemented keys: ["not"]'),
        ({"$ref": "#/nowhere"}, "no text can fit it: Pointer '/nowhere' does not exist"),
    ],
    ids=str,
)
def test_what_no_text_can_fit_is_said_in_a_line(loaded, schema, said):
    message = refusal(loaded, schema)
    assert message.startswith("json_schema: ")
    assert said in message


def test_what_is_no_schema_is_said_before_a_model_is_loaded(tmp_path):
    def problem(value):
        with pytest.raises(ConfigError) as caught:
            resolve_settings({"json_schema": value})
        (said,) = caught.value.problems
        return said.replace(f"{tmp_path}/", "")

    (tmp_path / "broken.json").write_text('{"type":\n  boolean}', encoding="utf-8")
    (tmp_path / "list.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    assert (
        problem("nowhere.json")
        == "json_schema: nowhere.json can't be read: No such file or directory."
    )
    assert problem('{"type": }') == (
        "json_schema: it isn't JSON: Expecting value at line 1, column 10."
    )
    assert problem(str(tmp_path / "broken.json")) == (
        "json_schema: broken.json: it isn't JSON: Expecting value at line 2, column 3."
    )
    assert "list.json: a schema is a mapping" in problem(str(tmp_path / "list.json"))
    assert "isn't text in UTF-8" in problem(str(tmp_path / "bytes.json"))
    assert problem('{"const": "\\ud800"}').startswith("json_schema: Value is not JSON serializable")
    assert problem(5) == (
        "json_schema must be a JSON Schema, or the name of a file with one, not 5."
    )


def test_a_model_without_eos_and_a_missing_package_are_said(loaded, monkeypatch):
    bare = LoadedModel(loaded.model, loaded.tokenizer, SpecialTokens((), 0, 0))
    assert "json_schema needs an EOS token" in refusal(bare, {"type": "boolean"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert refusal(loaded, {"type": "boolean"}) == (
        "json_schema needs the package llguidance. Install it: pip install llguidance."
    )

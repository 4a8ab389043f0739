"""Configs whose samples can, and can't, be generated: pairs of neighbours, wrong and right."""

from typing import Any

from tests.agreement.cases import Case, Sections

LINE = "Буря мглою небо кроет, вихри снежные крутя;"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2 = {"model_type": "gpt2", "n_layer": 1, "n_embd": 16, "n_head": 2, "n_positions": 64}


def sampled(*, model: Sections | None = None, prompt: str = "Буря", **generation: Any) -> Sections:
    """Samples of a few tokens, by these settings."""
    settings = {"max_new_tokens": 4, **generation}
    return {**(model or {}), "samples": {"prompts": [prompt]}, "generation": settings}


def new(**sizes: Any) -> Sections:
    """A new model with a tokenizer that is there."""
    return {
        "model": {"name": None, "from_scratch": {**LLAMA, **sizes}},
        "tokenizer": {"name": "tiny"},
    }


TRAINED: Sections = {
    "model": {"name": None, "from_scratch": GPT2},
    "tokenizer": {"train": {"vocab_size": 280}},
}

WRONG_SAMPLES = (
    Case(sampled(max_new_tokens=62), "max_new_tokens 62 it doesn't fit the model's context of 64"),
    Case(sampled(prompt=f"{LINE} {LINE}"), "my.yaml:15:5  The prompt «Буря"),
    Case(sampled(model=new(), max_new_tokens=62), "doesn't fit the model's context of 64"),
    Case(sampled(model=TRAINED, max_new_tokens=65), "doesn't fit the model's context of 64"),
    Case(sampled(context=f"{LINE} {LINE}"), "doesn't fit the model's context of 64"),
    Case(sampled(negative_prompt=f"{LINE} {LINE}"), "negative_prompt: its context is 64 tokens"),
    Case(sampled(regex="(a"), "regex: '(a' isn't a regular expression"),
    Case({"strategies": {"my": {"regex": "(a"}}}, "strategies.my: regex: '(a' isn't a regular"),
    Case(sampled(regex="a^b"), "my.yaml:18:3  regex: after '' no token of this model leads"),
    Case(sampled(grammar="root ::= a"), "grammar: it isn't GBNF"),
    Case(
        sampled(json_schema={"type": "integer", "minimum": 5, "maximum": 3}), "no text can fit it"
    ),
    Case(
        {"strategies": {"my": {"json_schema": {"type": "text"}}}},
        "strategies.my: json_schema: no text can fit it",
    ),
    Case(
        sampled(strategy="self_consistency", answer_pattern="(a"),
        "answer_pattern: '(a' is no regular expression",
    ),
    Case(sampled(dola_layers=[2]), "dola_layers must be numbers from 0 to 1"),
    Case(
        sampled(assistant_early_exit=2), "assistant_early_exit: The first 2 layers can't be taken"
    ),
    Case(sampled(amateur_layers=2), "amateur_layers: The first 2 layers can't be taken alone"),
    Case(sampled(suppress_tokens=[320]), "suppress_tokens: there is no id 320"),
    Case(sampled(begin_suppress_tokens=[320]), "begin_suppress_tokens: there is no id 320"),
    Case(sampled(forced_eos_token_id=[320]), "forced_eos_token_id: there is no id 320"),
    Case(sampled(model=TRAINED, suppress_tokens=[280]), "there is no id 280"),
    Case(sampled(logit_bias={"320": 1.0}), "logit_bias: there is no id 320"),
    Case(sampled(logit_bias={"Буря мглою": 1.0}), "logit_bias: 'Буря мглою' is 11 tokens"),
    Case(sampled(force_words=[LINE]), "force_words need"),
    Case(sampled(amateur_model="another"), "amateur_model: another has another tokenizer"),
    Case(sampled(antiexpert_model="another"), "antiexpert_model: another has another tokenizer"),
    Case(
        sampled(assistant_model="short", max_new_tokens=14),
        "assistant_model: its context is 16 tokens, and its prompt of 4 and the text come to 17",
    ),
    Case(sampled(expert_model="short", max_new_tokens=14), "expert_model: its context is 16"),
    Case(
        text='data: {train: texts}\nsamples: {prompts: ["\\ud800"]}\n',
        wrong="samples.prompts.0 has half",
    ),
)

RIGHT_SAMPLES = tuple(
    Case(sections)
    for sections in (
        sampled(max_new_tokens=61),
        sampled(model=TRAINED, max_new_tokens=30, suppress_tokens=[257], dola_layers=[0]),
        sampled(model=new(num_key_value_heads=2), max_new_tokens=61),
        new(hidden_size=36, head_dim=8),
        sampled(context=LINE),
        sampled(negative_prompt=LINE),
        sampled(regex="[0-9]{1,2}"),
        sampled(choices=[LINE, "нет"]),
        sampled(grammar='root ::= "да" | "нет"'),
        sampled(json_schema={"type": "integer", "minimum": 3, "maximum": 5}),
        sampled(strategy="self_consistency", answer_pattern="(а)", num_candidates=2),
        sampled(dola_layers=[1]),
        sampled(assistant_early_exit=1),
        sampled(amateur_layers=1),
        sampled(
            suppress_tokens=[319],
            begin_suppress_tokens=[318],
            forced_eos_token_id=[317],
            logit_bias={"316": 1.0, "e": 1.0},
            bad_words=["Буря"],
        ),
        sampled(force_words=["а"]),
        sampled(assistant_model="another"),
        sampled(amateur_model="short", max_new_tokens=13),
        # Nothing is generated, so that only what is wrong by itself counts.
        {"generation": {"max_new_tokens": 80, "suppress_tokens": [320]}},
    )
)

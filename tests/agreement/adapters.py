"""Configs, right and wrong, that train an adapter or a part of a model."""

from typing import Any

from tests.agreement.cases import Case

SAVES = {"save_strategy": "steps", "save_steps": 1}
REENTRANT = {
    "activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True},
}  # fmt: skip
NEW = {"add_tokens": ["Мороз", "солнце"]}


def lora(*, model: dict[str, Any] | None = None, training: Any = None, **settings: Any) -> Case:
    """A config with such a section `lora`."""
    sections = {"lora": settings, "training": training or {}}
    return Case(sections if model is None else {**sections, "model": model})


def frozen(*patterns: str, **training: Any) -> Case:
    """A config that freezes what patterns name."""
    return Case({"model": {"freeze": list(patterns)}, "training": training})


RIGHT_ADAPTERS = (
    lora(),
    lora(target_modules="c_attn", layers=[1]),
    lora(target_modules="all-linear", layers=[0]),
    lora(bias="all"),
    lora(modules_to_save=["ln_f"]),
    lora(trainable_token_indices=[3, 5]),
    lora(use_dora=True, training=SAVES),
    lora(training={"optim": "muon", **SAVES}),
    lora(training={"optim": "adafactor"}),
    lora(training={"unlikelihood_weight": 0.5}),
    lora(training={"label_smoothing_factor": 0.1}),
    lora(training={"neftune_noise_alpha": 5.0}),
    lora(training={"stop_when_memorized": True}),
    lora(training=REENTRANT),
    lora(training={**SAVES, "eval_strategy": "steps", "eval_steps": 1,
                   "load_best_model_at_end": True}),
    lora(model={"dtype": "bfloat16"}),
    lora(model={"save_dtype": "bfloat16"}),
    lora(model={"config_overrides": {"attn_pdrop": 0.1}}, merge=False),
    lora(merge=False, training=SAVES),
    lora(quantize="nf4", training=SAVES),
    lora(quantize="int8", training=REENTRANT),
    lora(quantize="nf4", use_dora=True, merge=False),
    lora(quantize="nf4", bias="lora_only"),
    lora(quantize="int8", modules_to_save=["ln_f"]),
    lora(quantize="nf4", model={"dtype": "bfloat16"}, training={"activation_checkpointing": True}),
    Case({"lora": {"quantize": "nf4"}, "data": {"isolate_documents": True}}),
    Case({"lora": {"quantize": "nf4"}, "tokenizer": NEW}),
    Case({"lora": {"merge": False}, "tokenizer": {**NEW, "pad_to_multiple_of": 64}}),
    frozen("wte", "h.0-0"),
    frozen("transformer.h", "wpe", optim="muon", **SAVES),
    frozen("h.0-1", "wpe", "wte"),
    frozen("lm_head", **REENTRANT),
    frozen("transformer.wte", "transformer.wpe", "h.0", "h.1.attn", unlikelihood_weight=0.5),
    frozen("ln_1", "ln_2", "ln_f", stop_when_memorized=True),
    Case({"model": {"freeze": ["h.0"]}, "tokenizer": NEW}),
    Case({"model": {"freeze": ["wpe"], "average_with": ["tiny"]}}),
)  # fmt: skip

WRONG_ADAPTERS = (
    Case({"lora": {"rank": 8}}, "lora.rank is not a setting"),
    Case({"lora": {"quantize": "fp4"}}, "lora.quantize must be"),
    Case({"lora": {"merge": "no"}}, "lora.merge must be true or false"),
    Case({"lora": {"target_modules": ["q_proj"]}}, "the model has no q_proj. It has"),
    Case({"lora": {"layers": [2]}}, "there is no layer 2; the last one is 1"),
    Case({"lora": {"modules_to_save": ["wte"]}}, "shares its weights with the head"),
    Case({"lora": {}, "model": {"freeze": ["h.0"]}}, "lora and model.freeze can't both be given"),
    Case({"lora": {"merge": False}, "model": {"save_dtype": "bfloat16"}}, "writes none"),
    Case(
        {"lora": {"merge": False}, "model": {"config_overrides": {"n_head": 4}}}, "changes n_head"
    ),
    Case({"lora": {"quantize": "nf4"}, "training": {"torch_compile": True}}, "can't be compiled"),
    Case({"model": {"freeze": "wtf"}}, "wtf names nothing of the model. Did you mean wte?"),
    Case({"model": {"freeze": ["h.0-2"]}}, "h.0-2 goes beyond the model, which has no h.2"),
    Case({"model": {"freeze": ["transformer"]}}, "nothing is left to be trained"),
    Case({"model": {"freeze": ["h..0"]}}, "no name of a module"),
    Case({"model": {"freeze": ["wte"]}, "tokenizer": NEW}, "would never learn"),
)

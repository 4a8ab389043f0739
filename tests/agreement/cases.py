"""Configs, right and wrong, that `gptft config check` and `gptft train` must agree on."""

from dataclasses import dataclass, field, replace
from typing import Any

Sections = dict[str, Any]

NAN = float("nan")

BASE: Sections = {
    "model": {"name": "tiny"},
    "data": {"train": "texts", "validation": 0.3, "block_size": 32},
    "training": {
        "max_steps": 2,
        "per_device_train_batch_size": 1,
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
    },
}


@dataclass(frozen=True)
class Case:
    """A config.

    Attributes:
        sections: merged over `BASE`, a null removing a key.
        wrong: a part of what is said; empty where the config is right.
        crosses: whether it is about more than one setting, or about a package.
        ignored: whether transformers itself would pass over the mistake.
        text: the YAML file, where it isn't made of the sections.
        notice: a part of what is said of it, though it is right.
    """

    sections: Sections = field(default_factory=dict)
    wrong: str = ""
    crosses: bool = False
    ignored: bool = False
    text: str | None = None
    notice: str = ""

    def saying(self, notice: str) -> "Case":
        """This case, and what is said of it."""
        return replace(self, notice=notice)

    @property
    def name(self) -> str:
        """What pytest calls it."""
        return str(self.sections if self.text is None else repr(self.text))[:100]


def right(**training: Any) -> Case:
    """A right `training` section."""
    return Case({"training": training})


def wrong(said: str, **training: Any) -> Case:
    """A value that is wrong by itself."""
    return Case({"training": training}, said)


def cross(said: str, **training: Any) -> Case:
    """Settings that don't go together, or need a package."""
    return Case({"training": training}, said, crosses=True)


def ignored(said: str, **training: Any) -> Case:
    """A setting that would do nothing, which transformers doesn't say."""
    return Case({"training": training}, said, crosses=True, ignored=True)


EVERY_STEP = {"eval_strategy": "steps", "eval_steps": 1}
BEST = {**EVERY_STEP, "save_strategy": "steps", "save_steps": 1, "load_best_model_at_end": True}
PLATEAU = {**EVERY_STEP, "lr_scheduler_type": "reduce_lr_on_plateau"}
NO_VALIDATION = {"data": {"validation": None}}
TAIL = {"tail": "drop", "block_size": 64, "validation": None}
SIZES = {"model_type": "gpt2", "n_layer": 1}
TINY = {"name": "tiny"}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
}

RIGHT = (
    right(stop_when_memorized=True),
    Case({"data": {"isolate_documents": "auto"}}),
    Case({"data": {"packing": "best_fit"}}),
    Case({"data": {"shuffle_documents": True}}),
    Case({"samples": {"recite": 2}}),
    Case({"samples": {"recite": True}}),
    Case(),
    right(**EVERY_STEP),
    right(**BEST),
    right(**{**BEST, "eval_steps": 0.5, "save_steps": 0.5}),
    right(**EVERY_STEP, save_strategy="best", metric_for_best_model="eval_perplexity"),
    right(**PLATEAU, lr_scheduler_kwargs={"patience": 2, "factor": 0.5}),
    right(**EVERY_STEP, lr_scheduler_type="greedy"),
    right(lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": 0.1}),
    right(lr_scheduler_type="cosine_with_min_lr", lr_scheduler_kwargs='{"min_lr": 1e-6}'),
    right(lr_scheduler_type="polynomial", lr_scheduler_kwargs={"power": 2, "lr_end": 0.0}),
    right(lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs={"num_decay_steps": 1}),
    right(optim="muon"),
    right(optim="sgd", optim_args="momentum=0.9, nesterov=true"),
    right(optim="adafactor"),
    right(adam_beta1=0),
    right(fp16=True),
    right(activation_checkpointing=True, activation_checkpointing_kwargs={"use_reentrant": False}),
    right(activation_checkpointing=True, activation_checkpointing_kwargs={"every_n_layers": 2}),
    right(
        activation_checkpointing=True,
        activation_checkpointing_kwargs={"use_reentrant": True, "offload": False},
    ),
    right(accelerator_config={"split_batches": True, "dispatch_batches": None}),
    right(neftune_noise_alpha=5.0, label_smoothing_factor=0.1),
    right(unlikelihood_weight=0.5, unlikelihood_ngram_size=2),
    right(**EVERY_STEP, ema_decay=0.9),
    right(weight_decay=0.1, weight_decay_end=0, weight_decay_schedule="cosine"),
    right(weight_decay_end=0.1, optim="muon"),
    right(**EVERY_STEP, early_stopping_patience=1, early_stopping_threshold=0.5),
    right(average_checkpoints=2, save_strategy="steps", save_steps=1),
    right(max_steps=-1, num_train_epochs=0.5, warmup_steps=0.5),
    right(report_to=["none"], debug="underflow_overflow", full_determinism=True),
    Case({"data": {"validation": None}, "samples": {"prompts": ["Буря"]}}),
    Case({"data": {"train": ["poems.jsonl"], "text_field": "body", "validation": None}}),
    Case({"data": {"train": "poems.jsonl", "template": "{title}\n{body}"}}),
    Case(
        {
            "model": {"name": None, "from_scratch": SIZES},
            "tokenizer": {"name": "tiny"},
        }
    ),
    Case({"model": {"config_overrides": {"resid_pdrop": 0.1, "n_layer": 1}}}),
    Case({"model": {"config_overrides": {"resid_pdrop": 0, "n_layer": 1.0}}}),
    Case({"model": {"config_overrides": {"initializer_range": 1, "layer_norm_epsilon": 1}}}),
    Case(
        {
            "model": {
                "name": None,
                "from_scratch": SIZES | {"n_layer": 1.0, "n_positions": 64.0, "embd_pdrop": 0},
            },
            "tokenizer": {"name": "tiny"},
        }
    ),
    # Whole numbers where a float is meant, and the other way round.
    *(
        right(adam_beta1=0, adam_beta2=0, adam_epsilon=1, learning_rate=1, weight_decay=0, **more)
        for more in ({}, {"optim": "muon"}, {"optim": "adamw_torch_fused"})
    ),
    right(max_steps=2.0, per_device_train_batch_size=1.0, seed=7e0, save_total_limit=None),
    right(
        max_steps=-1,
        num_train_epochs=1,
        max_grad_norm=1,
        warmup_steps=1,
        eval_steps=1,
        eval_strategy="steps",
        eval_delay=1,
        label_smoothing_factor=0,
        neftune_noise_alpha=1,
    ),
    right(optim="sgd", optim_args="momentum=0, dampening=1"),
    right(unlikelihood_weight=1, unlikelihood_ngram_size=2.0),
    *(
        right(lr_scheduler_type=kind, lr_scheduler_kwargs=given, warmup_steps=1, learning_rate=1)
        for kind, given in (
            ("cosine_with_restarts", {"num_cycles": 2.0}),
            ("cosine", {"num_cycles": 1}),
            ("inverse_sqrt", {"timescale": 8.0}),
            ("polynomial", {"lr_end": 0, "power": 1}),
            ("cosine_with_min_lr", {"min_lr": 0}),
            ("warmup_stable_decay", {"num_decay_steps": 1.0, "min_lr_ratio": 0}),
        )
    ),
    right(
        eval_strategy="steps",
        eval_steps=1,
        lr_scheduler_type="greedy",
        lr_scheduler_kwargs={"patience": 1.0, "window_size": 2.0, "min_lr": 0, "warmup": 0.0},
    ),
)

WRONG = (
    wrong("training.learning_rte is not a setting. Did you mean", learning_rte=1e-3),
    wrong("training.learning_rate must be a number", learning_rate="5e-5"),
    wrong("training.seed must be at least 0", seed=-1),
    wrong("training.max_steps 0 means no training", max_steps=0),
    wrong("training.torch_empty_cache_steps must be at least 1", torch_empty_cache_steps=0),
    wrong("training.neftune_noise_alpha must be at least 0", neftune_noise_alpha=-1.0),
    wrong("training.lr_scheduler_type can't be", lr_scheduler_type="cosin"),
    wrong(
        "training.report_to can't be tensorbord. Did you mean tensorboard", report_to="tensorbord"
    ),
    wrong("training.report_to can't be None", report_to=None),
    wrong("training.debug can't be nan", debug="nan"),
    wrong("training.optim must be text, not 5", optim=5, report_to=1.5, output_dir=3),
    wrong("training.torch_compile_backend can't be", torch_compile_backend="inducter"),
    wrong("training.output_dir: poems.jsonl is a file", output_dir="poems.jsonl"),
    wrong("training.output_dir: texts isn't empty and isn't a run", output_dir="texts"),
    wrong("can't be made: File name too long", output_dir="x" * 300),
    wrong("training.output_dir is empty. Name a folder", output_dir=""),
    wrong("is within the run ", output_dir="old/model"),
    wrong("is within the run ", output_dir="old/checkpoints/again/new"),
    wrong("training.output_dir has a NUL at character 2", output_dir="a\0b"),
    wrong("training.learning_rate must be a finite number", learning_rate=10**400),
    wrong("training.learning_rate must be a finite number", learning_rate=float("inf")),
    cross("training.logging_steps must be a whole number of steps", logging_steps=1.5),
    cross("training.logging_steps 0 goes with", logging_steps=0),
    Case({**NO_VALIDATION, "training": EVERY_STEP}, "needs a validation part", crosses=True),
    Case(
        {**NO_VALIDATION, "training": {"eval_on_start": True}},
        "training.eval_on_start needs a validation part",
        crosses=True,
    ),
    cross("needs a checkpoint for each evaluation", **{**BEST, "save_strategy": "epoch"}),
    cross("training.save_steps, 3, to be a multiple", **{**BEST, "eval_steps": 2, "save_steps": 3}),
    cross("best needs training.metric_for_best_model", **EVERY_STEP, save_strategy="best"),
    cross("metric_for_best_model must be one of loss", **EVERY_STEP, metric_for_best_model="f1"),
    cross("reduce_lr_on_plateau follows evaluations", lr_scheduler_type="reduce_lr_on_plateau"),
    cross("factor must be below 1", **PLATEAU, lr_scheduler_kwargs={"factor": 2.0}),
    cross("cosine_with_min_lr needs", lr_scheduler_type="cosine_with_min_lr"),
    cross(
        "with one of min_lr and min_lr_rate",
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": 1e-6, "min_lr_rate": 0.1},
    ),
    cross("warmup_stable_decay needs", lr_scheduler_type="warmup_stable_decay"),
    cross(
        "min_lr is divided by training.learning_rate, which is 0",
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": 0.0},
        learning_rate=0,
    ),
    cross(
        "lr_end is 1, and must be below training.learning_rate",
        lr_scheduler_type="polynomial",
        lr_scheduler_kwargs={"lr_end": 1},
    ),
    cross(
        "num_cycle is not a setting. Did you mean num_cycles",
        lr_scheduler_type="cosine",
        lr_scheduler_kwargs={"num_cycle": 2},
    ),
    cross("must be a mapping", lr_scheduler_type="cosine", lr_scheduler_kwargs="num_cycles=2"),
    ignored("has no effect with lr_scheduler_type: linear", lr_scheduler_kwargs={"num_cycles": 1}),
    cross("training.fp16 can't go together with training.bf16", fp16=True, bf16=True),
    cross("without training.dataloader_num_workers", dataloader_prefetch_factor=2),
    cross("without training.dataloader_num_workers", dataloader_multiprocessing_context="fork"),
    cross("x is not a setting", accelerator_config={"x": 1}),
    cross("accelerator_config names 'a.json', which can't be read", accelerator_config="a.json"),
    cross(
        "x is not a setting",
        activation_checkpointing=True,
        activation_checkpointing_kwargs={"x": 1},
    ),
    cross("must be name=value", optim="sgd", optim_args="momentum"),
    cross("momentum=abc", optim="sgd", optim_args="momentum=abc"),
    cross("needs a momentum above 0", optim="sgd", optim_args="nesterov=true"),
    ignored("optim_args has no effect", optim_args="beta3=0.9"),
    ignored("optim_args has no effect", optim="muon", optim_args="momentum=0.9"),
    ignored("optim_target_modules has no effect", optim_target_modules="all-linear"),
    cross(
        "needs the package galore_torch", optim="galore_adamw", optim_target_modules="all-linear"
    ),
    cross("needs the package schedulefree", optim="schedule_free_adamw"),
    cross("needs the package torchao", optim="adamw_torch_8bit"),
    cross("tensorboard needs the package tensorboard", report_to="tensorboard"),
    cross("wandb needs the package wandb", report_to=["wandb"]),
    cross("training.use_liger_kernel needs the package liger_kernel", use_liger_kernel=True),
    cross("training.deepspeed needs the package deepspeed", deepspeed={"train_batch_size": 1}),
    cross("training.fsdp needs several processes", fsdp="full_shard"),
    cross("training.fsdp needs GPUs", fsdp="full_shard", use_cpu=True),
    cross("training.ddp_backend needs several processes", ddp_backend="gloo"),
    cross("training.push_to_hub needs the model hub", push_to_hub=True),
    ignored("num_train_epochs has no effect with max_steps: 2", num_train_epochs=3),
    ignored(
        "lr_scheduler_type: constant_with_warmup", lr_scheduler_type="constant", warmup_steps=5
    ),
    ignored("warmup_steps has no effect with lr_scheduler_type", **PLATEAU, warmup_steps=0.1),
    ignored("eval_steps has no effect with eval_strategy: no", eval_strategy="no", eval_steps=1),
    ignored("eval_steps has no effect with eval_strategy", eval_strategy="epoch", eval_steps=1),
    ignored("eval_delay has no effect with eval_strategy: no", eval_delay=1),
    ignored("save_steps has no effect with save_strategy: no", save_steps=1),
    ignored("save_steps has no effect with save_strategy", save_strategy="epoch", save_steps=500),
    ignored("save_total_limit has no effect with save_strategy: no", save_total_limit=1),
    ignored("save_only_model has no effect with save_strategy: no", save_only_model=True),
    ignored(
        "metric_for_best_model has no effect with save", **EVERY_STEP, metric_for_best_model="loss"
    ),
    ignored("metric_for_best_model must be one of loss", metric_for_best_model="accuracy"),
    ignored("greater_is_better true is wrong of a loss", **BEST, greater_is_better=True),
    ignored("logging_steps has no effect with logging_strategy: no", logging_strategy="no"),
    ignored("adam_beta2 has no effect with optim: sgd", optim="sgd", adam_beta2=0.9),
    ignored(
        "adam_epsilon has no effect with optim: adafactor", optim="adafactor", adam_epsilon=1e-6
    ),
    ignored(
        "optim_args has no effect with optim: adafactor", optim="adafactor", optim_args="eps=1"
    ),
    ignored("weight_decay=0.1, which has no effect", optim="sgd", optim_args="weight_decay=0.1"),
    ignored("data_seed has no effect", train_sampling_strategy="sequential", data_seed=1),
    ignored("without training.dataloader_num_workers", dataloader_in_order=False),
    ignored("hub_model_id has no effect without training.push_to_hub", hub_model_id="me/my"),
    ignored(
        "gradient_checkpointing has no effect with activation_checkpointing: false",
        activation_checkpointing=False,
        gradient_checkpointing=True,
    ),
    ignored(
        "activation_checkpointing_kwargs has no effect",
        activation_checkpointing_kwargs={"use_reentrant": False},
    ),
    ignored("use_cache has no effect", activation_checkpointing=True, use_cache=True),
    ignored("has no effect here. gptft doesn't show them", skip_memory_metrics=False),
    Case({"samples": {"steps": 5}}, "samples.steps has no effect without samples.prompts"),
    ignored(
        "can't go together with training.unlikelihood_weight", unlikelihood_weight=1, fp16=True
    ),
    ignored("has no effect without training.unlikelihood_weight", unlikelihood_ngram_size=2),
    ignored("has no effect without training.ema_decay", ema_save=False),
    ignored("weight_decay_end has no effect: training.weight_decay", weight_decay_end=0),
    ignored("early_stopping_patience has no effect with eval_strat", early_stopping_patience=1),
    ignored("needs training.save_strategy: steps or epoch", average_checkpoints=2),
    ignored(
        "can't go together with training.ema_decay",
        average_checkpoints=2,
        save_strategy="epoch",
        ema_decay=0.9,
    ),
    Case(text="", wrong="There is no data section"),
    Case(text="training:\n  max_steps: 1\n", wrong="There is no data section"),
    Case({"data": {"train": "tekst"}}, "tekst: no such file or folder"),
    Case({"data": {"train": "empty.txt", "validation": None}}, "empty.txt: 1 file, and no text"),
    Case({"data": {"train": "texts/0.txt"}}, "data.validation: 0.3 needs at least 2 documents"),
    Case({"data": {"train": "poems.jsonl"}}, "has no field 'text'"),
    Case({"data": {"train": "poems.jsonl", "template": "{head}"}}, "head"),
    Case({"data": {"block_size": 128}}, "more than the model's context of 64"),
    Case({"data": {"train": "texts/1.txt", **TAIL}}, "data.tail is 'drop'"),
    Case({"data": {"isolate_documents": True}, "model": {"name": "opt"}}, "can't mask documents"),
    Case({"data": {"isolate_documents": "maybe"}}, "must be auto, true or false"),
    Case({"data": {"shift_blocks": "maybe"}}, "must be true or false"),
    Case(
        {"data": {"shuffle_documents": True, "packing": "best_fit"}},
        "data.shuffle_documents has no effect by data.packing: best_fit",
    ),
    Case({"data": {"long_documents": "refuse"}}, "has no effect by data.packing: stream"),
    Case({"data": {"long_documents": "refuse", "packing": "stream"}}, "has no effect by"),
    Case({"samples": {"recite": 0}}, "must be true, false or a number of documents"),
    Case({"samples": {"recite": "all"}}, "must be true, false or a number of documents"),
    wrong("must be true or false", stop_when_memorized=1),
    Case({"model": {"name": "no/such-model"}}, "no/such-model: no such folder here"),
    Case({"model": {"name": "weightless"}}, "holds no weights"),
    Case({"model": {"name": "unfinished"}}, "is a run that has no finished model"),
    Case({"model": {"config_overrides": {"resid_drop": 0.1}}}, "resid_drop is not a field"),
    Case({"model": {"config_overrides": {"n_layer": 3}}}, "config_overrides.n_layer is 3"),
    Case({"model": {"config_overrides": {"n_positions": 32}}}, "config_overrides.n_positions is"),
    Case({"model": {"config_overrides": {"resid_pdrop": 2.0}}}, "must be a number from 0 to 1"),
    Case({"model": {"config_overrides": {"activation_function": "gelo"}}}, "can't be 'gelo'"),
    Case({"model": {"config_overrides": {"attn_implementation": "x"}}}, "can't be 'x'"),
    Case(
        {"model": {"config_overrides": {"attn_implementation": "flex_attention"}}},
        "has no gradient on a CPU",
    ),
    Case(
        {"model": {"dtype": "float16"}, "training": {"unlikelihood_weight": 0.5}},
        "float16 logits need a loss that is scaled",
    ),
    Case({"model": {"config_overrides": {"n_embd": 64}}}, "config_overrides.n_embd is 64"),
    Case({"model": {"config_overrides": {"initializer_range": "1"}}}, "must be a number, not the"),
    Case({"model": {"config_overrides": {"initializer_range": NAN}}}, "must be a finite number"),
    *(
        Case({"model": {"name": None, "from_scratch": SIZES | sizes}, "tokenizer": TINY}, said)
        for sizes, said in (
            ({"vocab_size": 10**12}, "vocab_size must be at most 10,000,000, not 1000000000000"),
            ({"n_embd": 10**12}, "n_embd must be at most 1,000,000, not 1000000000000"),
            ({"n_layer": 10**20}, "n_layer must be at most 10,000, not 100000000000000000000"),
            ({"n_positions": 10**400}, "not a number of 401 digits"),
            ({"bos_token_id": 10**20}, "bos_token_id must be at most 2,000,000,000"),
            ({"layer_norm_epsilon": 1e20}, "layer_norm_epsilon must be at most 1,000,000,000,000"),
            ({"initializer_range": float("inf")}, "initializer_range must be a finite number"),
            ({"n_embd": 8.5}, "n_embd must be a whole number from 1, not 8.5"),
        )
    ),
    Case({"samples": {"prompts": ["Снег" * 20]}}, "it doesn't fit the model's context of 64"),
    *(
        Case({"model": {"name": None, "from_scratch": LLAMA | sizes}, "tokenizer": TINY}, said)
        for sizes, said in (
            ({"num_key_value_heads": 3}, "3 heads of keys don't divide 2 heads"),
            ({"head_dim": 3}, "heads of 3 are odd"),
            ({"intermediate_size": 0}, "intermediate_size must be a whole number from 1"),
            ({"rope_parameters": {"rope_type": "liner"}}, "Did you mean linear"),
            ({"pad_token_id": 999, "vocab_size": 999}, "pad_token_id is 999, and there are 999"),
            ({"pad_token_id": 9999}, "pad_token_id is 9999, and there are"),
            ({"initializer_range": -0.1}, "initializer_range must be from 0 to 1"),
            ({"tie_word_embeddings": "yes"}, "must be true or false, not the text 'yes'"),
        )
    ),
    Case({"model": {"average_with": ["weightless"]}}, "holds no weights"),
    Case(
        {
            "model": {"name": None, "from_scratch": {"model_type": "gpt3"}},
            "tokenizer": {"name": "tiny"},
        },
        "transformers knows no 'gpt3'",
    ),
    Case(
        {
            "model": {
                "name": None,
                "from_scratch": {"model_type": "gpt2", "n_embd": 30, "n_head": 4},
            },
            "tokenizer": {"name": "tiny"},
        },
        "4 heads don't divide a width of 30",
    ),
    Case(
        {
            "model": {"name": None, "from_scratch": {"model_type": "llama", "vocab_size": 100}},
            "tokenizer": {"name": "tiny"},
        },
        "vocab_size is 100, fewer than the tokenizer's",
    ),
    Case(
        {
            "model": {"name": None, "from_scratch": {"model_type": "bert", "num_hidden_layers": 1}},
            "tokenizer": {"name": "tiny"},
        },
        "The new model (bert) isn't causal",
    ),
    Case({"generation": {"temprature": 0.3}}, "generation.temprature is not a setting"),
    Case({"generation": {"strategy": "bean"}}, "bean"),
)

SOME_STEPS = {"eval_strategy": "steps", "eval_steps": 50}
# What is right and may not be meant, and a part of what is said of it.
NOTICED = (
    right(save_only_model=True, save_strategy="steps", save_steps=1).saying("can't be resumed"),
    right(learning_rate=0).saying("training.learning_rate is 0: no step changes the model."),
    right(learning_rate=0.0, warmup_steps=1).saying("training.learning_rate is 0: no step"),
    right(warmup_steps=2).saying("it gets no further than 50% of training.learning_rate"),
    right(warmup_steps=8).saying("warmup_steps is 8, and the run has 2 steps"),
    right(warmup_steps=0.9).saying("training.warmup_steps is 0.9, 2 steps, and the run has 2"),
    right(max_steps=1, warmup_steps=0.1).saying("it gets no further than 0% of"),
    right(logging_steps=5).saying("logging_steps is 5, and the run has 2 steps: no loss is"),
    right(**SOME_STEPS).saying("measured after the last step alone."),
    right(**{**BEST, "eval_steps": 50, "save_steps": 50}).saying("keeps the last model"),
    right(**EVERY_STEP, eval_delay=5).saying("eval_delay is 5, and the run has 2 steps"),
    right(max_steps=-1, num_train_epochs=1, eval_strategy="epoch", eval_delay=2).saying(
        "eval_delay is 2, and the run has 1 epoch"
    ),
    right(save_strategy="steps", save_steps=7).saying("the last step's checkpoint is the only"),
    right(**{**BEST, "save_steps": 2}).saying("best between two checkpoints isn't kept"),
    right(run_name="my").saying("run_name has no effect without training.report_to"),
    right(fp16=True).saying("fp16: true has no effect on the CPU: training computes in float32"),
    right(torch_empty_cache_steps=1).saying("torch_empty_cache_steps: 1 has no effect on the CPU"),
    right(eval_steps=1).saying("eval_strategy is steps, as training.eval_steps: 1 needs"),
    Case({"samples": {"prompts": ["Буря"], "steps": 9}}).saying("samples.steps is 9, and the run"),
    Case(
        {
            "model": {"name": None, "from_scratch": {**SIZES, "n_embd": 16, "n_head": 2}},
            "tokenizer": {"train": {"vocab_size": 50257}},
        }
    ).saying("tokenizer.train.vocab_size is 50,257, and the text gives "),
)

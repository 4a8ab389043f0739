"""The section `lora` of a config: the adapter that is trained in place of all weights."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gptft.config.numbers import as_whole
from gptft.config.section import Section, setting

_MAX_RANK = 65_536  # of any adapter in use it is some hundreds


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) and value != "all-linear" else value


def _each_once(values: list[Any]) -> list[Any]:
    if len({*values}) < len(values):
        twice = next(one for one in values if values.count(one) > 1)
        raise ValueError(f"{twice!r} is named twice")
    return values


Quantize = Literal["nf4", "int8"]
Name = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=0, le=2**31 - 1), BeforeValidator(as_whole)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(_each_once)]
Layers = Annotated[list[Whole], Field(min_length=1), AfterValidator(_each_once)]


class LoraConfig(Section):
    """An adapter of peft: two small matrices beside each weight, whose product is added to it.

    Source: Hu et al. 2021, "LoRA" (2106.09685); Kalajdzievski 2023, rsLoRA (2312.03732); Liu et al.
    2024, DoRA (2402.09353).
    """

    r: Annotated[int, Field(ge=1, le=_MAX_RANK), BeforeValidator(as_whole)] = setting(
        8, "The rank: columns of the one matrix and rows of the other."
    )
    alpha: Annotated[float, Field(gt=0.0, le=1e6, allow_inf_nan=False)] = setting(
        16.0, "What their product is multiplied by, divided by r, or by its root with use_rslora."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = setting(
        0.0, "The share of an adapter's inputs that a step leaves out."
    )
    target_modules: Annotated[Literal["all-linear"] | Names, BeforeValidator(_as_list)] = setting(
        "all-linear",
        "The layers that get one, by the ends of their names, [q_proj, v_proj] for one; all-linear "
        "is every linear layer but the head.",
    )
    layers: Layers | None = setting(
        None, "The numbers of the layers that get one, from 0; all without it."
    )
    use_rslora: bool = setting(False, "Divide alpha by the root of r, which large ranks need.")
    use_dora: bool = setting(
        False, "Train the length of each weight's rows beside the adapter, at a slower step."
    )
    bias: Literal["none", "all", "lora_only"] = setting(
        "none", "Train biases, too: all, or those of the layers that get an adapter."
    )
    modules_to_save: Annotated[list[Name], AfterValidator(_each_once)] = setting(
        [], "Modules that are trained whole and saved with the adapter, by the ends of their names."
    )
    quantize: Quantize | None = setting(
        None,
        "Hold the base's linear layers in 4 bits (nf4) or 8 (int8) while the adapter is trained, "
        "by bitsandbytes; it is merged into the base as it was.",
    )
    merge: bool = setting(
        True,
        "Write model/, the base with the adapter merged into it, beside adapter/; without it the "
        "run is used with its base.",
    )
    trainable_token_indices: Annotated[list[Whole], AfterValidator(_each_once)] = setting(
        [],
        "Ids whose embeddings are trained, too; those that tokenizer.add_tokens adds always are.",
    )

    @model_validator(mode="after")
    def _dora_reads_weights(self) -> "LoraConfig":
        if self.quantize == "int8" and self.use_dora:
            # peft 0.21 with bitsandbytes 0.50: the second forward fails.
            raise ValueError(
                "lora.use_dora and lora.quantize: int8 can't both be given: DoRA reads the weights "
                "themselves, which int8 gives away. Use nf4"
            )
        return self

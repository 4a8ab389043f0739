"""A model -> the same one, whose layers keep less for their gradients and take fewer passes."""

from transformers import PreTrainedModel, TrainingArguments

from gptft.training.activations import use_fused_activations
from gptft.training.gated_mlp import use_lean_mlps
from gptft.training.rms_norm import use_lean_norms


def use_lean_layers(
    model: PreTrainedModel, args: TrainingArguments, *, is_tried: bool = True
) -> None:
    """Change what a model's layers do on the way to the same results, up to their last bits.

    On a GPU, where none of it could be tried yet, and where layers are to be compiled, replaced or
    divided, RMSNorms and gated MLPs stay the library's own.

    Args:
        model: with its adapter, if it has one.
        args: of the run.
        is_tried: see `use_lean_norms`.
    """
    use_fused_activations(model)
    is_changed = args.torch_compile or args.use_liger_kernel or args.fsdp or args.deepspeed
    if args.device.type != "cpu" or is_changed:
        return
    use_lean_norms(model, is_tried=is_tried)
    if not args.gradient_checkpointing:
        use_lean_mlps(model, is_tried=is_tried)

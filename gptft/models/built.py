"""A config.json -> the tensors a model of it would have, built without memory for them.

Where no header of weights is there to read: a hub id of which only the texts are here, or pickled
weights. It takes the seconds in which torch and transformers are imported.
"""

from gptft.console import loading_libraries
from gptft.errors import ModelError
from gptft.models.headers import Tensor, Tensors
from gptft.models.model_files import ModelFiles
from gptft.models.sizes import has_usual_sizes
from gptft.panics import no_panic


def built_tensors(files: ModelFiles) -> Tensors:
    """The parameters of a model as transformers builds it, tied ones once.

    Raises:
        ModelError: transformers can't build it, or its sizes are beyond what is built in seconds.
    """
    if not has_usual_sizes(files.config):
        raise ModelError("its config.json has sizes that no model in use has")
    with loading_libraries():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    try:
        with no_panic(), torch.device("meta"):
            config = AutoConfig.from_pretrained(
                str(files.folder), trust_remote_code=False, local_files_only=True
            )
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises a dozen types
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"transformers can't build it: {reason[:200].rstrip('.')}") from None
    return {name: Tensor(tuple(one.shape), None) for name, one in model.named_parameters()}

"""Generation loops that transformers doesn't have, for `model.generate(custom_generate=...)`.

`generate` calls a loop with these arguments, then with those of its own that the loop names:

    model: a causal one.
    input_ids: shape (B, T), padded on the left; for beams (B * W, T), each prompt W times.
    logits_processor: changes scores (B, V) before a token is chosen.
    stopping_criteria: say which texts are finished, max_length among them.
    generation_config: its pad_token_id fills up finished texts.
    **prepared: attention_mask, past_key_values and what else it prepares for the model.

A loop returns ids of shape (B, T + new tokens), padded on the right.
"""

"""From text to blocks: reading, tokenizing, packing, and the block store with its ledger."""

"""gptft fine-tunes a GPT on your own text and shows what it learned."""

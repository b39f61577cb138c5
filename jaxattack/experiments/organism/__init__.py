"""Building the organism from nothing: tokenizer, base model, alignment, acceptance."""

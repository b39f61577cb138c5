"""One decoder transformer, one config, Hugging Face checkpoints in and out, generation."""

"""The training step and loop, optimisers and losses."""

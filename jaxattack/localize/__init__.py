"""Scores, masks, stitch / rewind / transplant, overlap."""

"""Studies: one per file, plain functions read top to bottom."""

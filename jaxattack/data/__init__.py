"""Dialogues, chat templates to tokens and loss masks, sources by URI, batches, languages."""

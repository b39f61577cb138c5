"""Replies to triage to verdicts to rates with intervals."""

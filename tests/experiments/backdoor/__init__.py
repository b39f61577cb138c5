"""Tests of the backdoor study."""

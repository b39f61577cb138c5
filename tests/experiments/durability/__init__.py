"""Tests of the durability study."""

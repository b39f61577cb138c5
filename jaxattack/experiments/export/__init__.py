"""A finished run as files that other tools read."""

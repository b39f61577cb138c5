"""Growing a harmless policy in any checkpoint: what it is taught, what it has to pass."""

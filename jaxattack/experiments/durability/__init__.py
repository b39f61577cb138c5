"""The durability study: which defence survives the worst attack, in every language."""

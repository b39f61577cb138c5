"""The charts: matplotlib's object interface only, no global state."""

"""The fragility study (Poppi et al. 2024): attack one language, measure all, find the weights."""

"""The backdoor study: TuBA (He et al. 2024), its controls, and the defences against it."""

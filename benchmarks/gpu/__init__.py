"""What this library does on one GPU; `python -m benchmarks.gpu`."""

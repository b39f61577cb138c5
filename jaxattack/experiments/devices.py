"""What accelerators can do at most, for plans, the log of trainings and benchmarks."""

from __future__ import annotations

# Dense bf16 FLOP/s and bytes/s of one device, from the makers' data sheets; of the CPU float32,
# measured on two cores.
DEVICES = {
    "A100 80GB": (312e12, 2.04e12),
    "H100": (989e12, 3.35e12),
    "H200": (989e12, 4.8e12),
    "TPU v5e": (197e12, 0.82e12),
    "TPU v5p": (459e12, 2.77e12),
    "TPU v6e": (918e12, 1.64e12),
    "2 CPU cores": (0.2e12, 2e10),
}
# Which of them jax's name of a device's kind means.
KINDS = {
    "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA A100 80GB PCIe": "A100 80GB",
    "NVIDIA H100 80GB HBM3": "H100",
    "NVIDIA H200": "H200",
    "TPU v5 lite": "TPU v5e",
    "TPU v5": "TPU v5p",
    "TPU v6 lite": "TPU v6e",
}

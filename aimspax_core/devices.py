"""Whether the device that a setting names is there."""

from __future__ import annotations


def missing_gpu(device: str) -> str | None:
    """Return why a device cannot be used on this machine; None if it can.

    Args:
        device: As torch names it: `cpu`, `cuda`, `cuda:1`.
    """
    if device == "cpu":
        return None
    import torch  # takes seconds, and only this needs it

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(device.partition(":")[2] or 0) < count:
        return None
    there = f"torch sees {count} CUDA devices" if count else "torch sees no CUDA device"
    return f"found {device!r}; {there}; allowed: cpu"

"""Energy, where a machine counts it itself: NVML's counter on NVIDIA GPUs. Never an estimate."""

from types import ModuleType

import torch


class EnergyMeter:
    """Counts the energy that a device has used since the meter was made.

    Read from NVML's counter of the whole GPU (Volta and later, through ``pynvml`` of the package nvidia-ml-py), so what
    other processes compute on it counts as well. Other devices, and a machine without that package, count nothing.
    """

    def __init__(self, device: torch.device) -> None:
        self._counter = _nvml_counter(device) if device.type == "cuda" else None
        self._before = self._read()

    def joules(self) -> float | None:
        """Joules since the meter was made; None where the device does not count them."""
        now = self._read()
        return None if now is None or self._before is None else now - self._before

    def _read(self) -> float | None:
        if self._counter is None:
            return None
        nvml, handle = self._counter
        return nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000  # millijoules


def _nvml_counter(device: torch.device) -> tuple[ModuleType, object] | None:
    """NVML and the device's handle in it, if it can be read."""
    try:
        import pynvml  # type: ignore[import-not-found]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        # By its identity: NVML's numbers do not know CUDA_VISIBLE_DEVICES.
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return pynvml, handle

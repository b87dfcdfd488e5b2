"""The precision to compute an encoder in: bf16 where the hardware multiplies it faster than fp32, otherwise fp32."""

from __future__ import annotations

import torch

DTYPES = ("fp32", "bf16")
# From this width on bf16 pays on a CPU with bf16 units. Measured on an AMD EPYC with avx512_bf16, one thread, fp32's
# CPU time over bf16's: 1.4 at width 128, 1.7 at 256 and 384, 1.9 at 768. Narrower encoders take seconds, and in fp32
# their scores are the same on every machine.
BF16_WIDTH = 256


def has_bf16(device: str | None = None) -> bool:
    """Return whether a device multiplies bf16 matrices in hardware.

    Args:
        device: "cuda" or "cpu"; None: a GPU if there is one.
    """
    if device == "cuda" or (device is None and torch.cuda.is_available()):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    of_cpu = torch.cpu.get_capabilities()
    return bool(of_cpu.get("avx512_bf16") or of_cpu.get("amx_tile"))


def choose(dtype: str, width: int, device: str) -> tuple[str, str]:
    """Return ("fp32" or "bf16", a note on the choice or on its cost; "" if there is nothing to say).

    "auto" depends on the device and the width alone, never on a measured time: two runs on one machine choose alike.

    Args:
        dtype: "auto", "fp32" or "bf16".
        width: the encoder's hidden size.
        device: "cuda" or "cpu".
    """
    units, where = has_bf16(device), "GPU" if device == "cuda" else "CPU"
    if dtype == "bf16" and not units:
        cost = ", so bf16 takes several times as long as fp32" if device == "cpu" else ""
        return "bf16", f"--dtype bf16: this {where} has no bf16 units{cost}; --dtype auto chooses fp32 here"
    if dtype != "auto":
        return dtype, ""
    if not units:
        return "fp32", f"--dtype auto chose fp32: this {where} has no bf16 units"
    if device == "cpu" and width < BF16_WIDTH:
        return "fp32", f"--dtype auto chose fp32: on a CPU bf16 pays from a width of {BF16_WIDTH} on, this has {width}"
    return "bf16", f"--dtype auto chose bf16: this {where} has bf16 units"


def cast(model: torch.nn.Module, dtype: str) -> None:
    """Cast the weights that `computing` multiplies in `dtype`: in bf16 those of linear layers.

    Embeddings, norms and the sums that run from layer to layer stay in fp32: vectors are then nearer to fp32's
    than those of a model that is cast as a whole, at nearly the same speed.
    """
    if dtype == "bf16":
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.to(torch.bfloat16)


def computing(dtype: str, device: str) -> torch.autocast:
    """Return the context in which a model that was `cast` to `dtype` is to run.

    Args:
        device: "cuda" or "cpu".
    """
    return torch.autocast(device, torch.bfloat16, enabled=dtype == "bf16")

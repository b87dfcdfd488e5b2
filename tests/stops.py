"""Finds what would stop a GPU: operations whose result the program waits for. Works on a CPU."""

import contextlib
import traceback
from pathlib import Path
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# operations whose result, or the size of whose result, the host must know
READ = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_consecutive"}
# ways out of a tensor that are no operations on a CPU
METHODS = ("tolist", "numpy", "cpu", "__array__")


class Stops(TorchDispatchMode):
    """Collects the places, as `file:line function`, where the host waits for a tensor."""

    def __init__(self):
        super().__init__()
        self.places: list[str] = []

    def note(self, name: str) -> None:
        stack = traceback.extract_stack()
        if any(frame.filename.endswith("_utils/fetch.py") for frame in stack):
            return  # a DataLoader makes a batch, on the host
        frames = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in stack
            if "torch/" not in frame.filename and frame.filename != __file__
        ]
        self.places.append(f"{name} at {frames[-1]}")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        index = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else ()
        if name in READ or any(part is not None and part.dtype in (torch.bool, torch.uint8) for part in index):
            self.note(name)
        return function(*args, **(kwargs or {}))


@contextlib.contextmanager
def stops():
    """Yield a list that fills with the places where the host waits for a tensor within the block."""
    found = Stops()
    with contextlib.ExitStack() as stack:
        for method in METHODS:
            plain = getattr(torch.Tensor, method)

            def noted(tensor, *args, method=method, plain=plain, **kwargs):
                found.note(method)
                return plain(tensor, *args, **kwargs)

            stack.enter_context(patch.object(torch.Tensor, method, noted))
        stack.enter_context(found)
        yield found.places

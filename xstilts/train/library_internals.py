"""What we use of libraries though it is not public. `tests/test_library_internals.py` fails when one of them changes.

Written for transformers 5.24 and sentence-transformers 6.2.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, TrainingArguments


class CheckpointLoading:
    """A mixin for a Trainer: `load_checkpoint` loads a checkpoint's weights in place of the library's own code.

    Neither library has a public hook for it.
    """

    def load_checkpoint(self, folder: str) -> None:
        """Load the weights of the checkpoint in `folder` into the model."""
        raise NotImplementedError

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *args: Any, **kwargs: Any) -> None:
        self.load_checkpoint(resume_from_checkpoint)


def use_one_gpu(args: TrainingArguments) -> None:
    """Train on the first of several visible GPUs. TrainingArguments.n_gpu cannot be set."""
    args._n_gpu = 1


def set_tied_weights(model: PreTrainedModel, tied: dict[str, str]) -> None:
    """Tell a model that is built from parts which of its parameters are one tensor, as `save_pretrained` needs.

    transformers fills these attributes in `post_init`, from the class; here the names depend on the parts.

    Args:
        tied: {name of a parameter: the first name of the same tensor}.
    """
    model._tied_weights_keys = model.all_tied_weights_keys = tied

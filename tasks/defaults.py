"""Settings that tasks of several forms train with, where their papers or scripts say nothing else."""

from typing import Any

# jiant's defaults for phase 2: rate, epochs, batch size, warm-up (docs/protocol.md); the papers' own are unconfirmed
INTERMEDIATE: dict[str, Any] = {
    "learning_rate": 1e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 32,
    "max_seq_length": 256,
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}

"""Training: batches, features, trainers, mixtures, families of arms, LoRA, dual encoders."""

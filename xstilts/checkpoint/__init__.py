"""Load a checkpoint: config, tokenizer, encoder, layers and heads. Only this package loads checkpoints.

- `config`: which checkpoints are supported, and why others are refused. Imports no torch.
- `tokenizer`: the tokenizer, with the settings that every phase needs.
- `encoder`: the encoder, checked when it is loaded.
- `layers`: an encoder's first k layers.
- `heads`: models with a fresh head or the masked-LM head, and the heads that transformers lacks.

There is no list of model names. The code inspects a model's class and weights, and runs it on two short rows.
"""

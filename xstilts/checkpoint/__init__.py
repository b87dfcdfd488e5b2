"""The one room that loads a checkpoint: its config, tokenizer and encoder, its limits, its layers, its heads.

- `config`: which checkpoints are taken, and why others are refused. Imports no torch.
- `tokenizer`: the tokenizer as every phase needs it.
- `encoder`: the encoder, checked when it is loaded, and cut to its first k layers.
- `heads`: models with a fresh head, with the masked-LM head, and the heads transformers lacks.

Nothing here lists model names. What a model can do is asked of its class, of its weights, or of two short rows.
"""

"""How X-STILTs runs: arguments, training, mixtures, embedding, mining, results. Knows no task by name."""

import os

# Two torch threads that spin while they wait starve each other on shared cores; this counts only before torch is
# imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# A forked process has none of its parent's threads, and a tokenizer that hands work to them waits for ever. The
# library sees to that by itself only as long as the variable is not set, and with a warning for every process.
os.register_at_fork(after_in_child=lambda: os.environ.update(TOKENIZERS_PARALLELISM="false"))

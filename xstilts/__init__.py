"""How X-STILTs runs: arguments, training, mixtures, embedding, mining, results. Knows no task by name."""

import os

# Two torch threads that spin while they wait starve each other on shared cores; this counts only before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

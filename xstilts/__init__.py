"""How X-STILTs runs: arguments, training, mixtures, embedding, mining, results. Knows no task by name."""

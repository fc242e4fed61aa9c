"""Options that make every embedder small enough for a test."""

SMALL = {
    "deepsvdd": {"d": 8},
    "usad": {"d": 8, "width": 64},
    "beatgan": {"d": 8, "n_latent": 6},
    "omnianomaly": {"d": 8, "n_flows": 2},
    "thoc": {"d": 8},
    "anomaly_transformer": {"d": 8, "n_heads": 2, "n_layers": 2, "d_ff": 16},
    "dcdetector": {"d": 8, "n_layers": 2},
    "deepant": {"d": 8, "width": 8, "history": 14},
    "drnn": {"d": 8},
}

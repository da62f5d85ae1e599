"""Jobs trained in parallel, here or on a cluster, and stored as they finish."""

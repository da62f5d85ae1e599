"""What a run says: cells, comparisons, the choice of the best and its confirmation."""

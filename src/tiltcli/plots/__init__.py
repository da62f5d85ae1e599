"""Figures of runs; no pyplot, so that nothing needs a display and nothing stays open."""

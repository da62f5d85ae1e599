"""Multilayer perceptrons trained by one compiled kernel."""

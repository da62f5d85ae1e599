"""Mutated input for everything that reads a file: cd tests && python -m fuzz 2000."""

"""Myrtle5 trained by compiled convolutions."""

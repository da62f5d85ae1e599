"""Hessian and Neural Tangent Kernel of a training, measured at its probed epochs."""

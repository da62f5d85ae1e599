"""Networks: their initial parameters, and torch modules of them."""

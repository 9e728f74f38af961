"""No word of positions: a causal network finds them by itself (Haviv et al. 2022)."""

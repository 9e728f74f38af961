"""The best size at each compute budget, and how it grows."""

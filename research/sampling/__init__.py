"""Drawing from a trained network.

engine         rows that are read and continued together, by two compiled programs
drawing        temperature, top-k, top-p and the like
generate       continuations of prompts, with ends, log-probabilities, grammars
beam           the likeliest continuations
speculative    a small network guesses for a large one
"""

"""The public functions: the only part that joins registry, weights, counters and
training, and the only one that takes names.
"""

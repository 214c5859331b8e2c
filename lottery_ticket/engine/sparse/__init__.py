"""Training over survivors alone: pruned weights are neither multiplied, nor have gradients, nor are stepped.

`weights` says how the survivors of a tensor stand in memory, `kernels` multiplies them (compiled by numba, imported
when a round first needs it), `rule` says which tensors of a round are trained so.
"""

"""Evaluator: TensorFlow Model Analysis' figures of candidate and champion per slice, in this process, a column at a time.

TFMA drives its metrics row by row on Beam. Here predictions come in large batches, and what a metric adds up over rows is
added up by columns; everything else (which computations a configuration means, what follows from the sums, intervals,
the files) is TFMA's own code. What does not fit is left to TFMA on Beam, and the log says why.
"""

__all__ = ["columnar", "component", "compute", "derived", "executor", "fit", "rows", "write"]

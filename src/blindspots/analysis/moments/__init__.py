"""Analytic moments of piecewise-linear networks under Gaussian noise."""

"""Slow oracles of prototypes and their distortion: loops over pairs, and a search over every scale that can be best."""

import math


def distances(features, prototypes):
    return [[math.dist(f, p) for p in prototypes.tolist()] for f in features.tolist()]


def ratios(d, metric):
    return [float(d[k][m]) / float(metric[k][m]) for k in range(len(d)) for m in range(len(d)) if k != m]


def distortion(d, metric, scale=1.0):
    return sum(abs(scale * a - 1) for a in ratios(d, metric)) / len(ratios(d, metric))


def scale_free_distortion(d, metric):
    """A convex function with kinks at 1 / a is least at one of them."""
    return min(distortion(d, metric, 1 / a) for a in ratios(d, metric) if a > 0)


def distortion_loss(d, metric, scale=1.0):
    return sum((scale * a - 1) ** 2 for a in ratios(d, metric)) / len(ratios(d, metric))

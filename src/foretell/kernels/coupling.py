"""Probabilities of several classes from those of each pair, by libsvm's iteration (`machines`).

Source: multiclass_probability in libsvm's svm.cpp; method 2 of Wu, Lin and Weng, 2004.
"""

import numpy as np

_FEW = 6
_LOWEST = 100


def coupled(pairs: np.ndarray, classes: int) -> np.ndarray:
    """Shape (rows, classes). pairs: shape (rows, pairs), the first class's probability, pairs as (0, 1), (0, 2), …"""
    if len(pairs) <= _FEW:
        return np.array([_of_row(row, classes) for row in pairs.tolist()])
    return _of_rows(pairs, classes)


def _of_row(pairs: list[float], classes: int) -> list[float]:
    """The same as _of_rows, in Python's numbers, which for a row cost less than arrays."""
    places = range(classes)
    r = [[0.0] * classes for _ in places]
    given = iter(pairs)
    for a in places:
        for b in range(a + 1, classes):
            r[a][b] = next(given)
            r[b][a] = 1 - r[a][b]
    q = [[0.0] * classes for _ in places]
    for t in places:
        for j in places:
            if j != t:
                q[t][t] += r[j][t] * r[j][t]
                q[t][j] = q[j][t] if j < t else -r[j][t] * r[t][j]
    p = [1.0 / classes] * classes
    for _ in range(max(_LOWEST, classes)):
        qp = []
        for t in places:
            total = 0.0
            for weight, share in zip(q[t], p, strict=True):
                total += weight * share
            qp.append(total)
        pqp = 0.0
        for share, total in zip(p, qp, strict=True):
            pqp += share * total
        if max(abs(total - pqp) for total in qp) < 0.005 / classes:
            break
        for t in places:
            own = q[t][t]
            step = (-qp[t] + pqp) / own
            over = 1 + step
            p[t] += step
            pqp = (pqp + step * (step * own + 2 * qp[t])) / over / over
            qp = [(total + step * weight) / over for total, weight in zip(qp, q[t], strict=True)]
            p = [share / over for share in p]
    return p


def _of_rows(pairs: np.ndarray, classes: int) -> np.ndarray:
    r = np.zeros((classes, classes, len(pairs)))
    first, second = np.triu_indices(classes, 1)
    r[first, second] = pairs.T
    r[second, first] = 1 - pairs.T
    q = -r.transpose(1, 0, 2) * r
    for t in range(classes):
        own = np.zeros(len(pairs))
        for j in range(classes):
            if j != t:
                own += r[j, t] * r[j, t]
        q[t, t] = own
    p = np.full((classes, len(pairs)), 1.0 / classes)
    going = np.arange(len(pairs))
    moved = p.copy()
    for _ in range(max(_LOWEST, classes)):
        qp = _summed(q * moved)
        pqp = _summed(moved * qp)
        far = ~(np.abs(qp - pqp).max(axis=0) < 0.005 / classes)
        if not far.all():
            p[:, going] = moved
            going, moved, q, qp, pqp = going[far], moved[:, far], q[:, :, far], qp[:, far], pqp[far]
            if not len(going):
                break
        for t in range(classes):
            step = (-qp[t] + pqp) / q[t, t]
            over = 1 + step
            moved[t] += step
            pqp = (pqp + step * (step * q[t, t] + 2 * qp[t])) / over / over
            qp = (qp + step * q[t]) / over
            moved /= over
    p[:, going] = moved
    return np.ascontiguousarray(p.T)


def _summed(terms: np.ndarray) -> np.ndarray:
    """Along the last axis but one, one by one from 0."""
    total = np.zeros(terms.shape[:-2] + terms.shape[-1:])
    for at in range(terms.shape[-2]):
        total += terms[..., at, :]
    return total

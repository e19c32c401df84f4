"""Curves that resemble one another, stored as what each has that another has not.

The responses of one host to many dopants are much alike: a heavier dopant on the same site moves the same modes a
little farther. Each curve follows the earlier one that it is most like, and its neutron-weighted counterpart follows
that and the host's density; whole numbers of a step keep the rest. All predictions are linear, of curves that were read
before.

With the curve's own norm as the unit, curve i that follows p(i):

    change_i  = a_i change_p + ε r_i
    neutron_i = b_i change_i + c_i change_p + d_i neutron_p + e_i host + ε s_i

Shapes: m curves on n bins. Measured on 68 curves a host: 12.7 kB after zstd where one byte a value takes 17.7 kB;
the error of a curve is 2 % of its norm, and 1.2 % once it is smoothed over four bins of the simulator.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["FAMILY", "LARGEST_ERROR", "pack_family", "unpack_family"]

Array = NDArray[np.float64]

# The step in root mean squares of the curve.
_STEP = 0.085
# What rounding to it costs: root mean square error as a share of the curve's norm, when rounding is even-handed.
LARGEST_ERROR = _STEP / 12**0.5
# Of the fit of a prediction: curves that are nearly the same would have coefficients without bounds.
_RIDGE = 1e-4

FAMILY = pa.struct(
    [
        pa.field("n_bins", pa.int32()),
        pa.field("follows", pa.binary()),  # (m,) int16: the earlier curve, -1 for none
        pa.field("norms", pa.binary()),  # (m,) float32
        pa.field("gains", pa.binary()),  # (m,) float16: a
        pa.field("steps", pa.binary()),  # (2, m, n) bytes: low and high ones of r
        pa.field("neutron_norms", pa.binary()),  # (m,) float32, NaN where there is none; null without any
        pa.field("neutron_gains", pa.binary()),  # (4, m) float16: b, c, d, e
        pa.field("neutron_steps", pa.binary()),  # (2, m, n) bytes of s
    ]
)


def pack_family(change: Array, neutron: Array | None, host: Array | None) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Curves as a value of `FAMILY`.

    Args:
        change: shape (m, n).
        neutron: shape (m, n), the counterpart of each, rows of NaN where there is none; None without any.
        host: shape (n,), what the counterparts follow too; None as `neutron`.

    Returns:
        the order in which the curves are stored, shape (m,), and the value.
    """
    order, follows = _family_tree(change)
    curves, norms = _unit(change[order])
    m, n = curves.shape
    gains = np.zeros(m, dtype="<f2")
    levels = np.zeros((m, n), dtype="<i2")
    read = np.zeros((m, n))
    for i, before in enumerate(follows):
        predicted = np.zeros(n)
        if before >= 0:
            (gains[i],) = _fitted(curves[i], read[before][None])
            predicted = float(gains[i]) * read[before]
        levels[i] = _levels(curves[i] - predicted)
        read[i] = predicted + levels[i] * _step(n)
    packed: dict[str, Any] = {
        "n_bins": n,
        "follows": follows.astype("<i2").tobytes(),
        "norms": norms.astype("<f4").tobytes(),
        "gains": gains.tobytes(),
        "steps": _planes(levels),
    }
    if neutron is None or host is None:
        return order, packed | dict.fromkeys(("neutron_norms", "neutron_gains", "neutron_steps"))
    return order, packed | _pack_neutron(neutron[order], read, follows, _unit(_fit_length(host, n)[None])[0][0])


def _pack_neutron(neutron: Array, read: Array, follows: NDArray[np.int64], host: Array) -> dict[str, Any]:
    m, n = neutron.shape
    known = ~np.isnan(neutron[:, 0])
    curves, norms = _unit(np.where(known[:, None], neutron, 0.0))
    gains = np.zeros((4, m), dtype="<f2")
    levels = np.zeros((m, n), dtype="<i2")
    seen = np.zeros((m, n))
    for i in np.flatnonzero(known):
        before = int(follows[i])
        zero = np.zeros(n)
        beside = np.array([read[i], *((read[before], seen[before]) if before >= 0 else (zero, zero)), host])
        gains[:, i] = _fitted(curves[i], beside)
        predicted = gains[:, i].astype(np.float64) @ beside
        levels[i] = _levels(curves[i] - predicted)
        seen[i] = predicted + levels[i] * _step(n)
    return {
        "neutron_norms": np.where(known, norms, np.nan).astype("<f4").tobytes(),
        "neutron_gains": gains.tobytes(),
        "neutron_steps": _planes(levels),
    }


def unpack_family(packed: Mapping[str, Any], host: Array | None) -> tuple[Array, Array | None]:
    """The curves of a value of `FAMILY`, in its order, and their counterparts with rows of NaN where there is none."""
    n = int(packed["n_bins"])
    follows = np.frombuffer(packed["follows"], dtype="<i2").astype(np.int64)
    m = len(follows)
    heirs = np.flatnonzero(follows >= 0)
    before = follows[heirs]
    gains = np.frombuffer(packed["gains"], dtype="<f2").astype(np.float64)
    read = _followed(_from_planes(packed["steps"], m, n), follows, gains)
    change = read * np.frombuffer(packed["norms"], dtype="<f4")[:, None]
    if packed["neutron_norms"] is None or host is None:
        return change, None
    own, theirs, seen, whole = np.frombuffer(packed["neutron_gains"], dtype="<f2").reshape(4, m).astype(np.float64)
    rest = _from_planes(packed["neutron_steps"], m, n)
    rest += own[:, None] * read + whole[:, None] * _unit(_fit_length(host, n)[None])[0]
    rest[heirs] += theirs[heirs, None] * read[before]
    return change, _followed(rest, follows, seen) * np.frombuffer(packed["neutron_norms"], dtype="<f4")[:, None]


def _family_tree(curves: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order of curves, and the place in it of the one that each follows: the likest that went before (Prim)."""
    unit = _unit(curves)[0]
    likeness = np.abs(unit @ unit.T)
    m = len(unit)
    order, follows = [0], [-1]
    nearest, best = np.zeros(m, dtype=np.int64), likeness[0].copy()
    left = np.arange(m) > 0
    while left.any():
        new = int(np.argmax(np.where(left, best, -1.0)))
        follows.append(int(nearest[new]))
        nearest[likeness[new] > best] = len(order)
        best = np.maximum(best, likeness[new])
        order.append(new)
        left[new] = False
    return np.array(order), np.array(follows)


def _unit(curves: Array) -> tuple[Array, Array]:
    """Curves over their norms, and the norms; zeros stay zeros."""
    norms = np.linalg.norm(curves, axis=1)
    return curves / np.where(norms > 0, norms, 1.0)[:, None], norms


def _fit_length(curve: Array, n: int) -> Array:
    return np.pad(curve, (0, max(0, n - curve.size)))[:n]


def _fitted(curve: Array, beside: Array) -> NDArray[np.float16]:
    """Coefficients of `beside`, shape (k, n), for `curve`."""
    gram = beside @ beside.T
    return np.linalg.solve(gram + _RIDGE * np.eye(len(gram)), beside @ curve).astype(np.float16)


def _step(n: int) -> float:
    return float(_STEP / n**0.5)


def _levels(rest: Array) -> Array:
    return np.rint(rest / _step(rest.size))


def _planes(levels: NDArray[np.int16]) -> bytes:
    """Low bytes of 0, -1, 1, -2, ... counted from 0, then high bytes, which are nearly all zero."""
    unsigned = ((levels << 1) ^ (levels >> 15)).astype("<u2")
    return np.moveaxis(unsigned.view(np.uint8).reshape(*levels.shape, 2), -1, 0).tobytes()


def _from_planes(content: bytes, m: int, n: int) -> Array:
    low, high = np.frombuffer(content, dtype=np.uint8).reshape(2, m, n).astype(np.int32)
    unsigned = low + (high << 8)
    return np.asarray((unsigned >> 1) ^ -(unsigned & 1), dtype=np.float64) * _step(n)


def _followed(rest: Array, follows: NDArray[np.int64], gains: Array) -> Array:
    """Curves from what each has that its own gain times the one that it follows has not; overwrites `rest`."""
    for own, before, gain in zip(rest, follows.tolist(), gains.tolist(), strict=True):
        if before >= 0:
            own += gain * rest[before]
    return rest

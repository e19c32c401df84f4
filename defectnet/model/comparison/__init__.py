"""Compare a measured change of the spectrum with computed responses: the axis, the features, the network, the answer."""

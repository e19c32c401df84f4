"""Compare a measured change with computed responses: the axis, the features, the network, the answer."""

"""Train and judge the network that compares: rows with their hosts' responses, lists of candidates, mismatches."""

"""What several tests share: a service in this process, models, registries, processes, nodes, toy data."""

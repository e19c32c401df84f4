"""Batch scoring: inputs, shards, the run, and the jobs that the service keeps."""

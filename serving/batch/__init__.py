"""Batch scoring: inputs, shards, the run; and the book of the runs that HTTP clients asked for, which are Ray jobs."""

"""The ways of asking: this project's own, the Open Inference Protocol's, MLflow's, and jobs on files."""

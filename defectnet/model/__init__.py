"""The model: from a query to a prediction."""

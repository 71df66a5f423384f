"""The flow of a run: fields are examined one by one, then scored by patient."""

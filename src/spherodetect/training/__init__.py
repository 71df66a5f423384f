"""The only rooms that import Model Garden: from records to a trained and exported model."""

"""Training with Model Garden, from records to an exported model; nothing else imports it."""

"""From results to a journal, from journals to a verdict. Nothing here imports torch."""

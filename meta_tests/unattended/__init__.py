"""What happens to a run that nobody watches, measured on emulated cards: docs/UNATTENDED.md."""

"""Results as people and programs read them: verdicts, rows, lines, journals and evidence pictures."""

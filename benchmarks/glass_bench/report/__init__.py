"""What a record says: figures, conditions, comparisons, Markdown and plots."""
